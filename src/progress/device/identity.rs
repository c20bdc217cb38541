//! Which volume a path given to dd means.
//!
//! All names a path is known by are gathered once, when its dd is found: the links under
//! `/dev/disk/by-path` are gone as soon as the device is detached, and the question may come later.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::hardware::Hardware;
use super::links::{follow, kernel_name, kernel_name_in, links, locate, major_minor, normalize};
use super::names::{ID, Template, id_in, is_partition, mentions, path_names, split_mapped};
use super::sysfs;
use crate::progress::proc::process::Pid;
use crate::progress::{Question, Roots};

/// All names of one path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(in crate::progress) struct Identity {
    /// Full paths, the one from the command line first.
    aliases: Vec<String>,
    inode: Option<u64>,
    /// Its size, if known.
    bytes: Option<u64>,
    device: bool,
    #[serde(rename = "traced")]
    resolved: bool,
    /// Whether it is a disk, or lies on one as multipath and encryption do, without a name of its own.
    #[serde(default, rename = "nameless")]
    unnamed: bool,
    /// Names in the kernel that are no paths: the target, the subsystem.
    #[serde(default)]
    labels: Vec<String>,
    /// Its world-wide numbers and logical units.
    #[serde(default)]
    hardware: Hardware,
    /// Every id in its names.
    #[serde(default)]
    ids: Vec<Uuid>,
}

/// How many devices below one are looked at: dm-crypt on multipath has one and its paths.
const LAYER_LIMIT: usize = 64;

/// sysfs counts a device's size in these, whatever its real sectors are.
const SECTOR: u64 = 512;

impl Identity {
    /// Gathers the names of `path`. What cannot be read adds no name: the command line's own remains.
    pub(in crate::progress) fn of(roots: &Roots, path: &str) -> Self {
        let real = follow(roots, &locate(roots, Path::new(path)));
        let metadata = fs::metadata(&real).ok();
        let mut identity = Self {
            aliases: vec![path.to_owned()],
            inode: metadata.as_ref().map(MetadataExt::ino),
            bytes: metadata
                .as_ref()
                .filter(|metadata| metadata.is_file())
                .map(fs::Metadata::len),
            device: path.starts_with("/dev/") && !path.starts_with("/dev/shm/")
                || metadata
                    .as_ref()
                    .is_some_and(|metadata| metadata.file_type().is_block_device()),
            resolved: true,
            ..Self::default()
        };
        identity.find_ids(path);
        identity.add(real.to_string_lossy().into_owned());
        if let Ok(below) = real.strip_prefix(&roots.dev) {
            identity.add(format!("/dev/{}", below.display()));
        }
        let number = metadata
            .filter(|metadata| metadata.file_type().is_block_device())
            .map(|metadata| metadata.rdev());
        match kernel_name(roots, &real) {
            Some(kernel_name) => identity.trace(roots, &kernel_name, number),
            // A link that leads nowhere, or a map that sysfs does not show here.
            None => identity.unnamed = is_named_by_number(path),
        }
        identity
    }

    /// Gathers the names of `path` as the process sees it, which may have another working directory and other mounts.
    pub(in crate::progress) fn seen_by(roots: &Roots, pid: Pid, path: &str) -> Self {
        let process = roots.proc.join(pid.to_string());
        if path.starts_with('/') {
            return Self::among_mounts(roots, &process, path);
        }
        let mut named = Self {
            resolved: true,
            ..Self::default()
        };
        named.add(path.to_owned());
        let Ok(folder) = fs::read_link(process.join("cwd")) else {
            return named;
        };
        let full = normalize(&folder.join(path));
        let mut identity = Self::among_mounts(roots, &process, &full.to_string_lossy());
        identity.aliases.insert(0, path.to_owned());
        identity
    }

