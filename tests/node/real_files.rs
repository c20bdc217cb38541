//! Proves that the progress of copies through open files is told rightly: a Python process that does what
//! cinder's `_copy_volume_with_file` does, alone and by the name of cinder-volume, and qemu-img.
//!
//! Python copies a piece whenever it is told to, so nothing depends on how fast it is.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use cinder_progress::progress::{Answer, CopyMode, Question, Roots, Tracker};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 100 * MIB;
const PIECE: u64 = 4 * MIB;

/// `_copy_volume_with_file` and `_transfer_data` of cinder/volume/volume_utils.py, a piece for each line
/// of standard input. A destination called `-` is no file, as an image in Ceph is none.
const COPY: &str = r#"
import sys
class Image:
    def write(self, data): pass
    def flush(self): pass
    def close(self): pass
source = open(sys.argv[1], "rb")
destination = Image() if sys.argv[2] == "-" else open(sys.argv[2], "wb")
left = int(sys.argv[3])
print("open", flush=True)
for line in sys.stdin:
    data = source.read(min(left, 4 << 20))
    destination.write(data)
    left -= len(data)
    if left <= 0:
        break
    print("copied", flush=True)
destination.flush()
source.close()
destination.close()
print("closed", flush=True)
sys.stdin.read()
"#;

struct Volume {
    _folder: tempfile::TempDir,
    source: PathBuf,
    destination: PathBuf,
    question: Question,
}

impl Volume {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let id = uuid::Uuid::new_v4().to_string();
        let source = folder.path().join(format!("volume-{id}"));
        File::create(&source).unwrap().set_len(SIZE).unwrap();
        Self {
            destination: folder.path().join("copy"),
            source,
            _folder: folder,
            question: Question {
                mode: CopyMode::FileBased,
                ..Question::about(&id, &format!("volume-{id}"), SIZE)
            },
        }
    }
}

struct Python {
    process: Child,
    tell: ChildStdin,
    hear: BufReader<ChildStdout>,
}

impl Python {
    fn start(source: &Path, destination: &Path) -> Self {
        Self::begin(
            Command::new("python3").args(["-c", COPY]),
            source,
            destination,
        )
    }

    /// Copies as a script of that name, which the kernel calls it by, as it does cinder-volume.
    fn start_as(name: &str, source: &Path, destination: &Path) -> Self {
        let script = source.with_file_name(name);
        // Written by Python, who knows its own file: what PATH has may be a script, which the kernel would
        // name it after. And a file that this process had open could be held by a child of another test.
        let write = "import os, sys
open(sys.argv[1], 'w').write('#!' + sys.executable + sys.argv[2])
os.chmod(sys.argv[1], 0o755)";
        let mut writing = Command::new("python3");
        writing.args(["-c", write]).arg(&script).arg(COPY);
        assert!(writing.status().unwrap().success());
        let python = Self::begin(&mut Command::new(&script), source, destination);
        let comm = fs::read_to_string(format!("/proc/{}/comm", python.process.id())).unwrap();
        assert_eq!(comm.trim_end(), name);
        python
    }

