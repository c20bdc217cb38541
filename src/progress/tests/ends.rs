//! The exit status of a real dd, as the kernel reports it, decides the answer.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::progress::access::is_apart;
use crate::progress::proc::exits::ProcessEnds;
use crate::progress::{Answer, CopyEnd, CopyMode, Question, Roots, Tracker};

const BLOCK: usize = 4096;
const BLOCKS: u64 = 10;

/// Longer than any machine takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A dd of a volume that reads from a pipe, into which the test writes.
struct Fed {
    dd: Child,
    source: Option<File>,
    question: Question,
    _folder: tempfile::TempDir,
}

impl Fed {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let id = Uuid::new_v4().to_string();
        let name = format!("volume-{id}");
        let source: PathBuf = folder.path().join(&name);
        let made = Command::new("mkfifo").arg(&source).status().unwrap();
        assert!(made.success(), "mkfifo is needed for this test");
        let dd = Command::new("dd")
            .arg(format!("if={}", source.display()))
            .arg(format!("of={}", folder.path().join("copy").display()))
            .arg(format!("bs={BLOCK}"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let question = Question {
            mode: CopyMode::HostBased,
            ..Question::about(&id, &name, BLOCKS * BLOCK as u64)
        };
        Self {
            dd,
            // The open returns when dd has opened the other end.
            source: Some(File::options().write(true).open(source).unwrap()),
            question,
            _folder: folder,
        }
    }

    fn write(&mut self, blocks: u64) {
        for _ in 0..blocks {
            let source = self.source.as_mut().unwrap();
            source.write_all(&[1; BLOCK]).unwrap();
        }
    }

    async fn until(&self, tracker: &Tracker, percent: u8) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = tracker.answer(self.question.clone()).await;
            if answer == Ok(Answer::Percent(percent)) {
                return;
            }
            assert!(Instant::now() < deadline, "{answer:?}, not {percent}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        let _ = self.dd.kill();
        let _ = self.dd.wait();
    }
}

/// Whether the kernel reports exit statuses here: from Linux 6.6 on, in the first PID namespace.
async fn the_kernel_tells() -> bool {
    if is_apart(Path::new("/proc")) {
        return false;
    }
    let Ok(ends) = ProcessEnds::listen() else {
        return false;
    };
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let pid = child.id().cast_signed();
        if ends.take().iter().any(|end| end.pid == pid) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    false
}

#[tokio::test]
async fn what_ended_with_0_is_through_and_what_was_killed_is_not_wherever_it_was() {
    if !the_kernel_tells().await {
        eprintln!("LEFT OUT: the kernel tells nobody here how processes end");
        return;
    }
    let tracker = Tracker::new(Roots::default(), Duration::from_secs(3600));
    // No scan saw the second half of this copy.
    let mut good = Fed::start();
    good.write(BLOCKS / 2);
    good.until(&tracker, 50).await;
    good.source = None;
    assert!(good.dd.wait().unwrap().success());
    good.until(&tracker, 100).await;

    // This dd had written all bytes when it was killed. Whether the storage has them is unknown.
    let mut bad = Fed::start();
    bad.write(BLOCKS);
    bad.until(&tracker, 100).await;
    bad.dd.kill().unwrap();
    bad.dd.wait().unwrap();
    bad.until(&tracker, 99).await;

    // Other copies may end on this node at the same time.
    let ended = tracker.seen().ended;
    assert!(
        ended.of(CopyEnd::Done) >= 1 && ended.of(CopyEnd::Killed) >= 1,
        "{ended:?}"
    );
}
