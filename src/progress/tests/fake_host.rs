//! Made-up `/proc`, `/sys` and `/dev` trees for the tests of this room.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use crate::progress::proc::process::Pid;
use crate::progress::{Roots, Users};

/// A folder with the three trees. It is removed on drop.
pub(in crate::progress) struct Fake {
    folder: tempfile::TempDir,
    /// Pipes whose readers hang, because they are held open here for writing.
    hanging: Mutex<Vec<(PathBuf, File)>>,
}

impl Drop for Fake {
    /// Ends the reads that hang: a runtime waits for them when it ends.
    fn drop(&mut self) {
        for (path, writer) in self.hanging.get_mut().unwrap().drain(..) {
            // Without the name no further reader can open the pipe.
            let _ = fs::remove_file(path);
            drop(writer);
        }
    }
}

impl Fake {
    pub(in crate::progress) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for tree in ["proc", "sys", "dev"] {
            fs::create_dir(folder.path().join(tree)).unwrap();
        }
        Self {
            folder,
            hanging: Mutex::default(),
        }
    }

    /// Replaces `path` by a pipe whose readers hang.
    pub(in crate::progress) fn hang(&self, path: &str) {
        let path = self.path(path);
        let _ = fs::remove_file(&path);
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success(), "mkfifo is needed for this test");
        let writer = File::options().read(true).write(true).open(&path).unwrap();
        self.hanging.lock().unwrap().push((path, writer));
    }

    pub(in crate::progress) fn roots(&self) -> Roots {
        let root = self.folder.path();
        Roots {
            proc: root.join("proc"),
            sys: root.join("sys"),
            dev: root.join("dev"),
            users: Users::default(),
        }
    }

    pub(in crate::progress) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Writes a file in one step: a reader sees the old text or the new one, as with a file of the kernel.
    pub(in crate::progress) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let draft = path.with_extension("draft");
        fs::write(&draft, text).unwrap();
        fs::rename(&draft, &path).unwrap();
    }

    pub(in crate::progress) fn link(&self, path: &str, target: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        symlink(target, &path).unwrap();
    }

    pub(in crate::progress) fn remove(&self, path: &str) {
        fs::remove_file(self.path(path)).unwrap();
    }

    pub(in crate::progress) fn inode(&self, path: &str) -> u64 {
        fs::metadata(self.path(path)).unwrap().ino()
    }

    /// Adds a process, or changes one. Its start time is its pid, unless [`FakeProcess::start`] changes it.
    pub(in crate::progress) fn process(&self, pid: Pid, comm: &str) -> FakeProcess<'_> {
        let process = FakeProcess { fake: self, pid };
        process.stat(comm, 'S', u64::try_from(pid).unwrap());
        process.user(0);
        process.arguments(&[comm]);
        process.file("comm", &format!("{comm}\n"));
        fs::create_dir_all(self.path(&format!("proc/{pid}/fdinfo"))).unwrap();
        process
    }

    /// Adds a running dd with its source on descriptor 0 and its destination on 1.
    pub(in crate::progress) fn dd(&self, pid: Pid, source: &str, destination: &str, position: u64) {
        let (source_operand, destination_operand) =
            (format!("if={source}"), format!("of={destination}"));
        self.process(pid, "dd")
            .arguments(&["/bin/dd", &source_operand, &destination_operand, "bs=1M"])
            .fd(0, source, position, "0140000")
            .fd(1, destination, position, "0140001");
    }

    /// Sets the position of the destination of a [`Fake::dd`].
    pub(in crate::progress) fn position(&self, pid: Pid, position: u64) {
        self.write(
            &format!("proc/{pid}/fdinfo/1"),
            &format!("pos:\t{position}\nflags:\t0140001\nmnt_id:\t17\n"),
        );
    }

    pub(in crate::progress) fn end(&self, pid: Pid) {
        // Renamed first, so that no scan sees a process of which half the files are removed.
        let gone = self.path(&format!("proc/gone-{pid}"));
        fs::rename(self.path(&format!("proc/{pid}")), &gone).unwrap();
        fs::remove_dir_all(gone).unwrap();
    }
}

/// A process of a [`Fake`].
pub(in crate::progress) struct FakeProcess<'a> {
    fake: &'a Fake,
    pid: Pid,
}

impl FakeProcess<'_> {
    pub(in crate::progress) fn file(&self, name: &str, text: &str) -> &Self {
        self.fake.write(&format!("proc/{}/{name}", self.pid), text);
        self
    }

    pub(in crate::progress) fn start(&self, start: u64) -> &Self {
        self.stat("dd", 'S', start)
    }

    pub(in crate::progress) fn user(&self, uid: u32) -> &Self {
        let pid = self.pid;
        let text = format!("Tgid:\t{pid}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n");
        self.file("status", &text)
    }

    pub(in crate::progress) fn state(&self, state: char) -> &Self {
        self.stat("dd", state, u64::try_from(self.pid).unwrap())
    }

    fn stat(&self, comm: &str, state: char, start: u64) -> &Self {
        let pid = self.pid;
        let line = format!(
            "{pid} ({comm}) {state} 1 {pid} {pid} 0 -1 4194304 101 0 0 0 0 0 0 0 20 0 1 0 {start} \
             3133440 362 18446744073709551615 1 1 1 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
        );
        self.file("stat", &line)
    }

    pub(in crate::progress) fn arguments(&self, arguments: &[&str]) -> &Self {
        self.file("cmdline", &format!("{}\0", arguments.join("\0")))
    }

    pub(in crate::progress) fn fdinfo(&self, fd: u32, text: &str) -> &Self {
        self.file(&format!("fdinfo/{fd}"), text)
    }

    pub(in crate::progress) fn fd(
        &self,
        fd: u32,
        target: &str,
        position: u64,
        flags: &str,
    ) -> &Self {
        self.fake
            .link(&format!("proc/{}/fd/{fd}", self.pid), target);
        self.fdinfo(
            fd,
            &format!("pos:\t{position}\nflags:\t{flags}\nmnt_id:\t17\n"),
        )
    }
}
