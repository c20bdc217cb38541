//! Copies through open files, found by the sweep without a call.

use std::time::Duration;

use super::fake_host::Fake;
use super::questions::{about, eventually};
use crate::progress::{Answer, Copies, CopyMethod, CopyMode, Question, RunningCopy, Tracker};

const READ: &str = "0100000";
const WRITE: &str = "0100001";
const LOG: &str = "0102001";

const ID: &str = "b5012f4a-d256-45a1-8370-86a6dd7e6dde";
const OTHER: &str = "0f1c3a52-7be9-4a54-a3f6-3d8a0c6f9a11";
const SIZE: u64 = 1000 << 20;
const PIECE: u64 = 4 << 20;

fn question() -> Question {
    Question {
        size: SIZE,
        names: vec![format!("volume-{ID}")],
        mode: CopyMode::FileBased,
        ..about(ID)
    }
}

fn volume(id: &str) -> String {
    format!("/mnt/volume-{id}")
}

/// Adds a disk of the volume, with the link of an iSCSI disk.
fn disk(fake: &Fake, name: &str, id: &str) -> String {
    fake.write(&format!("dev/{name}"), "");
    let link = format!("dev/disk/by-path/ip-1:3260-iscsi-iqn:volume-{id}-lun-1");
    fake.link(&link, &format!("../../{name}"));
    fake.write(
        &format!("sys/class/block/{name}/size"),
        &(SIZE / 512).to_string(),
    );
    format!("/dev/{name}")
}

/// Adds a copy from one disk to another, at `position`.
fn copy(fake: &Fake, pid: i32, comm: &str, position: u64) {
    let (source, destination) = (disk(fake, "sdb", ID), disk(fake, "sdc", OTHER));
    fake.process(pid, comm)
        .fd(1, "/var/log/cinder/cinder-volume.log", 900, LOG)
        .fd(20, &source, position + PIECE, READ)
        .fd(21, &destination, position, WRITE);
}

fn moves(fake: &Fake, position: u64) {
    for (fd, flags) in [(20, READ), (21, WRITE)] {
        let text = format!("pos:\t{position}\nflags:\t{flags}\nmnt_id:\t17\n");
        fake.write(&format!("proc/7/fdinfo/{fd}"), &text);
    }
}

fn close(fake: &Fake) {
    for fd in [20, 21] {
        fake.remove(&format!("proc/7/fdinfo/{fd}"));
        fake.remove(&format!("proc/7/fd/{fd}"));
    }
}

async fn look(fake: &Fake) -> Copies {
    let tracker = Tracker::new(fake.roots(), Duration::from_secs(3600));
    tracker.running().await.unwrap()
}

async fn running(fake: &Fake) -> Vec<RunningCopy> {
    let copies = look(fake).await;
    assert_eq!((copies.unseen, copies.unseen_files), (None, None));
    copies.running
}

/// A tracker whose upkeep runs until the runtime of the test ends.
fn watching(fake: &Fake) -> Tracker {
    let tracker = Tracker::new(fake.roots(), Duration::from_millis(20));
    tokio::spawn(tracker.clone().watch(std::future::pending()));
    tracker
}

async fn noticed(tracker: &Tracker, position: u64) {
    let there = || {
        let running = tracker.seen().running;
        running.iter().any(|copy| copy.position == Some(position))
    };
    eventually("the copy is noticed", async || there()).await;
}

async fn over(tracker: &Tracker) {
    let over = || tracker.seen().running.is_empty();
    eventually("its end is noticed", async || over()).await;
}

#[tokio::test]
async fn a_pair_of_volumes_that_moves_in_step_is_a_copy() {
    let fake = Fake::new();
    copy(&fake, 7, "cinder-volume", SIZE / 4);
    let running = running(&fake).await;
    let [copy] = &running[..] else {
        panic!("{running:?}")
    };
    assert_eq!((copy.pid, copy.method), (7, CopyMethod::OpenFiles(21)));
    assert_eq!(
        (&*copy.source, &*copy.destination),
        ("/dev/sdb", "/dev/sdc")
    );
    assert_eq!((copy.position, copy.total), (Some(SIZE / 4), Some(SIZE)));
    assert_eq!(copy.volume_id("volume-%s").as_deref(), Some(ID));
    assert_eq!((copy.started, &copy.trouble), (None, &None));
}

