//! `cinder-progress status` against a real dd: what it shows, with whose eyes, and on what.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The volume's size; `bs=512` keeps dd busy with it for longer than any test looks.
const SIZE: u64 = 64 << 30;

/// A dd of a volume, between sparse files, that is killed with the test.
struct Copy {
    dd: Child,
    volume_id: String,
    source: PathBuf,
    destination: PathBuf,
    folder: tempfile::TempDir,
}

impl Copy {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name = || format!("volume-{}", uuid::Uuid::new_v4());
        let source = folder.path().join(name());
        let destination = folder.path().join(name());
        File::create(&source).unwrap().set_len(SIZE).unwrap();
        // conv=sparse and a file that is as long already: the position moves, the disk is spared.
        File::create(&destination).unwrap().set_len(SIZE).unwrap();
        let dd = Command::new("dd")
            .arg(format!("if={}", source.display()))
            .arg(format!("of={}", destination.display()))
            .args(["bs=512", "conv=sparse,notrunc"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let copy = Self {
            volume_id: source
                .display()
                .to_string()
                .split_once("volume-")
                .unwrap()
                .1
                .to_owned(),
            dd,
            source,
            destination,
            folder,
        };
        let fdinfo = format!("/proc/{}/fdinfo/1", copy.dd.id());
        let deadline = Instant::now() + Duration::from_secs(20);
        while !fs::read_to_string(&fdinfo).is_ok_and(|text| !text.starts_with("pos:\t0\n")) {
            assert!(Instant::now() < deadline, "dd never began to write");
            std::thread::sleep(Duration::from_millis(2));
        }
        copy
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.dd.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Returns when it has stopped: a write that was under way is finished before.
    fn stop(&self) {
        self.signal("-STOP");
        let stat = format!("/proc/{}/stat", self.dd.id());
        let stopped = || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "));
        let deadline = Instant::now() + Duration::from_secs(20);
        while !stopped() {
            assert!(Instant::now() < deadline, "dd never stopped");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What `--json` says of this copy.
    fn among(&self, document: &str) -> Value {
        let document: Value = serde_json::from_str(document).unwrap();
        let copies = document["copies"].as_array().unwrap();
        copies
            .iter()
            .find(|copy| copy["pid"] == self.dd.id())
            .unwrap_or_else(|| panic!("{document}"))
            .clone()
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = self.dd.kill();
        let _ = self.dd.wait();
    }
}

/// The verb with settings that name a broker nobody could reach.
fn status(folder: &Path, arguments: &[&str]) -> Command {
    let settings = folder.join("settings.conf");
    fs::write(&settings, "[DEFAULT]\ntransport_url = nonsense\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cinder-progress"));
    command
        .arg("status")
        .args(arguments)
        .arg("--config-file")
        .arg(settings);
    command
}

fn output(command: &mut Command) -> (String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let (stdout, stderr) = (
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    );
    assert!(status.success(), "{status}: {stdout}{stderr}");
    (stdout, stderr)
}

#[test]
fn one_look_tells_all_there_is() {
    let copy = Copy::start();
    let (document, _) = output(&mut status(copy.folder.path(), &["--json"]));
    let shown = copy.among(&document);
    assert_eq!(shown["volume_id"], copy.volume_id);
    assert_eq!(shown["source"], copy.source.display().to_string());
    assert_eq!(shown["destination"], copy.destination.display().to_string());
    assert_eq!(shown["total_bytes"], SIZE);
    assert_eq!(shown["state"], "copying");
    let bytes = shown["bytes"].as_u64().unwrap();
    assert_eq!(shown["percent"], bytes * 100 / SIZE);
    assert!(shown["bytes_per_second"].as_u64().unwrap() > 0);
    assert!(shown["seconds_left"].as_u64().unwrap() > 0);
    assert!(shown["since"].as_str().unwrap().ends_with('Z'));
    assert_eq!(shown["unseen"], Value::Null);

    let (lines, _) = output(&mut status(copy.folder.path(), &[]));
    let pid = format!("pid {} ", copy.dd.id());
    let line = lines.lines().find(|line| line.contains(&pid)).unwrap();
    for part in [&copy.volume_id, "%", "/s  ", "  copying  ", " since "] {
        assert!(line.contains(part), "{part:?} in {line}");
    }
    assert!(!lines.contains('\u{1b}'), "no bars where nobody looks");
}

#[test]
fn a_copy_that_stands_still_is_stalled() {
    let copy = Copy::start();
    copy.stop();
    let (document, _) = output(&mut status(copy.folder.path(), &["--json"]));
    copy.signal("-CONT");
    let shown = copy.among(&document);
    assert_eq!(shown["state"], "stalled");
    assert_eq!(shown["seconds_left"], Value::Null);
}

#[test]
fn watching_goes_on_and_ends_when_nobody_reads() {
    let copy = Copy::start();
    let mut watch = status(copy.folder.path(), &["--watch", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut bytes = || {
        copy.among(&lines.next().unwrap().unwrap())["bytes"]
            .as_u64()
            .unwrap()
    };
    let (first, second) = (bytes(), bytes());
    assert!(second > first, "{first} and then {second}");
    drop(lines);
    assert!(watch.wait().unwrap().success());
}

#[test]
fn on_a_terminal_there_is_a_table_with_bars() {
    let copy = Copy::start();
    let mut inner = status(copy.folder.path(), &[]);
    let words: Vec<String> = std::iter::once(inner.get_program())
        .chain(inner.get_args())
        .map(|word| word.to_str().unwrap().to_owned())
        .collect();
    inner = Command::new("script");
    inner.args(["-qec", &words.join(" "), "/dev/null"]);
    let (screen, _) = output(
        inner
            .stdin(Stdio::null())
            .env("TERM", "xterm")
            .env("COLUMNS", "200"),
    );
    assert!(screen.contains("VOLUME"), "{screen}");
    assert!(screen.contains('█') || screen.contains('░'), "{screen}");
    assert!(screen.contains("copying"), "{screen}");
}

#[test]
fn without_root_it_says_what_it_cannot_see() {
    // Otherwise the dd would be of the same user, and nothing hidden.
    let root = rustix::process::geteuid().is_root();
    assert!(root, "root is needed for this test");
    let copy = Copy::start();
    // A place where another user can read the program and the settings.
    let open = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let program = open.path().join("cinder-progress");
    fs::copy(env!("CARGO_BIN_EXE_cinder-progress"), &program).unwrap();
    let mut command = Command::new(&program);
    command
        .args(["status", "--json"])
        .uid(65_534)
        .gid(65_534)
        .current_dir("/");
    let (document, _) = output(&mut command);
    let shown = copy.among(&document);
    assert_eq!(shown["bytes"], Value::Null);
    assert_eq!(shown["percent"], Value::Null);
    assert_eq!(shown["state"], Value::Null);
    assert_eq!(shown["volume_id"], copy.volume_id);
    assert!(shown["unseen"].as_str().unwrap().contains("CAP_SYS_PTRACE"));
}

#[test]
fn a_mistake_in_the_settings_it_needs_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = status(folder.path(), &[]);
    let settings = folder.path().join("settings.conf");
    fs::write(&settings, "[DEFAULT]\nvolume_name_template = nothing\n").unwrap();
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("volume_name_template"));
}
