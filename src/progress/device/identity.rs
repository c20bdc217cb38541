//! Which volume a path given to dd means.
//!
//! All names a path is known by are gathered once, when its dd is found: the links under
//! `/dev/disk/by-path` are gone as soon as the device is detached, and the question may come later.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::hardware::Hardware;
use super::names::{Template, mentions};
use super::sysfs;
use crate::progress::proc::process::Pid;
use crate::progress::{Question, Roots};

/// Everything one path is called.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::progress) struct Identity {
    /// Full paths, the one from the command line first.
    aliases: Vec<String>,
    inode: Option<u64>,
    /// How large it is, where that can be told.
    bytes: Option<u64>,
    device: bool,
    traced: bool,
    /// Whether it is a disk, or lies on one as multipath and encryption do, without a name of its own.
    #[serde(default)]
    nameless: bool,
    /// What the kernel calls it that is no path: the target, the subsystem.
    #[serde(default)]
    labels: Vec<String>,
    /// Its numbers.
    #[serde(default)]
    hardware: Hardware,
    /// Every id in its names.
    #[serde(default)]
    ids: Vec<Uuid>,
}

/// How long an id is.
const ID: usize = uuid::fmt::Hyphenated::LENGTH;

/// Folders of links to disks whose names come from the storage and its software. Those by label, or by the
/// id of a file system, come from what the disk holds, which whoever has the volume writes as he likes.
const LINKS: [&str; 6] = [
    "disk/by-path",
    "disk/by-id",
    "drbd/by-res",
    "rbd",
    "storpool",
    "storpool-byid",
];

/// Links below `disk/by-id` that come from what the disk holds, or say what sysfs has said already.
const BY_CONTENT: [&str; 4] = ["lvm-pv-", "md-", "dm-name-", "dm-uuid-"];

/// How deep folders of links are, as `drbd/by-res/<resource>/<volume>`.
const LINKS_DEEP: usize = 3;

/// How many links are looked at in one folder.
const LINKS_LIMIT: usize = 16384;

/// How many devices below one are looked at: dm-crypt on multipath has one and its paths.
const LAYER_LIMIT: usize = 64;

/// sysfs counts a device's size in these, whatever its real sectors are.
const SECTOR: u64 = 512;

