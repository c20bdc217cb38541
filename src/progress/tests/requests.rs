//! Copies of unnamed disks, identified by the request for their migration or by the volume's record.

use std::time::Duration;

use super::disks::{FC, N, NAA, READ, TEMPLATE, V, WRITE, answer, disk, question, with_record};
use super::fake_host::Fake;
use super::questions::{SIZE, at, eventually, tracker};
use crate::progress::proc::process::now;
use crate::progress::{Answer, CopyMode, Hardware, KnownBy, MigrationRequest, Question, Tracker};

/// Adds a dd that is at 30 percent. Its start is after all requests of a test, however slow the machine is.
fn dd(fake: &Fake, pid: i32, source: &str) {
    dd_at(fake, pid, source, 30);
}

fn dd_at(fake: &Fake, pid: i32, source: &str, percent: u64) {
    fake.dd(pid, source, "/dev/sdz", at(percent));
    let later = now() + 1000 * procfs::ticks_per_second();
    fake.process(pid, "dd")
        .start(later)
        .arguments(&["dd", &format!("if={source}"), "of=/dev/sdz"]);
}

fn request(id: &str) -> MigrationRequest {
    MigrationRequest {
        volume_id: id.to_owned(),
        ids: vec![id.to_owned()],
        size: SIZE,
        record: Hardware::default(),
        attached: false,
        volume_name_template: TEMPLATE.to_owned(),
    }
}

#[tokio::test]
async fn the_only_copy_of_that_size_is_that_of_the_only_migration_that_was_asked_for() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    tracker.requested(request(V), Duration::ZERO);
    assert_eq!(answer(&tracker, question(V)).await, Answer::Percent(0));
    let source = disk(&fake, "sdb", FC);
    dd(&fake, 7, &source);
    assert_eq!(answer(&tracker, question(V)).await, Answer::Percent(30));
    assert_eq!(answer(&tracker, question(N)).await, Answer::Percent(0));
    // A second migration begins its copy later. The first copy is identified, so the second is, too.
    tracker.requested(request(N), Duration::ZERO);
    assert_eq!(answer(&tracker, question(V)).await, Answer::Percent(30));
    let second = disk(&fake, "sdc", "");
    dd_at(&fake, 8, &second, 20);
    assert_eq!(answer(&tracker, question(N)).await, Answer::Percent(20));
    assert_eq!(answer(&tracker, question(V)).await, Answer::Percent(30));
}

#[tokio::test]
async fn where_two_migrations_or_two_copies_come_into_question_none_is_known() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    tracker.requested(request(V), Duration::ZERO);
    tracker.requested(request(N), Duration::ZERO);
    let source = disk(&fake, "sdb", FC);
    dd(&fake, 7, &source);
    assert_eq!(answer(&tracker, question(V)).await, Answer::Unknown);
    assert_eq!(answer(&tracker, question(N)).await, Answer::Unknown);
    // One of the two is identified by the record, so the other is, too.
    let second = disk(&fake, "sdc", "");
    fake.write("sys/block/sdc/device/wwid", &format!("naa.{NAA}\n"));
    dd(&fake, 8, &second);
    assert_eq!(answer(&tracker, question(V)).await, Answer::Unknown);
    assert_eq!(
        answer(&tracker, with_record(N, NAA)).await,
        Answer::Percent(30)
    );
    assert_eq!(answer(&tracker, question(V)).await, Answer::Percent(30));
}

#[tokio::test]
async fn a_second_copy_that_nobody_asked_for_makes_the_first_unknown_again() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    tracker.requested(request(V), Duration::ZERO);
    let source = disk(&fake, "sdb", FC);
    dd(&fake, 7, &source);
    assert_eq!(answer(&tracker, question(V)).await, Answer::Percent(30));
    let second = disk(&fake, "sdc", "");
    dd(&fake, 8, &second);
    assert_eq!(tracker.running().await.unwrap().running.len(), 2);
    assert_eq!(answer(&tracker, question(V)).await, Answer::Unknown);
    fake.end(8);
    let running = async || tracker.running().await.unwrap().running.len() == 1;
    eventually("the second is gone", running).await;
    assert_eq!(answer(&tracker, question(V)).await, Answer::Percent(30));
}

#[tokio::test]
async fn a_copy_begun_before_the_request_or_of_another_size_is_not_its() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    let source = disk(&fake, "sdb", FC);
    // Its start is long before any request of this test.
    fake.dd(7, &source, "/dev/sdz", at(30));
    tracker.requested(request(V), Duration::ZERO);
    assert_eq!(answer(&tracker, question(V)).await, Answer::Percent(0));
    fake.end(7);
    tracker.requested(request(V), Duration::ZERO);
    let sectors = (SIZE - (1 << 20)) / 512;
    fake.write("sys/class/block/sdb/size", &sectors.to_string());
    dd(&fake, 8, &source);
    assert_eq!(
        answer(&tracker, question(V)).await,
        Answer::Unknown,
        "encrypted, perhaps"
    );
}

/// Adds a cinder-volume with a copy between two open files, both at `percent`.
fn pair(fake: &Fake, pid: i32, source: &str, percent: u64) {
    fake.process(pid, "cinder-volume")
        .fd(20, source, at(percent), READ)
        .fd(21, "/dev/sdz", at(percent), WRITE);
}

