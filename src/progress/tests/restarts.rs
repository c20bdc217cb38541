//! Restarts of the daemon before, during and after a copy. The daemon knows afterwards what it knew before.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::fake_host::Fake;
use super::questions::{DESTINATION, SIZE, SOURCE, eventually, let_time_pass, question};
use crate::progress::{Answer, CopyMode, Question, Tracker};

/// One run of a daemon: started with the state file, asked, and stopped in order.
struct Life {
    tracker: Tracker,
    stop: tokio::sync::oneshot::Sender<()>,
    watch: tokio::task::JoinHandle<()>,
}

fn state_file(fake: &Fake) -> PathBuf {
    fake.path("run/state.json")
}

impl Life {
    async fn begin(fake: &Fake) -> Self {
        fake.write("proc/sys/kernel/random/boot_id", "7d3e\n");
        let interval = Duration::from_millis(50);
        let tracker = Tracker::remembering(fake.roots(), interval, state_file(fake)).await;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let watch = tokio::spawn(tracker.clone().watch(async {
            let _ = stopped.await;
        }));
        Self {
            tracker,
            stop,
            watch,
        }
    }

    async fn ask(&self) -> u8 {
        match self.tracker.answer(question()).await.unwrap() {
            Answer::Percent(percent) => percent,
            Answer::Unknown => panic!("nothing known"),
        }
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.watch.await.unwrap();
    }

    /// A whole run, in which one question has this answer.
    async fn says(fake: &Fake, percent: u8, why: &str) {
        let life = Self::begin(fake).await;
        assert_eq!(life.ask().await, percent, "{why}");
        life.end().await;
    }
}

#[tokio::test]
async fn a_copy_that_goes_on_is_found_again_with_its_names() {
    let fake = Fake::new();
    fake.write("dev/sdb", "");
    let link = "dev/disk/by-path/ip-1:3260-iscsi-iqn:volume-1-lun-1";
    fake.link(link, "../../sdb");
    fake.dd(7, "/dev/sdb", "/dev/sda", SIZE / 10);
    Life::says(&fake, 10, "while it runs").await;
    fake.remove(link);
    fake.position(7, SIZE / 5);
    Life::says(&fake, 20, "though no link names it any more").await;
}

/// The daemon runs all its async tasks on one thread, so a read there would delay all of them.
#[tokio::test]
async fn a_boot_id_that_hangs_holds_up_no_answer() {
    let fake = Fake::new();
    fake.dd(7, SOURCE, DESTINATION, SIZE / 10);
    let life = Life::begin(&fake).await;
    fake.hang("proc/sys/kernel/random/boot_id");
    tokio::task::yield_now().await;
    assert_eq!(life.ask().await, 10);
    life.end().await;
}

#[tokio::test]
async fn a_copy_that_ended_before_the_restart_is_remembered() {
    let fake = Fake::new();
    fake.dd(7, SOURCE, DESTINATION, SIZE);
    let life = Life::begin(&fake).await;
    assert_eq!(life.ask().await, 100);
    fake.end(7);
    assert_eq!(life.ask().await, 100);
    life.end().await;
    for _ in 0..2 {
        let life = Life::begin(&fake).await;
        assert_eq!(life.ask().await, 100);
        life.end().await;
    }
}

#[tokio::test]
async fn a_copy_that_ended_while_the_daemon_was_down_is_the_last_answer_and_100_once_wiped() {
    let fake = Fake::new();
    fake.dd(7, SOURCE, DESTINATION, SIZE / 2);
    Life::says(&fake, 50, "while it runs").await;
    fake.end(7);
    Life::says(&fake, 50, "the last that was seen").await;
    fake.dd(8, "/dev/zero", SOURCE, 0);
    Life::says(&fake, 100, "its source is wiped").await;
    fake.end(8);
    Life::says(&fake, 100, "the wipe is remembered too").await;
}

#[tokio::test]
async fn a_copy_that_is_long_over_may_be_of_another_migration() {
    let fake = Fake::new();
    fake.dd(7, SOURCE, DESTINATION, SIZE);
    let life = Life::begin(&fake).await;
    let scanned = async || !life.tracker.seen().running.is_empty();
    eventually("the copy is seen", scanned).await;
    fake.end(7);
    eventually("its end is seen", async || !scanned().await).await;
    life.end().await;
    let_time_pass(&state_file(&fake), 500);
    Life::says(&fake, 100, "cinder may still be deleting the old volume").await;
    let_time_pass(&state_file(&fake), 500);
    Life::says(&fake, 100, "asked all the while").await;
    let_time_pass(&state_file(&fake), 700);
    let life = Life::begin(&fake).await;
    assert_eq!(life.tracker.answer(question()).await, Ok(Answer::Unknown));
    let at_rest = Question {
        migrating: false,
        ..question()
    };
    assert_eq!(life.tracker.answer(at_rest).await, Ok(Answer::Percent(100)));
    fake.dd(8, DESTINATION, SOURCE, SIZE / 10);
    assert_eq!(life.ask().await, 10);
    life.end().await;
}

