//! Proves that the progress of real dd processes is told rightly: GNU dd, busybox dd, files and a loop device.
//!
//! Each dd is held with SIGSTOP where a test wants to look at it, so nothing depends on how fast it is.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cinder_progress::progress::{Answer, ProgressError, Question, Roots, Tracker};

mod held;

use held::{
    Dd, MIB, PATIENCE, SLOW, a_copy_is_followed_to_its_end, operands, percent, question, sparse,
    tracker, unique_name,
};

#[tokio::test]
async fn a_copy_by_gnu_dd_is_followed_to_its_end() {
    a_copy_is_followed_to_its_end("/usr/bin/dd").await;
}

#[tokio::test]
async fn a_copy_by_busybox_dd_is_followed_to_its_end() {
    // comm is taken from the file's name, so busybox is called through a link, as where it is /bin/dd.
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("dd");
    let busybox: PathBuf = ["/usr/bin/busybox", "/bin/busybox"]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .expect("busybox is needed for this test");
    symlink(busybox, &link).unwrap();
    a_copy_is_followed_to_its_end(link.to_str().unwrap()).await;
}

#[tokio::test]
async fn a_copy_killed_on_its_way_stays_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let name = unique_name();
    let size = 64 * MIB;
    let source = folder.path().join(&name);
    sparse(&source, size);
    let tracker = tracker();
    let dd = Dd::start(
        "/usr/bin/dd",
        &operands(&source, &folder.path().join("copy"), SLOW),
    );
    let position = dd.hold_beyond(size / 20);
    let told = tracker.answer(question(&name, size)).await;
    assert_eq!(told, Ok(percent(position, size)));
    dd.signal("-KILL");
    tokio::task::spawn_blocking(|| dd.finish()).await.unwrap();
    assert_eq!(tracker.answer(question(&name, size)).await, told);

    let second = Dd::start(
        "/usr/bin/dd",
        &operands(&source, &folder.path().join("copy"), SLOW),
    );
    let position = second.hold_beyond(1);
    let told = tracker.answer(question(&name, size)).await;
    assert_eq!(
        told,
        Ok(percent(position, size)),
        "a second migration starts anew"
    );
}

#[tokio::test]
async fn a_sparse_copy_moves_though_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let name = unique_name();
    let size = 64 * MIB;
    let source = folder.path().join(&name);
    let destination = folder.path().join("copy");
    sparse(&source, size);
    let dd = Dd::start(
        "/usr/bin/dd",
        &operands(&source, &destination, &["bs=512", "conv=sparse"]),
    );
    let position = dd.hold_beyond(size / 20);
    let told = tracker().answer(question(&name, size)).await;
    assert_eq!(told, Ok(percent(position, size)));
    let written = fs::read_to_string(format!("/proc/{}/io", dd.process.id())).unwrap();
    let wchar = written
        .lines()
        .find_map(|line| line.strip_prefix("wchar: "));
    let wchar: u64 = wchar.unwrap().parse().unwrap();
    assert!(
        wchar < position,
        "{wchar} bytes written: not a sparse copy at all"
    );
}

#[tokio::test]
async fn reading_to_nowhere_is_no_copy_and_zeroing_the_volume_means_100() {
    let folder = tempfile::tempdir().unwrap();
    let name = unique_name();
    let size = 64 * MIB;
    let volume = folder.path().join(&name);
    sparse(&volume, size);
    let tracker = tracker();

    let nowhere = Dd::start(
        "/usr/bin/dd",
        &operands(&volume, Path::new("/dev/null"), SLOW),
    );
    nowhere.hold_beyond(0);
    assert_eq!(
        tracker.answer(question(&name, size)).await,
        Ok(Answer::Percent(0))
    );
    drop(nowhere);

    let wipe = Dd::start(
        "/usr/bin/dd",
        &operands(Path::new("/dev/zero"), &volume, SLOW),
    );
    wipe.hold_beyond(1);
    assert_eq!(
        tracker.answer(question(&name, size)).await,
        Ok(Answer::Percent(100))
    );
    let at_rest = Question {
        migrating: false,
        ..question(&name, size)
    };
    assert_eq!(
        Tracker::new(Roots::default(), PATIENCE)
            .answer(at_rest)
            .await,
        Ok(Answer::Percent(0))
    );
}

/// A loop device; detached with the test.
struct Loop(String);