/// How many links are followed before a chain of them counts as a loop, as in the kernel.
const LINK_LIMIT: usize = 40;

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
            traced: true,
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
            // A link that leads nowhere, or a map of which the kernel says nothing here.
            None => identity.nameless = is_named_by_number(path),
        }
        identity
    }

    /// Gathers the names of `path` as the process has it, which may be somewhere else than we are, and
    /// among mounts of its own.
    pub(in crate::progress) fn seen_by(roots: &Roots, pid: Pid, path: &str) -> Self {
        let process = roots.proc.join(pid.to_string());
        if path.starts_with('/') {
            return Self::among_mounts(roots, &process, path);
        }
        let mut named = Self {
            traced: true,
            ..Self::default()
        };
        named.add(path.to_owned());
        let Ok(folder) = fs::read_link(process.join("cwd")) else {
            return named;
        };
        let full = plain(&folder.join(path));
        let mut identity = Self::among_mounts(roots, &process, &full.to_string_lossy());
        identity.aliases.insert(0, path.to_owned());
        identity
    }

    /// A file of the same path may be another one among other mounts; devices are the same everywhere.
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
            // Who may not look there has at least what is here.
            Err(_) => {}
        }
        identity
    }

    /// What the kernel calls an open file. A file's own file system is not asked about it: it may hang.
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
        self.bytes = line(&size)
            .and_then(|sectors| sectors.parse::<u64>().ok())
            .and_then(|sectors| sectors.checked_mul(SECTOR));
        let mut block = roots.sys.join("block").join(kernel_name);
        if let (false, Some(number)) = (block.exists(), number) {
            block = roots.sys.join("dev/block").join(major_minor(number));
        }
        let mut nameless = false;
        let mut bearers = vec![kernel_name.to_owned()];
        let mut next = 0;
        while let Some(bearer) = bearers.get(next) {
            if next > 0 {
                block = roots.sys.join("block").join(bearer);
            }
            next += 1;
            let disk = sysfs::disk(&roots.sys, &block, bearer);
            self.hardware.learn(disk.hardware);
            disk.labels.into_iter().for_each(|label| self.label(label));
            let Some(name) = line(&block.join("dm/name")) else {
                nameless |= disk.paths.is_empty();
                disk.paths.into_iter().for_each(|path| self.add(path));
                continue;
            };
            if let Some((group, volume)) = split_mapped(&name) {
                self.add(format!("/dev/{group}/{volume}"));
            }
            self.add(format!("/dev/mapper/{name}"));
            // A multipath map is named after the storage's serial number, and what decrypts a volume
            // after nothing in particular; what they lie on carries the names.
            let uuid = line(&block.join("dm/uuid")).unwrap_or_default();
            if uuid.starts_with("mpath-") {
                self.hardware.add_numbers(&uuid);
            }
            if uuid.starts_with("mpath-") || uuid.starts_with("CRYPT-") {
                for below in names_in(&block.join("slaves")) {
                    if bearers.len() < LAYER_LIMIT && !bearers.contains(&below) {
                        bearers.push(below);
                    }
                }
            }
        }
        for link in links(roots) {
            let target = follow(roots, &link);
            let leads_here =
                kernel_name_in(roots, &target).is_some_and(|name| bearers.contains(&name));
            if leads_here && let Ok(below) = link.strip_prefix(&roots.dev) {
                self.add_link(&below.to_string_lossy());
            }
        }
        let given_by_link = self.aliases[0] != format!("/dev/{kernel_name}");
        self.traced = given_by_link || self.aliases.len() > known;
        self.nameless = nameless;
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

    /// So that a question is answered without reading all names anew.
    fn find_ids(&mut self, name: &str) {
        for mention in mentions(name) {
            if !self.ids.contains(&mention.id) {
                self.ids.push(mention.id);
            }
        }
    }

    /// Takes in what another look at the same path told. Names are only added: a link that is gone by
    /// now told the truth when it was there.
    pub(in crate::progress) fn learn(&mut self, later: Self) {
        later.aliases.into_iter().for_each(|alias| self.add(alias));
        later.labels.into_iter().for_each(|label| self.label(label));
        self.hardware.learn(later.hardware);
        self.inode = later.inode.or(self.inode);
        self.bytes = later.bytes.or(self.bytes);
        self.device |= later.device;
        self.traced |= later.traced;
        self.nameless |= later.nameless;
    }

    /// The path as the command line has it.
    pub(in crate::progress) fn path(&self) -> &str {
        self.aliases.first().map_or("", String::as_str)
    }

    /// How many names there are.
    pub(in crate::progress) fn len(&self) -> usize {
        self.aliases.len() + self.labels.len()
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

    /// Whether one of the names is the volume's that is asked about: by its name, or by its id in whatever
    /// a vendor has made of it, unless another name says that it is another volume.
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

    /// The id of the volume that one of the names surely is of, by the template that volumes are named with.
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

    /// Whether it is a disk without a name of its own.
    pub(in crate::progress) fn is_unnamed(&self) -> bool {
        self.nameless
    }

    /// Whether one of these ids stands in one of the names.
    pub(in crate::progress) fn bears_one_of(&self, ids: &[String]) -> bool {
        !self.ids.is_empty()
            && ids
                .iter()
                .any(|id| Uuid::try_parse(id).is_ok_and(|id| self.ids.contains(&id)))
    }

    /// The numbers by which records know it.
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
    pub(in crate::progress) fn may_be_any(&self, template: &str) -> bool {
        self.nameless && self.volume_id(template).is_none()
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

    /// False for a kernel name nothing else is known of, which is worth another try: udev may be behind.
    pub(in crate::progress) fn is_traced(&self) -> bool {
        self.traced
    }
}

/// Whether a process sees other mounts than we do, where that can be told.
fn has_mounts_of_its_own(roots: &Roots, process: &Path) -> bool {
    let mounts = |process: &Path| fs::read_link(process.join("ns/mnt")).ok();
    let ours = mounts(&roots.proc.join("self"));
    ours.is_some() && mounts(process).is_some_and(|theirs| Some(theirs) != ours)
}

/// Where a path of the node is to be found under the given roots.
fn locate(roots: &Roots, path: &Path) -> PathBuf {
    match path.strip_prefix("/dev") {
        Ok(below) => roots.dev.join(below),
        Err(_) => path.to_owned(),
    }
}

/// Follows links at the end of a path, below the given roots. (Folders that are links do not occur under /dev.)
fn follow(roots: &Roots, path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINK_LIMIT {
        let Ok(target) = fs::read_link(&path) else {
            break;
        };
        path = if target.is_absolute() {
            locate(roots, &target)
        } else {
            let folder = path.parent().unwrap_or(Path::new("/"));
            plain(&folder.join(target))
        };
    }
    path
}

/// Takes out `.` and `..` by the letter, which is right where no folder is a link.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

/// The kernel's name of the block device at `real`, by its place directly under /dev or by its number.
fn kernel_name(roots: &Roots, real: &Path) -> Option<String> {
    kernel_name_in(roots, real).or_else(|| {
        // Without udev the nodes under /dev/mapper are no links.
        let metadata = fs::metadata(real).ok()?;
        if !metadata.file_type().is_block_device() {
            return None;
        }
        let block = roots
            .sys
            .join("dev/block")
            .join(major_minor(metadata.rdev()));
        let target = fs::read_link(block).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    })
}

/// The name of a node directly under /dev.
fn kernel_name_in(roots: &Roots, real: &Path) -> Option<String> {
    if real.parent()? != roots.dev {
        return None;
    }
    Some(real.file_name()?.to_str()?.to_owned())
}

/// A device number as sysfs spells it; the split is glibc's `gnu_dev_major` and `gnu_dev_minor`.
pub(in crate::progress) fn major_minor(number: u64) -> String {
    let major = ((number >> 8) & 0xfff) | ((number >> 32) & !0xfff);
    let minor = (number & 0xff) | ((number >> 12) & !0xff);
    format!("{major}:{minor}")
}

/// The one line of a sysfs attribute; `None` when there is none.
pub(in crate::progress) fn line(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim_end();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Every link by which the storage and its software name disks.
fn links(roots: &Roots) -> Vec<PathBuf> {
    let mut links = Vec::new();
    for folder in LINKS {
        collect_links(&roots.dev.join(folder), LINKS_DEEP, &mut links);
    }
    links
}

fn collect_links(folder: &Path, depth: usize, links: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let by_content = |name: &str| BY_CONTENT.iter().any(|kind| name.starts_with(kind));
        if links.len() >= LINKS_LIMIT || entry.file_name().to_str().is_none_or(by_content) {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_symlink() => links.push(entry.path()),
            Ok(kind) if kind.is_dir() && depth > 1 => {
                collect_links(&entry.path(), depth - 1, links);
            }
            _ => {}
        }
    }
}

/// Whether a path below `/dev` that leads nowhere may be a disk's: a link by number, or a map that is not
/// one of LVM's.
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

/// Splits a device-mapper name of LVM's into volume group and volume: dashes inside either are doubled.
fn split_mapped(name: &str) -> Option<(String, String)> {
    let mut parts = vec![String::new()];
    let mut letters = name.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == '-' && letters.next_if_eq(&'-').is_none() {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(letter);
        }
    }
    match <[String; 2]>::try_from(parts) {
        Ok([group, volume]) if !group.is_empty() && !volume.is_empty() => Some((group, volume)),
        _ => None,
    }
}

