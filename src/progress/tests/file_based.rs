//! Copies through open files, answered from made-up processes.

use std::time::Duration;

use super::fake_host::Fake;
use super::questions::{SIZE, about, at_host, let_time_pass, tracker};
use crate::progress::{Answer, CopyMode, ProgressError, Question, Tracker};

const READ: &str = "0100000";
const WRITE: &str = "0100001";

fn question() -> Question {
    Question {
        mode: CopyMode::FileBased,
        ..about("1")
    }
}

async fn ask(tracker: &Tracker) -> Answer {
    tracker.answer(question()).await.unwrap()
}

/// Waits until the tracker reads the processes again for a list. It uses one list for half a second.
async fn listing_grows_old() {
    tokio::time::sleep(Duration::from_millis(600)).await;
}

fn position(fake: &Fake, fd: u32, position: u64) {
    fake.write(
        &format!("proc/7/fdinfo/{fd}"),
        &format!("pos:\t{position}\nflags:\t{READ}\nmnt_id:\t17\n"),
    );
}

#[tokio::test]
async fn nothing_open_is_0_and_of_an_attached_volume_unknown() {
    let fake = Fake::new();
    fake.process(7, "python3");
    let tracker = tracker(&fake);
    assert_eq!(ask(&tracker).await, Answer::Percent(0));
    let attached = Question {
        attached: true,
        ..question()
    };
    assert_eq!(tracker.answer(attached).await, Ok(Answer::Unknown));
}

#[tokio::test]
async fn a_source_by_its_name_is_followed_until_it_is_closed() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.process(7, "cinder-volume")
        .fd(3, "/mnt/volume-1", SIZE / 10, READ);
    assert_eq!(ask(&tracker).await, Answer::Percent(10));
    position(&fake, 3, SIZE / 2);
    assert_eq!(ask(&tracker).await, Answer::Percent(50));
    fake.remove("proc/7/fdinfo/3");
    assert_eq!(ask(&tracker).await, Answer::Percent(100));
}

#[tokio::test]
async fn a_process_that_dies_on_the_way_leaves_its_last_position() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.process(7, "cinder-volume")
        .fd(3, "/mnt/volume-1", SIZE / 2, READ);
    assert_eq!(ask(&tracker).await, Answer::Percent(50));
    fake.end(7);
    assert_eq!(ask(&tracker).await, Answer::Percent(50));
}

#[tokio::test]
async fn the_destination_asked_for_tells_more_than_the_source() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.process(7, "python3")
        .fd(3, "/mnt/volume-1", SIZE / 2, READ)
        .fd(4, "/mnt/other", SIZE / 4, WRITE);
    let asked = Question {
        dest_path: Some("/mnt/other".into()),
        ..question()
    };
    assert_eq!(tracker.answer(asked).await, Ok(Answer::Percent(25)));
}

#[tokio::test]
async fn a_path_is_found_by_device_and_inode_whatever_it_is_called() {
    use std::os::unix::fs::MetadataExt;
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.write("somewhere", "");
    let metadata = std::fs::metadata(fake.path("somewhere")).unwrap();
    let device = crate::progress::device::major_minor(metadata.dev());
    let inode = metadata.ino();
    let fdinfo = |inode: u64| {
        format!(
            "pos:\t{}\nflags:\t{READ}\nmnt_id:\t36\nino:\t{inode}\n",
            SIZE / 5
        )
    };
    let mounts = format!("36 1 {device} / / rw - ext4 /dev/x rw\n");
    fake.process(6, "python3")
        .file("mountinfo", &mounts)
        .fdinfo(3, &fdinfo(inode + 1));
    fake.process(7, "python3")
        .file("mountinfo", &mounts)
        .fdinfo(3, &fdinfo(inode));
    let asked = Question {
        src_path: Some(fake.path("somewhere")),
        ..question()
    };
    assert_eq!(tracker.answer(asked).await, Ok(Answer::Percent(20)));
}

#[tokio::test]
async fn qemu_img_works_without_positions_so_nothing_is_known_of_it() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.process(7, "qemu-img").fd(3, "/mnt/volume-1", 0, READ);
    assert_eq!(ask(&tracker).await, Answer::Unknown);
    fake.end(7);
    assert_eq!(ask(&tracker).await, Answer::Unknown);
}

#[tokio::test]
async fn other_programs_are_not_looked_into() {
    let fake = Fake::new();
    fake.process(7, "qemu-system-x86")
        .fd(3, "/mnt/volume-1", SIZE / 2, READ);
    assert_eq!(ask(&tracker(&fake)).await, Answer::Percent(0));
}

