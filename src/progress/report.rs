//! The copies that run on this node, for `status` and the metrics.

use std::time::SystemTime;

use super::device::Identity;
use super::file_based::copy::FileCopy;
use super::host_based::record::Record;
use super::journal::EndedCopies;
use super::migration::KnownBy;
use super::proc::error::ProgressError;
use super::proc::process;
use crate::text;

/// All copies that run, as far as they can be seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Copies {
    /// The oldest first.
    pub running: Vec<RunningCopy>,
    /// Why there may be more of them.
    pub unseen: Option<ProgressError>,
    /// Why there may be more of them through open files.
    pub unseen_files: Option<ProgressError>,
}

/// The last scan's result, without a new scan.
#[derive(Debug, Clone, PartialEq)]
pub struct LastSeen {
    /// The copies that ran then, the oldest first.
    pub running: Vec<RunningCopy>,
    /// What the last scan could not see, or why it failed.
    pub unseen: Option<ProgressError>,
    /// How copies ended since the daemon started.
    pub ended: EndedCopies,
}

/// How a copy is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CopyMethod {
    /// By a dd of its own.
    Dd,
    /// By cinder-volume, through two of its open files; this descriptor writes.
    OpenFiles(u32),
}

impl CopyMethod {
    /// `dd` or `file`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dd => "dd",
            Self::OpenFiles(_) => "file",
        }
    }
}

/// A copy that runs.
#[derive(Debug, Clone, PartialEq)]
pub struct RunningCopy {
    /// The process: dd, or cinder-volume.
    pub pid: i32,
    /// How it is made.
    pub method: CopyMethod,
    /// When the dd was started, to the kernel's clock tick; `None` of open files, where nothing tells.
    pub started: Option<SystemTime>,
    /// What it reads, as dd's command line or the kernel has it.
    pub source: String,
    /// What it writes, as dd's command line or the kernel has it.
    pub destination: String,
    /// How many bytes have been written; `None` when that cannot be told.
    pub position: Option<u64>,
    /// How many bytes there are to copy, from `count=` and the size of the source.
    pub total: Option<u64>,
    /// Why no more can be told.
    pub trouble: Option<ProgressError>,
    rule: Option<KnownBy>,
    /// The volume's id, and the rule by which it is known.
    volume: Option<String>,
    names: Identity,
    written: Identity,
}

impl RunningCopy {
    pub(super) fn new(record: &Record, booted: Option<SystemTime>) -> Self {
        let dd = &record.dd;
        Self {
            pid: dd.id.pid,
            method: CopyMethod::Dd,
            started: booted.and_then(|booted| booted.checked_add(process::ticks(dd.id.start))),
            source: dd.source.path().to_owned(),
            destination: dd.destination.path().to_owned(),
            position: record.seen.position,
            total: dd.bytes,
            trouble: record.said.trouble.clone(),
            rule: record.notes.known_by,
            volume: record.notes.volume.clone(),
            names: dd.source.clone(),
            written: dd.destination.clone(),
        }
    }

    /// Nothing for a copy of which only one end is known.
    pub(super) fn through_files(copy: &FileCopy, trouble: Option<ProgressError>) -> Option<Self> {
        let ends = copy.file.ends.as_ref()?;
        Some(Self {
            pid: copy.file.id.pid,
            method: CopyMethod::OpenFiles(copy.file.fd),
            started: None,
            source: ends.source.path().to_owned(),
            destination: ends.destination.path().to_owned(),
            position: copy.seen.position,
            total: ends.bytes,
            trouble,
            rule: copy.notes.known_by,
            volume: copy.notes.volume.clone(),
            names: ends.source.clone(),
            written: ends.destination.clone(),
        })
    }

    /// When it was started as RFC 3339 has it, in UTC.
    #[must_use]
    pub fn since(&self) -> Option<String> {
        let since = self.started?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(text::utc(since.as_secs()))
    }

    /// Whether it may be one of cinder's, whose volumes are named by `template`: one end has such a name, or it is
    /// attributed to a volume that was asked for, or it goes from an unnamed disk to a device, as where the storage
    /// shows disks by number only. Other users' copies are not shown.
    #[must_use]
    pub fn may_be_cinders(&self, template: &str) -> bool {
        let is_volume = |end: &Identity| end.volume_id(template).is_some();
        self.volume.is_some()
            || is_volume(&self.names)
            || is_volume(&self.written)
            || self.names.is_unnamed() && self.written.is_device()
    }

    /// The id (or `name_id`) of the volume that is read, if one of its source's names is `template` with
    /// an id in the place of `%s`, or if it is known otherwise.
    #[must_use]
    pub fn volume_id(&self, template: &str) -> Option<String> {
        let by_name = self.names.volume_id(template);
        by_name.or_else(|| self.volume.clone())
    }