#[tokio::test]
async fn no_other_program_is_looked_into() {
    for comm in ["python3", "qemu-img", "cinder-backup", "cinder-rootwrap"] {
        let fake = Fake::new();
        copy(&fake, 7, comm, SIZE / 4);
        assert_eq!(running(&fake).await, [], "{comm}");
    }
}

#[tokio::test]
async fn what_is_not_both_ends_of_a_copy_is_none() {
    let (source, destination) = (volume(ID), volume(OTHER));
    let far = SIZE / 2;
    for (why, files) in [
        (
            "one end: an image is uploaded",
            vec![(20, &*source, far, READ)],
        ),
        (
            "one end: an image is downloaded",
            vec![(21, &*destination, far, WRITE)],
        ),
        (
            "nothing moves",
            vec![(20, &*source, 0, READ), (21, &*destination, 0, WRITE)],
        ),
        (
            "not in step",
            vec![(20, &*source, far, READ), (21, &*destination, 9, WRITE)],
        ),
        (
            "no volume",
            vec![(20, &*source, far, READ), (21, "/tmp/image", far, WRITE)],
        ),
        (
            "one file",
            vec![(20, &*source, far, READ), (21, &*source, far, WRITE)],
        ),
        (
            "a log",
            vec![(20, &*source, far, READ), (21, &*destination, far, LOG)],
        ),
    ] {
        let fake = Fake::new();
        let process = fake.process(7, "cinder-volume");
        for (fd, path, position, flags) in files {
            process.fd(fd, path, position, flags);
        }
        assert_eq!(running(&fake).await, [], "{why}");
    }
}

#[tokio::test]
async fn two_copies_of_one_process_are_told_apart() {
    let fake = Fake::new();
    let paths = ["a", "b"].map(|share| {
        let path = |id: &str| format!("/mnt/{share}/volume-{id}");
        (path(ID), path(OTHER))
    });
    let process = fake.process(7, "cinder-volume");
    process
        .fd(20, &paths[0].0, 40 * PIECE, READ)
        .fd(21, &paths[1].0, 42 * PIECE, READ)
        .fd(22, &paths[1].1, 41 * PIECE + 1, WRITE)
        .fd(23, &paths[0].1, 39 * PIECE + 1, WRITE);
    let mut running = running(&fake).await;
    running.sort_by(|one, other| one.source.cmp(&other.source));
    let ends = running.iter().map(|copy| (&copy.source, &copy.destination));
    let expected = paths
        .iter()
        .map(|(source, destination)| (source, destination));
    assert!(ends.eq(expected), "{running:?}");
}

#[tokio::test]
async fn a_child_that_inherited_the_files_makes_no_second_copy() {
    let fake = Fake::new();
    for pid in [7, 8] {
        copy(&fake, pid, "cinder-volume", SIZE / 4);
    }
    let running = running(&fake).await;
    assert_eq!(running.iter().map(|copy| copy.pid).collect::<Vec<_>>(), [7]);
}

#[tokio::test]
async fn the_size_of_a_file_is_asked_of_its_file_system() {
    let fake = Fake::new();
    let source = fake.path(&format!("volume-{ID}"));
    std::fs::File::create(&source)
        .unwrap()
        .set_len(SIZE)
        .unwrap();
    fake.process(7, "cinder-volume")
        .fd(20, source.to_str().unwrap(), PIECE, READ)
        .fd(21, &volume(OTHER), PIECE, WRITE);
    assert_eq!(running(&fake).await[0].total, Some(SIZE));
}

#[tokio::test]
async fn what_cannot_be_seen_is_said_apart_from_what_concerns_dd() {
    let fake = Fake::new();
    copy(&fake, 7, "cinder-volume", SIZE / 4);
    fake.write("proc/7/fdinfo/20", "torn");
    let copies = look(&fake).await;
    assert_eq!(copies.unseen, None);
    assert!(copies.unseen_files.is_some());
}