/// Whether `path` is a path of the volume called `name`.
fn path_names(path: &str, name: &str) -> bool {
    if let Some(mapped) = path.strip_prefix("/dev/mapper/") {
        return mapped == name || split_mapped(mapped).is_some_and(|(_, volume)| volume == name);
    }
    if let Some(link) = path.strip_prefix("/dev/disk/") {
        return contains_word(link, name) && !is_partition(link);
    }
    Path::new(path)
        .components()
        .any(|component| component.as_os_str() == name)
}

/// The id in a path of a volume whose name is the id between `before` and `after`. Only what is written
/// as ids are counts, or every path would be a volume's where the template is nothing but the id.
fn id_in(path: &str, before: &str, after: &str) -> Option<String> {
    let ids = |text: &str| -> Option<String> {
        text.match_indices(before).find_map(|(start, _)| {
            let id = text.get(start + before.len()..)?.get(..ID)?;
            let name = format!("{before}{id}{after}");
            (uuid::Uuid::try_parse(id).is_ok() && path_names(path, &name)).then(|| id.to_owned())
        })
    };
    match path.strip_prefix("/dev/mapper/").and_then(split_mapped) {
        Some((_, volume)) => ids(&volume),
        None => ids(path),
    }
}

/// Whether `name` stands in `text` with nothing before or after that would make it another name.
fn contains_word(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let after = text[start + name.len()..].chars().next();
        let inside = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
        !inside(before) && !inside(after)
    })
}