    /// The same path may mean another file among other mounts; devices are the same everywhere.
    fn among_mounts(roots: &Roots, process: &Path, path: &str) -> Self {
        let mut identity = Self::of(roots, path);
        let elsewhere = !path.starts_with("/dev/") && has_mounts_of_its_own(roots, process);
        if identity.inode.is_some() && !elsewhere {
            return identity;
        }
        let there = process.join("root").join(path.trim_start_matches('/'));
        match fs::metadata(there) {
            Ok(metadata) => {
                identity.inode = Some(metadata.ino());
                identity.device |= metadata.file_type().is_block_device();
                identity.bytes = metadata.is_file().then_some(metadata.len());
            }
            Err(error) if elsewhere && error.kind() == io::ErrorKind::NotFound => {
                (identity.inode, identity.bytes) = (None, None);
            }
            // Without the right to look there, this process's own view remains.
            Err(_) => {}
        }
        identity
    }

    /// The names of an open file, by the path that the kernel shows. A regular file's file system is not asked: it may
    /// hang.
    pub(in crate::progress) fn of_open_file(roots: &Roots, path: &str) -> Self {
        if path.starts_with("/dev/") {
            return Self::of(roots, path);
        }
        let mut identity = Self::default();
        identity.add(path.to_owned());
        identity
    }

    /// Adds what sysfs and udev's links call the block device.
    fn trace(&mut self, roots: &Roots, kernel_name: &str, number: Option<u64>) {
        let known = self.aliases.len();
        let size = roots.sys.join("class/block").join(kernel_name).join("size");
        self.bytes = read_attribute(&size)
            .and_then(|sectors| sectors.parse::<u64>().ok())
            .and_then(|sectors| sectors.checked_mul(SECTOR));
        let mut block = roots.sys.join("block").join(kernel_name);
        if let (false, Some(number)) = (block.exists(), number) {
            block = roots.sys.join("dev/block").join(major_minor(number));
        }
        let mut unnamed = false;
        let mut devices = vec![kernel_name.to_owned()];
        let mut next = 0;
        while let Some(device) = devices.get(next) {
            if next > 0 {
                block = roots.sys.join("block").join(device);
            }
            next += 1;
            let disk = sysfs::disk(&roots.sys, &block, device);
            self.hardware.learn(disk.hardware);
            disk.labels.into_iter().for_each(|label| self.label(label));
            let Some(name) = read_attribute(&block.join("dm/name")) else {
                unnamed |= disk.paths.is_empty();
                disk.paths.into_iter().for_each(|path| self.add(path));
                continue;
            };
            if let Some((group, volume)) = split_mapped(&name) {
                self.add(format!("/dev/{group}/{volume}"));
            }
            self.add(format!("/dev/mapper/{name}"));
            // A multipath map is named after the storage's serial number, and what decrypts a volume
            // after nothing in particular; what they lie on carries the names.
            let uuid = read_attribute(&block.join("dm/uuid")).unwrap_or_default();
            if uuid.starts_with("mpath-") {
                self.hardware.add_numbers(&uuid);
            }
            if uuid.starts_with("mpath-") || uuid.starts_with("CRYPT-") {
                for below in names_in(&block.join("slaves")) {
                    if devices.len() < LAYER_LIMIT && !devices.contains(&below) {
                        devices.push(below);
                    }
                }
            }
        }
        for link in links(roots) {
            let target = follow(roots, &link);
            let leads_here =
                kernel_name_in(roots, &target).is_some_and(|name| devices.contains(&name));
            if leads_here && let Ok(below) = link.strip_prefix(&roots.dev) {
                self.add_link(&below.to_string_lossy());
            }
        }
        let given_by_link = self.aliases[0] != format!("/dev/{kernel_name}");
        self.resolved = given_by_link || self.aliases.len() > known;
        self.unnamed = unnamed;
    }

    pub(in crate::progress) fn add(&mut self, alias: String) {
        if !self.aliases.contains(&alias) {
            self.find_ids(&alias);
            self.aliases.push(alias);
        }
    }