    fn begin(command: &mut Command, source: &Path, destination: &Path) -> Self {
        let mut process = command
            .arg(source)
            .arg(destination)
            .arg(SIZE.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is needed for this test");
        let tell = process.stdin.take().unwrap();
        let hear = BufReader::new(process.stdout.take().unwrap());
        let mut python = Self {
            process,
            tell,
            hear,
        };
        assert_eq!(python.line(), "open\n");
        python
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.hear.read_line(&mut line).unwrap();
        line
    }

    /// Copies so many pieces; the last word is returned.
    fn copy(&mut self, pieces: u64) -> String {
        let mut word = String::new();
        for _ in 0..pieces {
            self.tell.write_all(b"on\n").unwrap();
            word = self.line();
        }
        word
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn tracker() -> Tracker {
    Tracker::new(Roots::default(), Duration::from_millis(100))
}

async fn ask(tracker: &Tracker, question: &Question) -> Answer {
    tracker.answer(question.clone()).await.unwrap()
}

#[tokio::test]
async fn a_copy_is_followed_by_its_destination() {
    let volume = Volume::new();
    let question = Question {
        dest_path: Some(volume.destination.clone()),
        ..volume.question
    };
    let tracker = tracker();
    let mut python = Python::start(&volume.source, &volume.destination);
    assert_eq!(ask(&tracker, &question).await, Answer::Percent(0));
    for percent in [4, 8, 12, 16] {
        assert_eq!(python.copy(1), "copied\n");
        assert_eq!(ask(&tracker, &question).await, Answer::Percent(percent));
    }
    python.copy(20);
    assert_eq!(ask(&tracker, &question).await, Answer::Percent(96));
    assert_eq!(python.copy(1), "closed\n");
    assert_eq!(ask(&tracker, &question).await, Answer::Percent(100));
}

#[tokio::test]
async fn a_copy_to_what_is_no_file_is_followed_by_its_source_without_any_path() {
    let volume = Volume::new();
    let auto = Question {
        mode: CopyMode::Auto,
        ..volume.question
    };
    let tracker = tracker();
    let mut python = Python::start(&volume.source, Path::new("-"));
    python.copy(10);
    assert_eq!(ask(&tracker, &auto).await, Answer::Percent(40));
    python.copy(SIZE / PIECE - 10);
    assert_eq!(ask(&tracker, &auto).await, Answer::Percent(100));
}

/// Both ends bear the names of volumes, as in a copy between two shares.
fn to_another_volume(volume: &Volume) -> PathBuf {
    let name = format!("volume-{}", uuid::Uuid::new_v4());
    volume.source.with_file_name(name)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_end_of_a_copy_of_cinder_volume_is_known_though_nobody_asked_while_it_ran() {
    let volume = Volume::new();
    let tracker = tracker();
    let mut python = Python::start_as("cinder-volume", &volume.source, &to_another_volume(&volume));
    let watch = tokio::spawn(tracker.clone().watch(std::future::pending()));
    let source = volume.source.to_str().unwrap();
    let position = || {
        let mut running = tracker.seen().running.into_iter();
        running.find(|copy| copy.source == source)?.position
    };
    assert_eq!(python.copy(10), "copied\n");
    until("it is noticed", || position() == Some(10 * PIECE)).await;
    assert_eq!(python.copy(15), "closed\n");
    until("its end is noticed", || position().is_none()).await;
    drop(python);
    watch.abort();
    assert_eq!(ask(&tracker, &volume.question).await, Answer::Percent(100));
}

#[tokio::test]
async fn status_shows_a_copy_of_cinder_volume() {
    let volume = Volume::new();
    let destination = to_another_volume(&volume);
    let mut python = Python::start_as("cinder-volume", &volume.source, &destination);
    python.copy(10);
    let settings = volume.source.with_file_name("settings.conf");
    fs::write(&settings, "").unwrap();
    let status = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cinder-progress"));
        command.arg("status").args(arguments);
        let output = command
            .arg("--config-file")
            .arg(&settings)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let document: serde_json::Value = serde_json::from_str(&status(&["--json"])).unwrap();
    let copies = document["copies"].as_array().unwrap();
    let pid = python.process.id();
    let shown = copies.iter().find(|copy| copy["pid"] == pid).unwrap();
    assert_eq!(shown["kind"], "file");
    assert_eq!(shown["volume_id"], volume.question.volume_id);
    assert_eq!(shown["source"], volume.source.to_str().unwrap());
    assert_eq!(shown["destination"], destination.to_str().unwrap());
    assert_eq!(shown["bytes"], 10 * PIECE);
    assert_eq!(shown["total_bytes"], SIZE);
    assert_eq!(shown["percent"], 40);
    assert_eq!(shown["bytes_per_second"], 0, "it waits to be told");
    assert_eq!(shown["state"], "stalled");
    let lines = status(&[]);
    let pid = format!("file pid {pid}");
    let line = lines.lines().find(|line| line.contains(&pid)).unwrap();
    assert!(line.contains(" 40%"), "{line}");
    assert!(line.contains(&volume.question.volume_id), "{line}");
}

#[tokio::test]
async fn a_process_that_dies_on_the_way_has_not_copied_all() {
    let volume = Volume::new();
    let tracker = tracker();
    let mut python = Python::start(&volume.source, &volume.destination);
    python.copy(10);
    assert_eq!(ask(&tracker, &volume.question).await, Answer::Percent(40));
    drop(python);
    assert_eq!(ask(&tracker, &volume.question).await, Answer::Percent(40));
}

#[tokio::test]
async fn the_path_of_a_call_may_lead_through_links() {
    let volume = Volume::new();
    let folder = tempfile::tempdir().unwrap();
    let through = folder.path().join("through");
    std::os::unix::fs::symlink(volume.source.parent().unwrap(), &through).unwrap();
    let question = Question {
        names: vec!["another-name".to_owned()],
        src_path: Some(through.join(volume.source.file_name().unwrap())),
        ..volume.question
    };
    let mut python = Python::start(&volume.source, Path::new("-"));
    python.copy(5);
    assert_eq!(ask(&tracker(), &question).await, Answer::Percent(20));
}

#[tokio::test]
async fn of_qemu_img_nothing_is_known_and_never_a_wrong_number() {
    let volume = Volume::new();
    File::create(&volume.source)
        .unwrap()
        .write_all(&vec![7; (8 * MIB) as usize])
        .unwrap();
    let tracker = tracker();
    let copy = Command::new("qemu-img")
        .args(["convert", "-r", "65536", "-f", "raw", "-O", "raw"])
        .arg(&volume.source)
        .arg(&volume.destination)
        .spawn();
    let mut copy = copy.expect("qemu-img is needed for this test");
    let deadline = Instant::now() + Duration::from_secs(60);
    // Before it has opened its files there is nothing to see, and the answer is 0.
    while ask(&tracker, &volume.question).await != Answer::Unknown {
        assert!(Instant::now() < deadline, "never found");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ask(&tracker, &volume.question).await, Answer::Unknown);
    copy.kill().unwrap();
    copy.wait().unwrap();
    assert_eq!(ask(&tracker, &volume.question).await, Answer::Unknown);
}