fn through_files(id: &str) -> Question {
    Question {
        mode: CopyMode::FileBased,
        ..question(id)
    }
}

/// Reads all open files, as the sweep of the upkeep does.
async fn sweep(tracker: &Tracker) -> usize {
    tracker.running().await.unwrap().running.len()
}

/// A node with two services of cinder-volume, which have no file open when the requests for the migrations pass.
async fn asked_for(fake: &Fake, ids: &[&str]) -> Tracker {
    let tracker = tracker(fake);
    for pid in [7, 8] {
        fake.process(pid, "cinder-volume");
    }
    for id in ids {
        tracker.requested(request(id), Duration::ZERO);
    }
    assert_eq!(sweep(&tracker).await, 0);
    tracker
}

#[tokio::test]
async fn the_only_copy_through_files_of_that_size_is_that_of_the_only_migration_too() {
    let fake = Fake::new();
    let tracker = asked_for(&fake, &[V]).await;
    pair(&fake, 7, &disk(&fake, "sdb", FC), 30);
    assert_eq!(sweep(&tracker).await, 1);
    for (id, expected) in [(V, Answer::Percent(30)), (N, Answer::Percent(0))] {
        let answer = answer(&tracker, through_files(id)).await;
        assert_eq!(answer, expected, "{id}");
    }
    let copy = &tracker.running().await.unwrap().running[0];
    assert_eq!(copy.volume_id(TEMPLATE).as_deref(), Some(V));
    assert_eq!(copy.known_by(TEMPLATE), Some(KnownBy::Request));
    fake.end(7);
    let gone = async || sweep(&tracker).await == 0;
    eventually("its end is noticed", gone).await;
    let answer = answer(&tracker, through_files(V)).await;
    assert_eq!(answer, Answer::Percent(30), "what was known stays known");
}

#[tokio::test]
async fn of_copies_through_files_none_is_known_where_there_may_be_another() {
    // A copy of another migration.
    let fake = Fake::new();
    let tracker = asked_for(&fake, &[V, N]).await;
    pair(&fake, 7, &disk(&fake, "sdb", FC), 30);
    assert_eq!(sweep(&tracker).await, 1);
    for id in [V, N] {
        let answer = answer(&tracker, through_files(id)).await;
        assert_eq!(answer, Answer::Unknown, "{id}");
    }
    // A copy of another disk, by dd or through open files.
    for by_dd in [false, true] {
        let fake = Fake::new();
        let tracker = asked_for(&fake, &[V]).await;
        pair(&fake, 7, &disk(&fake, "sdb", FC), 30);
        assert_eq!(sweep(&tracker).await, 1);
        let known = answer(&tracker, through_files(V)).await;
        assert_eq!(known, Answer::Percent(30), "{by_dd}");
        let second = disk(&fake, "sdc", "");
        if by_dd {
            dd(&fake, 9, &second);
        } else {
            pair(&fake, 8, &second, 20);
        }
        assert_eq!(sweep(&tracker).await, 2);
        let known = answer(&tracker, through_files(V)).await;
        assert_eq!(known, Answer::Unknown, "{by_dd}");
    }
}

#[tokio::test]
async fn a_copy_through_files_that_was_there_when_a_migration_was_asked_for_is_not_known_to_be_its()
{
    let fake = Fake::new();
    let tracker = tracker(&fake);
    pair(&fake, 7, &disk(&fake, "sdb", FC), 30);
    tracker.requested(request(V), Duration::ZERO);
    assert_eq!(sweep(&tracker).await, 1);
    let answer = answer(&tracker, through_files(V)).await;
    assert_eq!(answer, Answer::Unknown);
}

#[tokio::test]
async fn a_copy_through_files_is_known_by_a_number_in_the_volumes_record() {
    let by_record = |id| Question {
        mode: CopyMode::FileBased,
        ..with_record(id, NAA)
    };
    let fake = Fake::new();
    let tracker = tracker(&fake);
    let source = disk(&fake, "sdb", FC);
    fake.write("sys/block/sdb/device/wwid", &format!("naa.{NAA}\n"));
    pair(&fake, 7, &source, 30);
    assert_eq!(sweep(&tracker).await, 1);
    let own = answer(&tracker, by_record(V)).await;
    assert_eq!(own, Answer::Percent(30));
    let copy = &tracker.running().await.unwrap().running[0];
    assert_eq!(copy.known_by(TEMPLATE), Some(KnownBy::Record));
    let other = answer(&tracker, through_files(N)).await;
    assert_eq!(other, Answer::Percent(0), "it is known");
}

#[tokio::test]
async fn requests_outlive_the_daemon() {
    let fake = Fake::new();
    let state = fake.path("state.json");
    let interval = Duration::from_millis(50);
    let source = disk(&fake, "sdb", FC);
    let before = Tracker::remembering(fake.roots(), interval, state.clone()).await;
    before.requested(request(V), Duration::ZERO);
    before.watch(async {}).await;
    let tracker = Tracker::remembering(fake.roots(), interval, state).await;
    dd(&fake, 7, &source);
    assert_eq!(answer(&tracker, question(V)).await, Answer::Percent(30));
}