    /// Adds a link below `/dev`. Of a partition's nothing but its path is of interest.
    fn add_link(&mut self, link: &str) {
        if !is_partition(link) {
            self.hardware.add_link(link);
            if link.starts_with("disk/by-id/") {
                self.hardware.add_numbers(link);
            }
        }
        self.add(format!("/dev/{link}"));
    }

    fn label(&mut self, label: String) {
        if !self.labels.contains(&label) {
            self.find_ids(&label);
            self.labels.push(label);
        }
    }

    /// Notes the ids in a name, so that no question reads all names anew.
    fn find_ids(&mut self, name: &str) {
        for mention in mentions(name) {
            if !self.ids.contains(&mention.id) {
                self.ids.push(mention.id);
            }
        }
    }

    /// Adds what another look at the same path found. Names are only added: a link that is gone by now was true while
    /// it was there.
    pub(in crate::progress) fn learn(&mut self, later: Self) {
        later.aliases.into_iter().for_each(|alias| self.add(alias));
        later.labels.into_iter().for_each(|label| self.label(label));
        self.hardware.learn(later.hardware);
        self.inode = later.inode.or(self.inode);
        self.bytes = later.bytes.or(self.bytes);
        self.device |= later.device;
        self.resolved |= later.resolved;
        self.unnamed |= later.unnamed;
    }

    /// The path as the command line has it.
    pub(in crate::progress) fn path(&self) -> &str {
        self.aliases.first().map_or("", String::as_str)
    }

    /// Every name, the command line's first.
    pub(in crate::progress) fn aliases(&self) -> impl Iterator<Item = &str> {
        self.aliases.iter().map(String::as_str)
    }

    /// The count of names and numbers.
    pub(in crate::progress) fn len(&self) -> usize {
        let numbers = self.hardware.numbers().len() + self.hardware.units().len();
        self.aliases.len() + self.labels.len() + numbers
    }

    /// Whether one of the names is `path`.
    pub(in crate::progress) fn is(&self, path: &str) -> bool {
        self.aliases.iter().any(|alias| alias == path)
    }

    /// Whether the two are the same file or device.
    pub(in crate::progress) fn same_as(&self, other: &Self) -> bool {
        self.aliases.iter().any(|alias| other.is(alias))
    }

    /// Whether one of the names is that of the volume called `name`.
    pub(in crate::progress) fn names_volume(&self, name: &str) -> bool {
        !name.is_empty() && self.aliases.iter().any(|alias| path_names(alias, name))
    }

    /// Whether one of the names is that of the volume asked about: by the volume's name, or by its id in whatever
    /// form a vendor writes it, unless another name says that this is another volume.
    pub(in crate::progress) fn is_of(&self, question: &Question) -> bool {
        if question.names.iter().any(|name| self.names_volume(name)) {
            return true;
        }
        let ids = question
            .ids
            .iter()
            .filter_map(|id| Uuid::try_parse(id).ok());
        let mut ids = ids.filter(|id| self.ids.contains(id)).peekable();
        if ids.peek().is_none() {
            return false;
        }
        let Some(template) = Template::parse(&question.template()) else {
            return false;
        };
        ids.any(|id| self.bears(&id, &template))
            && self
                .volume_id(&question.template())
                .is_none_or(|other| question.ids.contains(&other))
    }

    fn bears(&self, id: &Uuid, template: &Template) -> bool {
        let mentioned = |text: &str| mentions(text).any(|mention| mention.id == *id);
        self.labels.iter().any(|label| mentioned(label))
            || self.aliases.iter().any(|alias| {
                if alias.starts_with("/dev/disk/") {
                    return mentioned(alias) && !is_partition(alias);
                }
                let mapped = alias.strip_prefix("/dev/mapper/");
                if let Some((_, volume)) = mapped.and_then(split_mapped) {
                    return template.is_name_of(&volume, id);
                }
                alias.split('/').any(|part| template.is_name_of(part, id))
            })
    }