#[tokio::test(start_paused = true)]
async fn a_second_migration_is_the_new_file() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.process(7, "cinder-volume")
        .fd(3, "/mnt/volume-1", SIZE, READ);
    assert_eq!(ask(&tracker).await, Answer::Percent(100));
    fake.remove("proc/7/fdinfo/3");
    fake.remove("proc/7/fd/3");
    let at_rest = Question {
        migrating: false,
        ..question()
    };
    assert_eq!(tracker.answer(at_rest).await, Ok(Answer::Percent(100)));
    assert_eq!(
        ask(&tracker).await,
        Answer::Percent(0),
        "another one by now"
    );
    fake.process(7, "cinder-volume")
        .fd(5, "/mnt/volume-1", SIZE / 20, READ);
    listing_grows_old().await;
    assert_eq!(ask(&tracker).await, Answer::Percent(5));
}

#[tokio::test(start_paused = true)]
async fn a_second_migration_is_at_0_until_its_file_is_opened() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    let answer = async |host| tracker.answer(at_host(host, question())).await.unwrap();
    fake.process(7, "cinder-volume")
        .fd(3, "/mnt/volume-1", SIZE, READ);
    assert_eq!(answer("two").await, Answer::Percent(100));
    fake.remove("proc/7/fdinfo/3");
    fake.remove("proc/7/fd/3");
    assert_eq!(answer("two").await, Answer::Percent(100));
    assert_eq!(answer("one").await, Answer::Percent(0));
    fake.process(7, "cinder-volume")
        .fd(5, "/mnt/volume-1", SIZE, READ);
    listing_grows_old().await;
    assert_eq!(answer("one").await, Answer::Percent(100));
    fake.remove("proc/7/fdinfo/5");
    fake.remove("proc/7/fd/5");
    assert_eq!(answer("one").await, Answer::Percent(100));
    assert_eq!(answer("two").await, Answer::Percent(0), "not the first one");
}

#[tokio::test]
async fn auto_looks_for_a_dd_first_and_for_open_files_then() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.process(7, "cinder-volume")
        .fd(3, "/mnt/volume-1", SIZE / 10, READ);
    let auto = Question {
        mode: CopyMode::Auto,
        ..question()
    };
    assert_eq!(tracker.answer(auto.clone()).await, Ok(Answer::Percent(10)));
    fake.dd(8, "/mnt/volume-1", "/dev/sda", SIZE / 5);
    assert_eq!(tracker.answer(auto).await, Ok(Answer::Percent(20)));
}

#[tokio::test]
async fn a_dd_that_cannot_be_looked_at_does_not_hide_open_files() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.process(6, "dd").fdinfo(1, "torn");
    fake.hang("proc/6/cmdline");
    let auto = Question {
        mode: CopyMode::Auto,
        ..question()
    };
    let answer = tracker.answer(auto.clone()).await;
    assert!(
        matches!(answer, Err(ProgressError::TimedOut { .. })),
        "{answer:?}"
    );
    fake.process(7, "cinder-volume")
        .fd(3, "/mnt/volume-1", SIZE / 10, READ);
    listing_grows_old().await;
    assert_eq!(tracker.answer(auto).await, Ok(Answer::Percent(10)));
}

#[tokio::test]
async fn what_cannot_be_seen_is_an_error_for_those_alone_who_asked_for_open_files() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.process(7, "python3").fdinfo(3, "torn");
    let answer = tracker.answer(question()).await;
    assert!(
        matches!(answer, Err(ProgressError::Malformed { .. })),
        "{answer:?}"
    );
    let auto = Question {
        mode: CopyMode::Auto,
        ..question()
    };
    assert_eq!(
        tracker.answer(auto).await,
        Ok(Answer::Unknown),
        "to see no dd is not to know that nothing is copied"
    );
}

#[tokio::test]
async fn a_finished_copy_survives_the_daemon() {
    let fake = Fake::new();
    let state = fake.path("state.json");
    for life in 0..2 {
        let interval = Duration::from_millis(50);
        let tracker = Tracker::remembering(fake.roots(), interval, state.clone()).await;
        if life == 0 {
            fake.process(7, "cinder-volume")
                .fd(3, "/mnt/volume-1", SIZE / 2, READ);
            assert_eq!(ask(&tracker).await, Answer::Percent(50));
            fake.remove("proc/7/fdinfo/3");
        }
        assert_eq!(ask(&tracker).await, Answer::Percent(100));
        tracker.watch(async {}).await;
    }
    let_time_pass(&state, 700);
    let interval = Duration::from_millis(50);
    let tracker = Tracker::remembering(fake.roots(), interval, state).await;
    assert_eq!(
        ask(&tracker).await,
        Answer::Unknown,
        "it may be of another migration by now"
    );
}
