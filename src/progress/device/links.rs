//! Links below `/dev`: where one leads, and which lead to a disk.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use crate::progress::Roots;

/// How many links are followed before a chain of them counts as a loop, as in the kernel.
const LINK_LIMIT: usize = 40;

/// Folders of links to disks whose names come from the storage and its software. Links by label, or by the id of a
/// file system, come from the disk's content, which the volume's user writes.
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

/// Where a path of the node is to be found under the given roots.
pub(super) fn locate(roots: &Roots, path: &Path) -> PathBuf {
    match path.strip_prefix("/dev") {
        Ok(below) => roots.dev.join(below),
        Err(_) => path.to_owned(),
    }
}

/// Follows links at the end of a path, below the given roots. (Folders that are links do not occur under /dev.)
pub(super) fn follow(roots: &Roots, path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINK_LIMIT {
        let Ok(target) = fs::read_link(&path) else {
            break;
        };
        path = if target.is_absolute() {
            locate(roots, &target)
        } else {
            let folder = path.parent().unwrap_or(Path::new("/"));
            normalize(&folder.join(target))
        };
    }
    path
}

/// Removes `.` and `..` as text, which is right where no folder is a link.
pub(super) fn normalize(path: &Path) -> PathBuf {
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
pub(super) fn kernel_name(roots: &Roots, real: &Path) -> Option<String> {
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
pub(super) fn kernel_name_in(roots: &Roots, real: &Path) -> Option<String> {
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

/// Every link by which the storage and its software name disks.
pub(super) fn links(roots: &Roots) -> Vec<PathBuf> {
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