/// While a migration completes, no other saved field changes. So this change alone has to cause a write.
#[tokio::test]
async fn that_a_copy_was_asked_about_long_after_its_end_is_remembered() {
    let fake = Fake::new();
    for mode in [CopyMode::HostBased, CopyMode::FileBased] {
        let question = || Question { mode, ..question() };
        let _ = fs::remove_file(state_file(&fake));
        match mode {
            CopyMode::FileBased => {
                fake.process(7, "cinder-volume")
                    .fd(20, SOURCE, SIZE, "0100000")
                    .fd(21, DESTINATION, SIZE, "0100001");
            }
            _ => fake.dd(7, SOURCE, DESTINATION, SIZE),
        }
        let life = Life::begin(&fake).await;
        let hundred = Ok(Answer::Percent(100));
        assert_eq!(life.tracker.answer(question()).await, hundred);
        fake.end(7);
        let over = async || life.tracker.seen().running.is_empty();
        eventually("its end is seen", over).await;
        life.end().await;
        for _ in 0..3 {
            let_time_pass(&state_file(&fake), 500);
            let life = Life::begin(&fake).await;
            // The first write after a start happens whether or not anything has changed.
            fs::remove_file(state_file(&fake)).unwrap();
            eventually("it is written", async || state_file(&fake).exists()).await;
            let answer = life.tracker.answer(question()).await;
            assert_eq!(answer, hundred, "{mode:?}");
            life.end().await;
        }
    }
}

#[tokio::test]
async fn what_an_earlier_release_has_written_down_is_taken_up() {
    let fake = Fake::new();
    let stored = include_str!("../../../tests/fixtures/state/version-1.json");
    fake.write("run/state.json", stored);
    let life = Life::begin(&fake).await;
    for (id, mode, percent) in [
        (
            "b5012f4a-d256-45a1-8370-86a6dd7e6dde",
            CopyMode::HostBased,
            50,
        ),
        (
            "0f1c3a52-7be9-4a54-a3f6-3d8a0c6f9a11",
            CopyMode::FileBased,
            100,
        ),
    ] {
        let at_rest = Question {
            mode,
            migrating: false,
            ..Question::about(id, &format!("volume-{id}"), 1 << 30)
        };
        let answer = life.tracker.answer(at_rest).await;
        assert_eq!(answer, Ok(Answer::Percent(percent)), "{mode:?}");
    }
    life.end().await;
}

#[tokio::test]
async fn another_process_of_the_same_pid_is_not_the_copy() {
    let fake = Fake::new();
    fake.dd(7, SOURCE, DESTINATION, SIZE / 2);
    Life::says(&fake, 50, "while it runs").await;
    fake.end(7);
    fake.process(7, "dd")
        .start(900)
        .arguments(&["dd", "if=/dev/sdx", "of=/dev/sdy"]);
    fake.position(7, SIZE);
    Life::says(&fake, 50, "the last that was seen").await;
}

#[tokio::test]
async fn what_is_settled_stays_so() {
    let fake = Fake::new();
    fake.dd(7, SOURCE, DESTINATION, SIZE);
    let life = Life::begin(&fake).await;
    life.ask().await;
    fake.end(7);
    let at_rest = Question {
        migrating: false,
        ..question()
    };
    assert_eq!(life.tracker.answer(at_rest).await, Ok(Answer::Percent(100)));
    life.end().await;
    Life::says(&fake, 0, "another migration by now").await;
}

#[tokio::test]
async fn a_daemon_that_is_killed_loses_a_moment_at_most() {
    let fake = Fake::new();
    fake.dd(7, SOURCE, DESTINATION, SIZE / 2);
    let life = Life::begin(&fake).await;
    let written = async || state_file(&fake).exists();
    eventually("the state file is written", written).await;
    life.watch.abort();
    fake.end(7);
    Life::says(&fake, 50, "the last that was written down").await;
}

#[tokio::test]
async fn a_spoilt_file_and_an_unwritable_place_stop_nothing() {
    let fake = Fake::new();
    fake.write("run/state.json", "{\"version\":1,");
    fake.dd(7, SOURCE, DESTINATION, SIZE / 2);
    Life::says(&fake, 50, "while it runs").await;
    let mended = fs::read_to_string(state_file(&fake)).unwrap();
    assert!(mended.contains("\"position\":524288000"), "{mended}");

    fs::remove_dir_all(fake.path("run")).unwrap();
    fake.write("run", "a file in the place of the folder");
    Life::says(&fake, 50, "while it runs").await;
}