    /// The id of the volume that one of the names certainly belongs to, by the template of volume names.
    pub(in crate::progress) fn volume_id(&self, template: &str) -> Option<String> {
        let template = Template::parse(template)?;
        let links = |name: &&String| name.starts_with("/dev/disk/");
        self.aliases
            .iter()
            .filter(|alias| template.speaks() || !links(alias))
            .find_map(|alias| id_in(alias, &template.before, &template.after))
            .or_else(|| {
                let links = self.aliases.iter().filter(links);
                let mut links = links.filter(|link| !is_partition(link));
                let by_link = links.find_map(|link| template.id_in_link(link));
                let label = |label: &String| template.id_in_link(label);
                let id = by_link.or_else(|| self.labels.iter().find_map(label));
                id.map(|id| id.to_string())
            })
    }

    /// Every id in its names.
    pub(in crate::progress) fn ids(&self) -> impl Iterator<Item = &Uuid> {
        self.ids.iter()
    }

    /// Whether it is a disk without a name of its own, or lies on one.
    pub(in crate::progress) fn is_unnamed(&self) -> bool {
        self.unnamed
    }

    /// Whether one of the names holds one of these ids.
    pub(in crate::progress) fn bears_one_of(&self, ids: &[Uuid]) -> bool {
        !self.ids.is_empty() && ids.iter().any(|id| self.ids.contains(id))
    }

    /// The numbers and units that a volume's record may hold.
    pub(in crate::progress) fn hardware(&self) -> &Hardware {
        &self.hardware
    }

    /// Whether it is a device, or a file with an id in its name, as volumes have by every usual template.
    pub(in crate::progress) fn looks_like_a_volume(&self) -> bool {
        self.device
            || self.aliases.iter().any(|alias| {
                let name = alias.rsplit('/').next().unwrap_or_default();
                name.as_bytes().windows(ID).any(|word| {
                    // `try_parse` also takes what is spelt otherwise in that length.
                    word[8] == b'-' && uuid::Uuid::try_parse_ascii(word).is_ok()
                })
            })
    }

    /// Whether it may be a volume that no name leads to: storage behind Fibre Channel, or with one iSCSI
    /// target for all volumes, shows disks by number.
    pub(in crate::progress) fn may_be_unnamed_volume(&self, template: &str) -> bool {
        self.unnamed && self.volume_id(template).is_none()
    }

    /// How many bytes it holds.
    pub(in crate::progress) fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// The inode number of what the path leads to.
    pub(in crate::progress) fn inode(&self) -> Option<u64> {
        self.inode
    }

    /// Whether it is a device, rather than a file.
    pub(in crate::progress) fn is_device(&self) -> bool {
        self.device
    }

    /// False for a kernel name that led to no other name. Another look may find one: udev may be behind.
    pub(in crate::progress) fn is_resolved(&self) -> bool {
        self.resolved
    }
}

/// Whether a process is known to see other mounts than we do.
fn has_mounts_of_its_own(roots: &Roots, process: &Path) -> bool {
    let mounts = |process: &Path| fs::read_link(process.join("ns/mnt")).ok();
    let ours = mounts(&roots.proc.join("self"));
    ours.is_some() && mounts(process).is_some_and(|theirs| Some(theirs) != ours)
}

/// The one line of a sysfs attribute; `None` when there is none.
pub(in crate::progress) fn read_attribute(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim_end();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Whether a path below `/dev` that leads nowhere may be that of an unnamed disk: a link below `/dev/disk`, or a map
/// that is not one of LVM's.
fn is_named_by_number(path: &str) -> bool {
    let map = path.strip_prefix("/dev/mapper/");
    path.starts_with("/dev/disk/") || map.is_some_and(|map| split_mapped(map).is_none())
}

fn names_in(folder: &Path) -> Vec<String> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}
