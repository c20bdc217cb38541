//! Real dd processes that are held where a test wants to look at them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cinder_progress::progress::{Answer, Question, Roots, Tracker};

pub const MIB: u64 = 1 << 20;

/// Longer than anything here takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn question(name: &str, size: u64) -> Question {
    Question::about(name.trim_start_matches("volume-"), name, size)
}

/// A name no other test, run at the same time or left over, uses for a volume.
pub fn unique_name() -> String {
    format!("volume-{}", uuid::Uuid::new_v4())
}

pub fn sparse(path: &Path, size: u64) {
    File::create(path).unwrap().set_len(size).unwrap();
}

/// A dd that is killed with the test.
pub struct Dd {
    pub process: Child,
    destination: PathBuf,
}

impl Dd {
    pub fn start(program: &str, operands: &[String]) -> Self {
        let child = Command::new(program)
            .arg0("dd")
            .args(operands)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} is needed for this test: {error}"));
        let destination = operands
            .iter()
            .find_map(|operand| operand.strip_prefix("of="));
        Self {
            process: child,
            destination: destination.unwrap().into(),
        }
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.process.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success(), "kill {signal}");
    }

    /// What the kernel says of the descriptor that writes, found and read by the test itself.
    fn position(&self) -> Option<u64> {
        let process = format!("/proc/{}", self.process.id());
        let mut open = fs::read_dir(format!("{process}/fd")).ok()?.flatten();
        let writes = |fd: &fs::DirEntry| {
            fs::read_link(fd.path()).is_ok_and(|target| target == self.destination)
        };
        let fd = open.find(writes)?.file_name();
        let text = fs::read_to_string(format!("{process}/fdinfo/{}", fd.display())).ok()?;
        text.lines()
            .next()?
            .strip_prefix("pos:")?
            .trim()
            .parse()
            .ok()
    }

    fn stopped(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.process.id()))
            .is_ok_and(|stat| stat.contains(") T "))
    }

    /// Lets dd run in slices until it is past `least`, and leaves it stopped.
    pub fn hold_beyond(&self, least: u64) -> u64 {
        until("dd comes far enough", || {
            self.signal("-STOP");
            until("dd stops", || self.stopped().then_some(()));
            let position = self.position().filter(|&position| position >= least);
            if position.is_none() {
                self.signal("-CONT");
                std::thread::sleep(Duration::from_millis(1));
            }
            position
        })
    }

    pub fn finish(mut self) {
        let _ = self.process.wait();
    }
}

impl Drop for Dd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn percent(position: u64, size: u64) -> Answer {
    Answer::Percent(u8::try_from((position * 100 / size).min(100)).unwrap())
}

pub fn tracker() -> Tracker {
    Tracker::new(Roots::default(), Duration::from_millis(100))
}

pub fn operands(source: &Path, destination: &Path, rest: &[&str]) -> Vec<String> {
    let mut operands = vec![
        format!("if={}", source.display()),
        format!("of={}", destination.display()),
    ];
    operands.extend(rest.iter().map(|&operand| operand.to_owned()));
    operands
}

/// Small blocks keep dd from running away between two signals.
pub const SLOW: &[&str] = &["bs=512"];

/// The volume asked about is smaller than the file, so that dd can be held when it has reached the end:
/// at a file's own end it is gone within microseconds.
pub async fn a_copy_is_followed_to_its_end(program: &str) {
    let folder = tempfile::tempdir().unwrap();
    let name = unique_name();
    let size = 16 * MIB;
    let source = folder.path().join(&name);
    sparse(&source, 4 * size);
    let question = question(&name, size);
    let tracker = tracker();
    assert_eq!(
        tracker.answer(question.clone()).await,
        Ok(Answer::Percent(0))
    );

    let dd = Dd::start(
        program,
        &operands(&source, &folder.path().join("copy"), SLOW),
    );
    for least in [0, size / 4, size / 2, size] {
        let position = dd.hold_beyond(least);
        let told = tracker.answer(question.clone()).await;
        assert_eq!(told, Ok(percent(position, size)));
        dd.signal("-CONT");
    }
    tokio::task::spawn_blocking(|| dd.finish()).await.unwrap();
    assert_eq!(tracker.answer(question).await, Ok(Answer::Percent(100)));
}
