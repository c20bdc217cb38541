//! Restarts of the daemon before, during and after a copy: what was known is known again.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::fake::Fake;
use super::{Answer, Mode, Question, Tracker};

const SIZE: u64 = 1000 << 20;
const SOURCE: &str = "/dev/mapper/vg_two-volume--1";
const DESTINATION: &str = "/dev/mapper/vg_one-volume--1";

fn question() -> Question {
    Question {
        volume_id: "1".to_owned(),
        names: vec!["volume-1".to_owned()],
        size: SIZE,
        attached: false,
        migrating: true,
        src_path: None,
        driver: None,
        dest_path: None,
        mode: Mode::HostBased,
    }
}

/// A daemon's life: started with what the file holds, asked, and stopped in good order.
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
}

#[tokio::test]
async fn a_copy_that_goes_on_is_found_again_with_its_names() {
    let fake = Fake::new();
    fake.write("dev/sdb", "");
    let link = "dev/disk/by-path/ip-1:3260-iscsi-iqn:volume-1-lun-1";
    fake.link(link, "../../sdb");
    fake.dd(7, "/dev/sdb", "/dev/sda", SIZE / 10);
    let life = Life::begin(&fake).await;
    assert_eq!(life.ask().await, 10);
    life.end().await;
    fake.remove(link);
    fake.position(7, SIZE / 5);
    let life = Life::begin(&fake).await;
    assert_eq!(life.ask().await, 20, "though no link names it any more");
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
    let life = Life::begin(&fake).await;
    assert_eq!(life.ask().await, 50);
    life.end().await;
    fake.end(7);
    let life = Life::begin(&fake).await;
    assert_eq!(life.ask().await, 50);
    life.end().await;
    fake.dd(8, "/dev/zero", SOURCE, 0);
    let life = Life::begin(&fake).await;
    assert_eq!(life.ask().await, 100);
    life.end().await;
    fake.end(8);
    let life = Life::begin(&fake).await;
    assert_eq!(life.ask().await, 100, "the wipe is remembered too");
    life.end().await;
}

#[tokio::test]
async fn another_process_of_the_same_pid_is_not_the_copy() {
    let fake = Fake::new();
    fake.dd(7, SOURCE, DESTINATION, SIZE / 2);
    let life = Life::begin(&fake).await;
    assert_eq!(life.ask().await, 50);
    life.end().await;
    fake.end(7);
    fake.process(7, "dd")
        .start(900)
        .arguments(&["dd", "if=/dev/sdx", "of=/dev/sdy"]);
    fake.position(7, SIZE);
    let life = Life::begin(&fake).await;
    assert_eq!(life.ask().await, 50);
    life.end().await;
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
    let life = Life::begin(&fake).await;
    assert_eq!(life.ask().await, 0, "another migration by now");
    life.end().await;
}

#[tokio::test]
async fn a_daemon_that_is_killed_loses_a_moment_at_most() {
    let fake = Fake::new();
    fake.dd(7, SOURCE, DESTINATION, SIZE / 2);
    let life = Life::begin(&fake).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while !state_file(&fake).exists() {
        assert!(Instant::now() < deadline, "never written");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    life.watch.abort();
    fake.end(7);
    let life = Life::begin(&fake).await;
    assert_eq!(life.ask().await, 50);
    life.end().await;
}

#[tokio::test]
async fn a_spoilt_file_and_an_unwritable_place_stop_nothing() {
    let fake = Fake::new();
    fake.write("run/state.json", "{\"version\":1,");
    fake.dd(7, SOURCE, DESTINATION, SIZE / 2);
    let life = Life::begin(&fake).await;
    assert_eq!(life.ask().await, 50);
    life.end().await;
    let mended = fs::read_to_string(state_file(&fake)).unwrap();
    assert!(mended.contains("\"position\":524288000"), "{mended}");

    fs::remove_dir_all(fake.path("run")).unwrap();
    fake.write("run", "a file in the place of the folder");
    let life = Life::begin(&fake).await;
    assert_eq!(life.ask().await, 50);
    life.end().await;
}
