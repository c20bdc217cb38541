//! A dd that copies a volume.

use std::fs::File;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use uuid::Uuid;

use super::process::Process;
use super::wait::until;

/// Bytes of a volume of size 1.
pub const GIB: u64 = 1 << 30;

/// Bytes of a volume's file.
pub const SOURCE: u64 = 3 * GIB;

/// A volume of 1 GiB that can be copied.
///
/// Its file is larger, so that dd can be held when it has reached the end of the volume: at a file's
/// own end it is gone within microseconds.
pub struct Volume {
    id: String,
    folder: TempDir,
}

impl Volume {
    /// One that no other test has.
    pub fn unique() -> Self {
        let volume = Self {
            id: Uuid::new_v4().to_string(),
            folder: tempfile::tempdir().unwrap(),
        };
        let file = File::create(volume.path()).unwrap();
        file.set_len(SOURCE).unwrap();
        volume
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// As a call's argument.
    pub fn argument(&self) -> Value {
        json!({"id": self.id, "size": 1, "migration_status": "migrating"})
    }

    /// Starts to copy it.
    pub fn copy(&self) -> Copy {
        let destination = self.folder.path().join("copy");
        let process = Process::start(Command::new("dd").args([
            format!("if={}", self.path().display()),
            format!("of={}", destination.display()),
            // Small blocks keep dd from running away between two signals.
            "bs=4096".into(),
            // Memory full of a sparse file's zeros would be the slowest part of the test.
            "iflag=nocache".into(),
            // The position moves, but nothing fills the disk.
            "conv=sparse".into(),
        ]));
        Copy { process }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(format!("volume-{}", self.id))
    }
}

/// A running dd; killed on drop.
pub struct Copy {
    process: Process,
}

impl Copy {
    /// Lets it run in slices until it is past `least`, leaves it stopped, and returns its position.
    pub async fn hold_beyond(&self, least: u64) -> u64 {
        until("dd comes far enough", async || {
            self.process.signal("STOP").await;
            until("dd stops", async || {
                self.read("stat").contains(") T ").then_some(())
            })
            .await;
            let position = self.position();
            if position < least {
                self.go_on().await;
            }
            (position >= least).then_some(position)
        })
        .await
    }

    /// Lets it run.
    pub async fn go_on(&self) {
        self.process.signal("CONT").await;
    }

    /// Lets it run to its end.
    pub async fn finish(mut self) {
        self.go_on().await;
        let status = self.process.wait_for_exit().await;
        assert!(status.success(), "dd: {status}");
    }

    /// What the kernel says of the descriptor that writes.
    fn position(&self) -> u64 {
        let fdinfo = self.read("fdinfo/1");
        let line = fdinfo.lines().next().unwrap();
        line.strip_prefix("pos:").unwrap().trim().parse().unwrap()
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.process.pid())).unwrap()
    }
}