fn is_partition(link: &str) -> bool {
    link.rsplit_once("-part").is_some_and(|(_, number)| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::tests::fake_host::Fake;
    use proptest::prelude::*;

    const ID: &str = "b5012f4a-d256-45a1-8370-86a6dd7e6dde";
    const NAME: &str = "volume-b5012f4a-d256-45a1-8370-86a6dd7e6dde";
    const MAPPED: &str = "vg_one-volume--b5012f4a--d256--45a1--8370--86a6dd7e6dde";
    const BY_PATH: &str = "ip-10.0.2.15:3260-iscsi-iqn.2010-10.org.openstack:volume-b5012f4a-d256-45a1-8370-86a6dd7e6dde-lun-1";

    fn names(fake: &Fake, path: &str) -> bool {
        Identity::of(&fake.roots(), path).names_volume(NAME)
    }

    #[test]
    fn plain_paths_name_a_volume() {
        let fake = Fake::new();
        assert!(names(&fake, &format!("/dev/vg-one/{NAME}")));
        assert!(names(&fake, &format!("/var/lib/cinder/mnt/1234/{NAME}")));
        assert!(names(&fake, &format!("/dev/drbd/by-res/{NAME}/0")));
        assert!(!names(&fake, &format!("/dev/vg/{NAME}-old")));
        assert!(!names(
            &fake,
            &format!("/dev/vg/volume-{}", ID.replace('b', "c"))
        ));
        assert!(!names(&fake, "/dev/vg/"));
    }

    #[test]
    fn mapper_paths_name_a_volume_with_doubled_dashes() {
        let fake = Fake::new();
        assert!(names(&fake, &format!("/dev/mapper/{MAPPED}")));
        let dashed = MAPPED.replace("vg_one", "vg--one--x");
        assert!(names(&fake, &format!("/dev/mapper/{dashed}")));
        assert!(names(&fake, &format!("/dev/mapper/{NAME}")));
        assert!(!names(&fake, &format!("/dev/mapper/{MAPPED}-cow")));
        assert!(!names(&fake, &format!("/dev/mapper/x{MAPPED}--2")));
    }

    #[test]
    fn by_path_links_name_a_volume() {
        let fake = Fake::new();
        assert!(names(&fake, &format!("/dev/disk/by-path/{BY_PATH}")));
        assert!(!names(&fake, &format!("/dev/disk/by-path/{BY_PATH}-part1")));
        let longer = BY_PATH.replace("-lun", "0-lun");
        assert!(!names(&fake, &format!("/dev/disk/by-path/{longer}")));
    }

    #[test]
    fn kernel_names_are_traced_through_by_path_links() {
        let fake = Fake::new();
        fake.write("dev/sdb", "");
        fake.write("dev/sda", "");
        fake.link("dev/disk/by-path/platform-uml-blkdev.0", "../../ubda");
        fake.link(&format!("dev/disk/by-path/{BY_PATH}"), "../../sdb");
        assert!(names(&fake, "/dev/sdb"));
        assert!(!names(&fake, "/dev/sda"));
        assert!(Identity::of(&fake.roots(), "/dev/sdb").is_traced());
        assert!(!Identity::of(&fake.roots(), "/dev/sda").is_traced());
    }

    #[test]
    fn kernel_names_are_traced_through_sysfs() {
        let fake = Fake::new();
        fake.write("sys/block/dm-2/dm/name", &format!("{MAPPED}\n"));
        assert!(names(&fake, "/dev/dm-2"));
        fake.write("dev/dm-2", "");
        fake.link("dev/block/254:2", "../dm-2");
        assert!(names(&fake, "/dev/block/254:2"));
        let identity = Identity::of(&fake.roots(), "/dev/dm-2");
        assert!(identity.is(&format!("/dev/vg_one/{NAME}")));
        assert!(identity.is_device() && identity.is_traced());
    }

    #[test]
    fn a_multipath_map_is_traced_through_its_paths() {
        let fake = Fake::new();
        for node in ["sdb", "sdc", "dm-5"] {
            fake.write(&format!("dev/{node}"), "");
        }
        fake.link(&format!("dev/disk/by-path/{BY_PATH}"), "../../sdc");
        fake.link("dev/mapper/360000000000000000e00000000010001", "../dm-5");
        fake.write(
            "sys/block/dm-5/dm/name",
            "360000000000000000e00000000010001\n",
        );
        fake.write(
            "sys/block/dm-5/dm/uuid",
            "mpath-360000000000000000e00000000010001\n",
        );
        fake.write("sys/block/dm-5/slaves/sdb/dev", "8:16\n");
        fake.write("sys/block/dm-5/slaves/sdc/dev", "8:32\n");
        assert!(names(&fake, "/dev/dm-5"));
        assert!(names(
            &fake,
            "/dev/mapper/360000000000000000e00000000010001"
        ));
    }

    #[test]
    fn an_encrypted_volume_is_traced_through_what_it_lies_on() {
        let fake = Fake::new();
        let crypt = |node: &str, below: &str| {
            fake.write(&format!("dev/{node}"), "");
            fake.write(&format!("sys/block/{node}/dm/name"), "crypt-scsi-3600\n");
            let uuid = "CRYPT-LUKS2-8a6f-crypt-scsi-3600\n";
            fake.write(&format!("sys/block/{node}/dm/uuid"), uuid);
            fake.write(&format!("sys/block/{node}/slaves/{below}/dev"), "\n");
        };
        // On a logical volume.
        fake.write("sys/block/dm-2/dm/name", &format!("{MAPPED}\n"));
        fake.write("sys/block/dm-2/dm/uuid", "LVM-GlSadfFj\n");
        crypt("dm-5", "dm-2");
        assert!(names(&fake, "/dev/dm-5"));
        // On an iSCSI disk, by way of the map's name.
        crypt("dm-6", "sdb");
        fake.link("dev/mapper/crypt-scsi-3600", "../dm-6");
        assert!(!names(&fake, "/dev/mapper/crypt-scsi-3600"));
        fake.link(&format!("dev/disk/by-path/{BY_PATH}"), "../../sdb");
        assert!(names(&fake, "/dev/mapper/crypt-scsi-3600"));
        // On a multipath map of such disks.
        fake.write("sys/block/dm-8/dm/name", "36000\n");
        fake.write("sys/block/dm-8/dm/uuid", "mpath-36000\n");
        fake.write("sys/block/dm-8/slaves/sdb/dev", "8:16\n");
        crypt("dm-7", "dm-8");
        assert!(names(&fake, "/dev/dm-7"));
        // A circle, which no kernel builds, ends all the same.
        crypt("dm-9", "dm-9");
        assert!(!names(&fake, "/dev/dm-9"));
    }

    #[test]
    fn a_logical_volume_does_not_inherit_the_names_of_what_it_lies_on() {
        let fake = Fake::new();
        fake.write("dev/dm-5", "");
        fake.link(&format!("dev/disk/by-path/{BY_PATH}"), "../../sdc");
        fake.write("sys/block/dm-5/dm/name", "vg-other\n");
        fake.write("sys/block/dm-5/dm/uuid", "LVM-GlSadfFj\n");
        fake.write("sys/block/dm-5/slaves/sdc/dev", "8:32\n");
        assert!(!names(&fake, "/dev/dm-5"));
    }

    #[test]
    fn two_names_of_one_device_are_the_same() {
        let fake = Fake::new();
        fake.write("dev/dm-2", "");
        fake.link(&format!("dev/mapper/{MAPPED}"), "../dm-2");
        fake.link("dev/mapper/loop-a", "loop-b");
        fake.link("dev/mapper/loop-b", "loop-a");
        let roots = fake.roots();
        let mapped = Identity::of(&roots, &format!("/dev/mapper/{MAPPED}"));
        assert!(mapped.same_as(&Identity::of(&roots, "/dev/dm-2")));
        assert!(!mapped.same_as(&Identity::of(&roots, "/dev/dm-3")));
        assert!(Identity::of(&roots, "/dev/mapper/loop-a").is("/dev/mapper/loop-a"));
    }

    #[test]
    fn the_id_is_read_from_any_form_of_the_name() {
        let fake = Fake::new();
        let id = |path: &str, template: &str| Identity::of(&fake.roots(), path).volume_id(template);
        for path in [
            format!("/dev/mapper/{MAPPED}"),
            format!("/dev/mapper/{NAME}"),
            format!("/dev/vg/{NAME}"),
            format!("/mnt/nfs/{NAME}"),
            format!("/dev/disk/by-path/{BY_PATH}"),
        ] {
            assert_eq!(id(&path, "volume-%s").as_deref(), Some(ID), "{path}");
        }
        assert_eq!(id(&format!("/mnt/{ID}"), "%s").as_deref(), Some(ID));
        assert_eq!(id(&format!("/mnt/v_{ID}_x"), "v_%s_x").as_deref(), Some(ID));
        for path in ["/dev/sdb", "/mnt/volume-1", &format!("/mnt/{NAME}-old")] {
            assert_eq!(id(path, "volume-%s"), None, "{path}");
        }
        assert_eq!(id(&format!("/mnt/{NAME}"), "vol-%s"), None);
    }

    #[test]
    fn a_relative_path_is_where_its_process_is() {
        let fake = Fake::new();
        fake.write(&format!("mnt/{NAME}"), "123");
        fake.link("proc/7/cwd", fake.path("mnt/below").to_str().unwrap());
        let identity = Identity::seen_by(&fake.roots(), 7, &format!("../{NAME}"));
        assert_eq!(identity.path(), format!("../{NAME}"));
        assert_eq!(identity.bytes(), Some(3));
        assert_eq!(identity.inode(), Some(fake.inode(&format!("mnt/{NAME}"))));
        assert!(identity.names_volume(NAME));
        // Cargo.toml is to be found where the test runs, and is not what a process elsewhere means.
        let elsewhere = Identity::seen_by(&fake.roots(), 8, "Cargo.toml");
        assert_eq!((elsewhere.inode(), elsewhere.bytes()), (None, None));
    }

    #[test]
    fn a_file_is_the_one_among_the_mounts_of_its_process() {
        let fake = Fake::new();
        fake.write("here", "12345");
        let path = fake.path("here");
        let path = path.to_str().unwrap();
        fake.link("proc/7/root", fake.path("container").to_str().unwrap());
        fake.write(&format!("container{path}"), "1");
        let bytes = || Identity::seen_by(&fake.roots(), 7, path).bytes();
        assert_eq!(bytes(), Some(5), "as far as can be told");
        fake.link("proc/self/ns/mnt", "mnt:[1]");
        fake.link("proc/7/ns/mnt", "mnt:[1]");
        assert_eq!(bytes(), Some(5));
        fake.link("proc/7/ns/mnt", "mnt:[2]");
        assert_eq!(bytes(), Some(1));
        fake.remove(&format!("container{path}"));
        assert_eq!(bytes(), None, "what is here is another");
    }

    #[test]
    fn a_disk_that_nothing_names_may_be_any_volume() {
        let fake = Fake::new();
        for node in ["sdb", "sdc", "dm-3", "dm-4", "dm-5"] {
            fake.write(&format!("dev/{node}"), "");
        }
        let fc = "dev/disk/by-path/pci-0000:05:00.2-fc-0x50060e801049cfd1-lun-1";
        fake.link(fc, "../../sdb");
        fake.link(&format!("dev/disk/by-path/{BY_PATH}"), "../../sdc");
        for (node, uuid, below) in [
            ("dm-3", "mpath-36000", "sdb"),
            ("dm-4", "LVM-GlSadfFj", "sdb"),
            ("dm-5", "CRYPT-LUKS1-5454-x", "dm-4"),
        ] {
            fake.write(&format!("sys/block/{node}/dm/name"), "some-name\n");
            fake.write(&format!("sys/block/{node}/dm/uuid"), &format!("{uuid}\n"));
            fake.write(&format!("sys/block/{node}/slaves/{below}/dev"), "\n");
        }
        for (path, any) in [
            ("/dev/sdb", true),
            ("/dev/sdc", false),
            ("/dev/dm-3", true),
            ("/dev/dm-4", false),
            ("/dev/dm-5", false),
            ("/dev/vg/root", false),
            ("/mnt/file", false),
        ] {
            let identity = Identity::of(&fake.roots(), path);
            assert_eq!(identity.may_be_any("volume-%s"), any, "{path}");
        }
    }

    #[test]
    fn sizes_come_from_sysfs_or_the_file() {
        let fake = Fake::new();
        fake.write("dev/dm-2", "");
        fake.link(&format!("dev/mapper/{MAPPED}"), "../dm-2");
        fake.write("sys/class/block/dm-2/size", "2097152\n");
        fake.write("file", "12345");
        let bytes = |path: &str| Identity::of(&fake.roots(), path).bytes();
        assert_eq!(bytes(&format!("/dev/mapper/{MAPPED}")), Some(1 << 30));
        assert_eq!(bytes(fake.path("file").to_str().unwrap()), Some(5));
        assert_eq!(bytes("/dev/sdz"), None);
        assert_eq!(bytes("/no/such/file"), None);
    }

    #[test]
    fn device_numbers_are_split_as_the_c_library_does() {
        assert_eq!(major_minor(0x0810), "8:16");
        assert_eq!(major_minor(0xfe02), "254:2");
        assert_eq!(major_minor((1 << 20) | 0x0803), "8:259");
    }

    proptest! {
        #[test]
        fn no_name_makes_the_matching_panic(path in ".{0,60}", name in ".{0,12}") {
            let _ = path_names(&path, &name);
            let _ = path_names(&format!("/dev/mapper/{path}"), &name);
            let _ = path_names(&format!("/dev/disk/by-path/{path}"), &name);
        }

        #[test]
        fn what_lvm_maps_is_split_back(group in "[a-z0-9_]+(-[a-z0-9]+){0,3}", volume in "[a-z0-9_]+(-[a-z0-9]+){0,5}") {
            let mapped = format!("{}-{}", group.replace('-', "--"), volume.replace('-', "--"));
            prop_assert_eq!(split_mapped(&mapped), Some((group, volume)));
        }
    }
}