impl Loop {
    fn over(file: &Path) -> Self {
        let made = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(file)
            .output()
            .expect("losetup is needed for this test");
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        assert!(
            made.status.success(),
            "root and loop devices are needed for this test: {said}"
        );
        Self(String::from_utf8(made.stdout).unwrap().trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

#[tokio::test]
async fn a_copy_between_block_devices_is_traced_by_its_by_path_link() {
    let folder = tempfile::tempdir().unwrap();
    let name = unique_name();
    let size = 64 * MIB;
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    sparse(&old, size);
    sparse(&new, size);
    let (old, new) = (Loop::over(&old), Loop::over(&new));
    // udev has no links for loop devices, so they stand in a /dev of the test's own.
    let dev = folder.path().join("dev");
    let by_path = dev.join("disk/by-path");
    fs::create_dir_all(&by_path).unwrap();
    for device in [&old, &new] {
        let node = Path::new(&device.0);
        symlink(
            node,
            dev.join(format!("real-{}", node.file_name().unwrap().display())),
        )
        .unwrap();
        let made = Command::new("cp")
            .arg("--archive")
            .arg(node)
            .arg(&dev)
            .status()
            .unwrap();
        assert!(made.success(), "device nodes are needed for this test");
    }
    let link = format!("ip-10.0.2.15:3260-iscsi-iqn.2010-10.org.openstack:{name}-lun-1");
    let node = Path::new(&old.0).file_name().unwrap();
    symlink(Path::new("../..").join(node), by_path.join(link)).unwrap();
    let roots = Roots {
        dev,
        ..Roots::default()
    };
    let tracker = Tracker::new(roots, Duration::from_millis(100));

    let operands = operands(
        Path::new(&old.0),
        Path::new(&new.0),
        &["bs=4k", "iflag=direct", "oflag=direct"],
    );
    let dd = Dd::start("/usr/bin/dd", &operands);
    let position = dd.hold_beyond(size / 20);
    let told = tracker.answer(question(&name, size)).await;
    assert_eq!(told, Ok(percent(position, size)));
}

#[tokio::test]
async fn a_daemon_without_the_capability_says_which_one_it_lacks() {
    let (_folder, dd, name, _) = held_copy();
    let said = as_nobody("without_capabilities", &name, &[]).await;
    assert!(said.contains("told: CAP_SYS_PTRACE"), "{said}");
    drop(dd);
}

#[tokio::test]
async fn cap_sys_ptrace_alone_is_enough() {
    let (_folder, dd, name, position) = held_copy();
    let ptrace = ["--inh-caps=+sys_ptrace", "--ambient-caps=+sys_ptrace"];
    let said = as_nobody("with_cap_sys_ptrace", &name, &ptrace).await;
    let Answer::Percent(percent) = percent(position, SIZE) else {
        unreachable!("a dd that is held has a position");
    };
    assert!(said.contains(&format!("told: {percent};")), "{said}");
    drop(dd);
}

/// A process that is killed with the test.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As in a container: the volumes lie on a mount that nobody else sees, and pids are counted anew.
#[tokio::test]
async fn a_copy_among_mounts_and_pids_of_its_own_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (name, mount) = (unique_name(), folder.path().display().to_string());
    let script = format!(
        "mount -t tmpfs none {mount} && truncate -s 1G {mount}/{name} {mount}/copy && \
         exec dd if={mount}/{name} of={mount}/copy bs=512 conv=sparse,notrunc"
    );
    let spawned = Command::new("unshare")
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
            "sh",
            "-c",
            &script,
        ])
        .stderr(Stdio::null())
        .spawn();
    let child = spawned.expect("unshare, of util-linux, is needed for this test");
    let mut container = Reaped(child);
    let tracker = tracker();
    let question = question(&name, 1 << 30);
    let deadline = Instant::now() + PATIENCE;
    let copy = loop {
        let copies = tracker.running().await.unwrap().running;
        let found = copies
            .into_iter()
            .find(|copy| copy.source.ends_with(&name) && copy.position.is_some_and(|at| at > 0));
        if let Some(copy) = found {
            break copy;
        }
        let ended = container.0.try_wait().unwrap();
        assert!(
            ended.is_none(),
            "unshare gives no namespaces of their own ({ended:?}): this test needs root"
        );
        assert!(Instant::now() < deadline, "never found");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(!folder.path().join(&name).exists(), "it would be no proof");
    assert_eq!(copy.total, Some(1 << 30), "by the process's own root");
    let Ok(Answer::Percent(before)) = tracker.answer(question.clone()).await else {
        panic!("no answer")
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = tracker.answer(question.clone()).await;
        if matches!(answer, Ok(Answer::Percent(percent)) if percent > before) {
            break;
        }
        assert!(Instant::now() < deadline, "{answer:?} stands still");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const SIZE: u64 = 64 * MIB;

/// A dd held somewhere on its way, in a folder everyone may look into.
fn held_copy() -> (tempfile::TempDir, Dd, String, u64) {
    let folder = tempfile::tempdir().unwrap();
    open_to_all(folder.path());
    let name = unique_name();
    let source = folder.path().join(&name);
    sparse(&source, SIZE);
    let dd = Dd::start(
        "/usr/bin/dd",
        &operands(&source, &folder.path().join("copy"), SLOW),
    );
    let position = dd.hold_beyond(SIZE / 20);
    (folder, dd, name, position)
}

fn open_to_all(folder: &Path) {
    let opened = Command::new("chmod")
        .args(["-R", "a+rx"])
        .arg(folder)
        .status()
        .unwrap();
    assert!(opened.success());
}

/// Runs an ignored test of this file as the user nobody, who holds no capability but those given.
async fn as_nobody(test: &str, volume: &str, capabilities: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("real_dd");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    open_to_all(folder.path());
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args(capabilities)
        .arg(&program)
        .args([test, "--exact", "--ignored", "--nocapture"])
        .env("VOLUME", volume);
    let ran = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .expect("root and setpriv are needed for this test");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let complained = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}{complained}");
    said
}

#[tokio::test]
#[ignore = "the half of another test that runs without capabilities"]
async fn without_capabilities() {
    let name = std::env::var("VOLUME").unwrap();
    let error = tracker().answer(question(&name, SIZE)).await.unwrap_err();
    assert!(matches!(error, ProgressError::Refused { .. }), "{error:?}");
    assert!(error.detail().contains("/fdinfo"), "{}", error.detail());
    println!(
        "told: {}",
        error.to_string().split("processes: ").last().unwrap()
    );
}

#[tokio::test]
#[ignore = "the half of another test that runs with one capability"]
async fn with_cap_sys_ptrace() {
    let name = std::env::var("VOLUME").unwrap();
    let Answer::Percent(percent) = tracker().answer(question(&name, SIZE)).await.unwrap() else {
        panic!("nothing known");
    };
    println!("told: {percent};");
}