#[tokio::test]
async fn a_copy_nobody_asked_about_is_answered_after_its_end() {
    let fake = Fake::new();
    let tracker = watching(&fake);
    copy(&fake, 7, "cinder-volume", SIZE / 4);
    noticed(&tracker, SIZE / 4).await;
    moves(&fake, SIZE);
    noticed(&tracker, SIZE).await;
    close(&fake);
    over(&tracker).await;
    assert_eq!(tracker.answer(question()).await, Ok(Answer::Percent(100)));
    let by_auto = Question {
        mode: CopyMode::Auto,
        ..question()
    };
    assert_eq!(tracker.answer(by_auto).await, Ok(Answer::Percent(100)));
    let attached = Question {
        attached: true,
        ..question()
    };
    assert_eq!(
        tracker.answer(attached).await,
        Ok(Answer::Unknown),
        "a server has it by now, so nova copies it"
    );
    let at_rest = Question {
        migrating: false,
        ..question()
    };
    assert_eq!(tracker.answer(at_rest).await, Ok(Answer::Percent(100)));
    assert_eq!(
        tracker.answer(question()).await,
        Ok(Answer::Percent(0)),
        "another migration"
    );
}

#[tokio::test]
async fn a_copy_that_is_known_is_answered_by_one_small_read() {
    let fake = Fake::new();
    let tracker = watching(&fake);
    copy(&fake, 7, "cinder-volume", SIZE / 4);
    noticed(&tracker, SIZE / 4).await;
    fake.remove(
        "dev/disk/by-path/ip-1:3260-iscsi-iqn:volume-b5012f4a-d256-45a1-8370-86a6dd7e6dde-lun-1",
    );
    moves(&fake, SIZE / 2);
    assert_eq!(
        tracker.answer(question()).await,
        Ok(Answer::Percent(50)),
        "by the name it had"
    );
}

#[tokio::test]
async fn files_closed_far_from_the_end_are_those_of_a_copy_that_failed() {
    let fake = Fake::new();
    let tracker = watching(&fake);
    copy(&fake, 7, "cinder-volume", SIZE / 4);
    noticed(&tracker, SIZE / 4).await;
    for pieces in 0..3 {
        let position = SIZE / 4 + pieces * 1000;
        moves(&fake, position);
        noticed(&tracker, position).await;
        // Long enough to measure a pace.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    close(&fake);
    over(&tracker).await;
    assert_eq!(tracker.answer(question()).await, Ok(Answer::Percent(25)));
}

#[tokio::test]
async fn a_process_that_dies_leaves_its_last_position() {
    let fake = Fake::new();
    let tracker = watching(&fake);
    copy(&fake, 7, "cinder-volume", SIZE / 4);
    noticed(&tracker, SIZE / 4).await;
    fake.end(7);
    over(&tracker).await;
    assert_eq!(tracker.answer(question()).await, Ok(Answer::Percent(25)));
}

#[tokio::test]
async fn what_was_noticed_survives_the_daemon() {
    let fake = Fake::new();
    let state = fake.path("state.json");
    let interval = Duration::from_millis(20);
    let tracker = Tracker::remembering(fake.roots(), interval, state.clone()).await;
    copy(&fake, 7, "cinder-volume", SIZE / 4);
    let seen = tracker.clone();
    tracker.clone().watch(noticed(&seen, SIZE / 4)).await;
    let tracker = Tracker::remembering(fake.roots(), interval, state).await;
    assert_eq!(tracker.seen().running.len(), 1, "known before any look");
    assert_eq!(tracker.answer(question()).await, Ok(Answer::Percent(25)));
}

#[tokio::test]
async fn a_process_whose_files_hang_holds_up_no_other() {
    let fake = Fake::new();
    fake.write("dev/dm-9", "");
    fake.write("sys/block/dm-9/dm/uuid", "");
    fake.hang("sys/block/dm-9/dm/name");
    fake.process(7, "cinder-volume")
        .fd(20, "/dev/dm-9", PIECE, READ)
        .fd(21, &volume(OTHER), PIECE, WRITE);
    copy(&fake, 8, "cinder-volume", SIZE / 4);
    let copies = look(&fake).await;
    assert_eq!(copies.running.len(), 1, "that of the other process");
    assert!(copies.unseen_files.is_some());
}