    /// The rule by which [`RunningCopy::volume_id`] is known.
    #[must_use]
    pub fn known_by(&self, template: &str) -> Option<KnownBy> {
        if self.names.volume_id(template).is_some() {
            return Some(KnownBy::Name);
        }
        self.volume.as_ref()?;
        Some(self.rule.unwrap_or(KnownBy::Name))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::progress::tests::fake_host::Fake;
    use crate::progress::{ProgressError, Tracker};

    const ID: &str = "b5012f4a-d256-45a1-8370-86a6dd7e6dde";

    async fn running(fake: &Fake) -> Copies {
        let tracker = Tracker::new(fake.roots(), Duration::from_secs(3600));
        tracker.running().await.unwrap()
    }

    #[tokio::test]
    async fn a_copy_is_shown_with_its_volume_its_size_and_its_age() {
        let fake = Fake::new();
        fake.write("proc/stat", "cpu 1 2\nbtime 1700000000\n");
        fake.write("dev/sdb", "");
        fake.write("sys/class/block/sdb/size", "4096\n");
        let link = format!("dev/disk/by-path/ip-1:3260-iscsi-iqn:volume-{ID}-lun-1");
        fake.link(&link, "../../sdb");
        fake.dd(700, "/dev/sdb", "/dev/sda", 4096);
        fake.dd(8, "/dev/zero", "/dev/sdc", 4096);
        let copies = running(&fake).await;
        assert_eq!(copies.unseen, None);
        let [copy] = &copies.running[..] else {
            panic!("{copies:?}")
        };
        assert_eq!((copy.pid, copy.position), (700, Some(4096)));
        assert_eq!(copy.total, Some(2 << 20));
        assert_eq!(copy.volume_id("volume-%s").as_deref(), Some(ID));
        assert_eq!(copy.volume_id("other-%s"), None);
        let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_007);
        assert_eq!(copy.started, Some(started), "700 ticks after boot");
    }

    #[tokio::test]
    async fn only_what_may_be_a_volumes_is_shown_as_cinders() {
        let fake = Fake::new();
        for node in ["sdb", "sdc"] {
            fake.write(&format!("dev/{node}"), "");
        }
        for (pid, source, destination, cinders) in [
            (
                7,
                format!("/dev/vg/volume-{ID}"),
                "/backup".to_owned(),
                true,
            ),
            (
                8,
                "/snapshot".to_owned(),
                format!("/dev/vg/volume-{ID}"),
                true,
            ),
            (9, "/dev/sdb".to_owned(), "/dev/sdc".to_owned(), true),
            (
                10,
                "/dev/sdb".to_owned(),
                "/root/disk.img".to_owned(),
                false,
            ),
            (
                11,
                "/home/alice/secret".to_owned(),
                "/home/alice/copy".to_owned(),
                false,
            ),
            (
                12,
                "/home/alice/secret".to_owned(),
                "/dev/sdc".to_owned(),
                false,
            ),
        ] {
            fake.dd(pid, &source, &destination, 4096);
            let running = running(&fake).await.running;
            let copy = running.iter().find(|copy| copy.pid == pid).unwrap();
            assert_eq!(
                copy.may_be_cinders("volume-%s"),
                cinders,
                "{source} {destination}"
            );
        }
    }

    #[tokio::test]
    async fn count_is_the_size_where_it_is_less() {
        let fake = Fake::new();
        fake.dd(7, "/dev/sdb", "/dev/sda", 0);
        fake.write("dev/sdb", "");
        fake.write("sys/class/block/sdb/size", "8192\n");
        for (operand, total) in [
            ("count=2", 2 << 20),
            ("count=9", 4 << 20),
            ("bs=1M", 4 << 20),
        ] {
            fake.process(7, "dd").arguments(&[
                "dd",
                "if=/dev/sdb",
                "of=/dev/sda",
                "bs=1M",
                operand,
            ]);
            let copies = running(&fake).await;
            assert_eq!(copies.running[0].total, Some(total), "{operand}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_said_of_the_copy_it_is_about() {
        let fake = Fake::new();
        fake.dd(7, "/dev/sdb", "/dev/sda", 0);
        fake.process(7, "dd")
            .arguments(&["dd", "if=/dev/sdb", "of=/dev/sda"])
            .fdinfo(0, "torn")
            .fdinfo(1, "torn");
        let copies = running(&fake).await;
        assert_eq!(copies.running[0].position, None);
        assert!(matches!(
            copies.running[0].trouble,
            Some(ProgressError::Malformed { .. })
        ));
    }
}
