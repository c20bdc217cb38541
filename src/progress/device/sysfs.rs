//! The attributes of one disk in sysfs.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::hardware::Hardware;
use super::identity::read_attribute;

/// The longest VPD page: a header of four bytes, which has the length in two of them.
const PAGE_LIMIT: u64 = 4 + 0xffff;

/// How many folders up from a disk its iSCSI session is at most: `session1/target3:0:0/3:0:0:1`.
const SESSION_ABOVE: usize = 3;

/// The identity of one disk.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// The names of the target, of the subsystem and of the namespace. They contain the volume's name on storage that
    /// makes one of these for each volume.
    pub labels: Vec<String>,
    /// Other paths of the same data, if the disk shows an image in Ceph or a file.
    pub paths: Vec<String>,
    /// Numbers by which storage identifies the disk.
    pub hardware: Hardware,
}

/// Reads the attributes that exist of the disk `kernel_name`, whose folder is `block`.
pub(in crate::progress) fn disk(sys: &Path, block: &Path, kernel_name: &str) -> Disk {
    let mut disk = Disk::default();
    for attribute in ["wwid", "device/wwid", "nguid", "uuid"] {
        if let Some(number) = read_attribute(&block.join(attribute)) {
            disk.hardware.add_numbers(&number);
            disk.labels.push(number);
        }
    }
    // The kernel writes an EUI-64 with spaces between the bytes.
    if let Some(eui) = read_attribute(&block.join("eui")) {
        disk.hardware.add_numbers(&eui.replace(' ', ""));
    }
    if let Some(page) = page83(block) {
        disk.hardware.add_page83(&page);
    }
    disk.labels
        .extend(read_attribute(&block.join("device/subsysnqn")));
    if let Some((target, unit)) = iscsi(block) {
        disk.hardware.unit(&target, unit);
        disk.labels.push(target);
    }
    disk.paths.extend(image(sys, kernel_name));
    disk.paths
        .extend(read_attribute(&block.join("loop/backing_file")));
    disk
}

fn page83(block: &Path) -> Option<Vec<u8>> {
    let mut page = Vec::new();
    let file = File::open(block.join("device/vpd_pg83")).ok()?;
    file.take(PAGE_LIMIT).read_to_end(&mut page).ok()?;
    Some(page)
}

/// The target and the logical unit of a disk of the kernel's own iSCSI initiator.
fn iscsi(block: &Path) -> Option<(String, u64)> {
    let device = fs::canonicalize(block.join("device")).ok()?;
    // The folder's name is host:channel:target:unit.
    let unit = device.file_name()?.to_str()?.rsplit(':').next()?;
    let unit = unit.parse().ok()?;
    let session = |folder: &Path| -> Option<PathBuf> {
        let sessions = fs::read_dir(folder.join("iscsi_session")).ok()?;
        sessions.flatten().next().map(|entry| entry.path())
    };
    let session = device.ancestors().take(SESSION_ABOVE).find_map(session)?;
    Some((read_attribute(&session.join("targetname"))?, unit))
}

/// The path of the image in Ceph behind `rbd<number>`, as udev's link has it. The path of a snapshot ends with `@` and
/// the snapshot's name.
fn image(sys: &Path, kernel_name: &str) -> Option<String> {
    let number = kernel_name.strip_prefix("rbd")?;
    let device = sys.join("bus/rbd/devices").join(number);
    let snapshot = read_attribute(&device.join("current_snap")).filter(|name| name != "-");
    let name = read_attribute(&device.join("name"))?;
    let pool = read_attribute(&device.join("pool")).unwrap_or_else(|| "rbd".to_owned());
    Some(match snapshot {
        Some(snapshot) => format!("/dev/rbd/{pool}/{name}@{snapshot}"),
        None => format!("/dev/rbd/{pool}/{name}"),
    })
}
