//! Every row of the table of answers, tested with made-up processes.

use std::fs;
use std::time::Duration;

use tokio::time::Instant;

use super::fake_host::Fake;
use super::questions::{
    DESTINATION, SIZE, SOURCE, about, ask, at, at_host, eventually, question, tracker,
};
use crate::progress::tracker::CALL_LIMIT;
use crate::progress::{Answer, CopyMode, DriverCall, ProgressError, Question, Tracker};

async fn ask_whatever(tracker: &Tracker) -> Result<Answer, ProgressError> {
    tracker.answer(question()).await
}

#[tokio::test]
async fn no_dd_yet_is_0() {
    let fake = Fake::new();
    assert_eq!(ask(&tracker(&fake)).await, Answer::Percent(0));
}

#[tokio::test]
async fn no_dd_and_an_attached_volume_is_unknown() {
    let fake = Fake::new();
    let attached = Question {
        attached: true,
        ..question()
    };
    let tracker = tracker(&fake);
    assert_eq!(tracker.answer(attached.clone()).await, Ok(Answer::Unknown));
    fake.dd(7, SOURCE, DESTINATION, at(10));
    assert_eq!(
        tracker.answer(attached.clone()).await,
        Ok(Answer::Percent(10))
    );
    fake.end(7);
    assert_eq!(tracker.answer(attached).await, Ok(Answer::Percent(10)));
}

#[tokio::test]
async fn an_old_copy_says_nothing_of_a_volume_attached_since() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.dd(7, SOURCE, DESTINATION, SIZE);
    assert_eq!(ask(&tracker).await, Answer::Percent(100));
    fake.end(7);
    let attached = Question {
        attached: true,
        ..question()
    };
    assert_eq!(tracker.answer(attached).await, Ok(Answer::Unknown));
}

#[tokio::test]
async fn a_running_dd_is_the_formula() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.dd(7, SOURCE, DESTINATION, 0);
    assert_eq!(ask(&tracker).await, Answer::Percent(0));
    for (position, percent) in [
        (at(1) - 1, 0),
        (at(1), 1),
        (at(42) + 1, 42),
        (SIZE - 1, 99),
        (SIZE, 100),
        (SIZE * 2, 100),
    ] {
        fake.position(7, position);
        assert_eq!(ask(&tracker).await, Answer::Percent(percent));
    }
}

#[tokio::test]
async fn a_copy_that_begins_within_the_volume_is_as_far_as_it_is_in_the_volume() {
    let fake = Fake::new();
    fake.dd(7, SOURCE, DESTINATION, at(10));
    fake.process(7, "dd").arguments(&[
        "dd",
        &format!("if={SOURCE}"),
        &format!("of={DESTINATION}"),
        "bs=1M",
        "skip=500",
        "seek=100",
    ]);
    let tracker = tracker(&fake);
    assert_eq!(ask(&tracker).await, Answer::Percent(50));
    fake.position(7, at(30));
    assert_eq!(ask(&tracker).await, Answer::Percent(70));
    fake.position(7, at(60));
    assert_eq!(ask(&tracker).await, Answer::Percent(100));
    fake.end(7);
    assert_eq!(ask(&tracker).await, Answer::Percent(100));
}

#[tokio::test]
async fn a_dd_that_has_not_opened_its_destination_is_at_0() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.dd(7, SOURCE, DESTINATION, 0);
    fake.process(7, "dd")
        .arguments(&["dd", &format!("if={SOURCE}"), &format!("of={DESTINATION}")])
        .fd(1, "pipe:[9]", 777, "01");
    assert_eq!(ask(&tracker).await, Answer::Percent(0));
    fake.dd(7, SOURCE, DESTINATION, at(3));
    assert_eq!(ask(&tracker).await, Answer::Percent(3));
}

#[tokio::test]
async fn a_gone_dd_that_had_reached_the_end_is_100() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.dd(7, SOURCE, DESTINATION, SIZE);
    ask(&tracker).await;
    fake.end(7);
    assert_eq!(ask(&tracker).await, Answer::Percent(100));
}

#[tokio::test]
async fn a_gone_dd_that_had_not_is_the_last_answer() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.dd(7, SOURCE, DESTINATION, at(50));
    ask(&tracker).await;
    fake.end(7);
    assert_eq!(ask(&tracker).await, Answer::Percent(50));
    assert_eq!(ask(&tracker).await, Answer::Percent(50));
}

#[tokio::test]
async fn a_dead_dd_that_waits_for_its_parent_is_gone() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.dd(7, SOURCE, DESTINATION, SIZE);
    ask(&tracker).await;
    fs::remove_dir_all(fake.path("proc/7/fdinfo")).unwrap();
    fake.process(7, "dd").state('Z').file("cmdline", "");
    assert_eq!(ask(&tracker).await, Answer::Percent(100));
}

#[tokio::test]
async fn a_pid_that_belongs_to_another_process_is_gone() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.dd(7, SOURCE, DESTINATION, at(50));
    ask(&tracker).await;
    fake.end(7);
    fake.process(7, "dd")
        .start(900)
        .arguments(&["dd", "if=/dev/sdx", "of=/dev/sdy"]);
    fake.position(7, at(80));
    assert_eq!(ask(&tracker).await, Answer::Percent(50));
    fake.end(7);
    fake.process(7, "bash");
    assert_eq!(ask(&tracker).await, Answer::Percent(50));
}

#[tokio::test]
async fn a_second_migration_is_the_new_dd_and_the_first_is_forgotten() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.dd(7, SOURCE, DESTINATION, SIZE);
    assert_eq!(ask(&tracker).await, Answer::Percent(100));
    fake.end(7);
    fake.dd(8, DESTINATION, SOURCE, at(5));
    assert_eq!(ask(&tracker).await, Answer::Percent(5));
    fake.end(8);
    assert_eq!(
        ask(&tracker).await,
        Answer::Percent(5),
        "not the first one's 100"
    );
}

#[tokio::test]
async fn a_second_migration_by_the_same_pid_is_the_new_dd() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.dd(7, SOURCE, DESTINATION, SIZE);
    ask(&tracker).await;
    fake.end(7);
    fake.dd(7, SOURCE, DESTINATION, at(5));
    fake.process(7, "dd").start(900).arguments(&[
        "dd",
        &format!("if={SOURCE}"),
        &format!("of={DESTINATION}"),
    ]);
    assert_eq!(ask(&tracker).await, Answer::Percent(5));
}

#[tokio::test]
async fn a_migration_begun_after_the_volume_was_seen_at_rest_starts_at_0() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.dd(7, SOURCE, DESTINATION, SIZE);
    ask(&tracker).await;
    fake.end(7);
    let at_rest = Question {
        migrating: false,
        ..question()
    };
    assert_eq!(
        tracker.answer(at_rest.clone()).await,
        Ok(Answer::Percent(100))
    );
    assert_eq!(tracker.answer(at_rest).await, Ok(Answer::Percent(100)));
    assert_eq!(ask(&tracker).await, Answer::Percent(0));
}

#[tokio::test]
async fn a_second_migration_is_at_0_until_its_dd_starts_though_nobody_asked_in_between() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    let answer = async |host| tracker.answer(at_host(host, question())).await.unwrap();
    fake.dd(7, SOURCE, DESTINATION, SIZE);
    assert_eq!(answer("two").await, Answer::Percent(100));
    fake.end(7);
    // The old volume is still being wiped when the volume migrates back.
    fake.dd(8, "/dev/zero", SOURCE, at(10));
    assert_eq!(answer("two").await, Answer::Percent(100));
    assert_eq!(answer("one").await, Answer::Percent(0));
    fake.end(8);
    assert_eq!(answer("one").await, Answer::Percent(0));
    fake.dd(9, DESTINATION, SOURCE, at(30));
    assert_eq!(answer("one").await, Answer::Percent(30));
    fake.end(9);
    fake.dd(10, "/dev/zero", DESTINATION, at(10));
    assert_eq!(answer("one").await, Answer::Percent(100), "its own wipe");
}

#[tokio::test]
async fn a_third_migration_from_where_the_first_began_is_not_the_first() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    let answer = async |host| tracker.answer(at_host(host, question())).await.unwrap();
    fake.dd(7, SOURCE, DESTINATION, SIZE);
    assert_eq!(answer("one").await, Answer::Percent(100));
    fake.end(7);
    fake.dd(8, DESTINATION, SOURCE, SIZE);
    assert_eq!(answer("two").await, Answer::Percent(100));
    fake.end(8);
    assert_eq!(answer("one").await, Answer::Percent(0));
}

#[tokio::test]
async fn an_earlier_migration_is_known_by_its_wipe_though_nobody_asked_during_that() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    let answer = async |host| tracker.answer(at_host(host, question())).await.unwrap();
    fake.dd(7, SOURCE, DESTINATION, SIZE);
    assert_eq!(answer("two").await, Answer::Percent(100));
    fake.end(7);
    fake.dd(8, "/dev/zero", SOURCE, at(10));
    assert_eq!(answer("one").await, Answer::Percent(0));
}

#[tokio::test]
async fn of_several_the_newest_to_a_volume_counts() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.dd(7, SOURCE, DESTINATION, at(70));
    fake.dd(8, SOURCE, "/dev/sdx", at(20));
    fake.dd(9, SOURCE, "/backup/image", at(90));
    assert_eq!(ask(&tracker).await, Answer::Percent(20));
    fake.end(8);
    assert_eq!(
        ask(&tracker).await,
        Answer::Percent(70),
        "one that still runs"
    );
}

#[tokio::test]
async fn paths_in_the_question_choose_among_several() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.dd(7, SOURCE, DESTINATION, at(70));
    fake.dd(8, SOURCE, "/dev/sdx", at(20));
    let with_path = Question {
        dest_path: Some(DESTINATION.into()),
        ..question()
    };
    assert_eq!(tracker.answer(with_path).await, Ok(Answer::Percent(70)));
}

#[tokio::test]
async fn a_path_in_the_question_finds_a_copy_no_name_leads_to() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.write("dev/sdb", "");
    fake.dd(7, "/dev/sdb", "/dev/sda", at(30));
    assert_eq!(ask(&tracker).await, Answer::Unknown, "it may be this one");
    let with_path = Question {
        src_path: Some("/dev/sdb".into()),
        ..question()
    };
    assert_eq!(tracker.answer(with_path).await, Ok(Answer::Percent(30)));
    fake.end(7);
    assert_eq!(
        ask(&tracker).await,
        Answer::Percent(30),
        "and it is remembered as this volume's"
    );
    let other = Question {
        src_path: Some("/dev/sdb".into()),
        ..about("2")
    };
    assert_eq!(tracker.answer(other).await, Ok(Answer::Percent(0)));
}

#[tokio::test]
async fn a_copy_of_a_disk_that_nothing_names_leaves_volumes_of_its_size_unknown() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.write("dev/sdb", "");
    fake.write("sys/class/block/sdb/size", &(SIZE / 512).to_string());
    fake.dd(7, "/dev/sdb", "/dev/sda", at(30));
    let larger = Question {
        size: 2 * SIZE,
        ..about("2")
    };
    assert_eq!(ask(&tracker).await, Answer::Unknown);
    assert_eq!(
        tracker.answer(larger.clone()).await,
        Ok(Answer::Percent(0)),
        "not its size"
    );
    fake.dd(8, SOURCE, DESTINATION, at(40));
    assert_eq!(ask(&tracker).await, Answer::Percent(40), "there is its own");
    fake.end(8);
    fake.end(7);
    let third = async || tracker.answer(about("3")).await.unwrap();
    assert_eq!(
        third().await,
        Answer::Unknown,
        "and while cinder tidies up after the copy"
    );
    let at_rest = Question {
        migrating: false,
        ..about("3")
    };
    assert_eq!(tracker.answer(at_rest).await, Ok(Answer::Percent(0)));
}

#[tokio::test]
async fn both_names_of_a_volume_count() {
    let fake = Fake::new();
    fake.dd(7, "/dev/vg/volume-2", "/dev/sda", at(30));
    let names = vec!["volume-9".to_owned(), "volume-2".to_owned()];
    let both = Question {
        names,
        ..question()
    };
    assert_eq!(tracker(&fake).answer(both).await, Ok(Answer::Percent(30)));
}

#[tokio::test]
async fn a_failed_look_is_an_error_and_stands_in_nobody_elses_way() {
    let fake = Fake::new();
    fake.dd(7, SOURCE, DESTINATION, at(30));
    fake.dd(8, "/dev/vg/volume-2", "/dev/sda", at(40));
    let tracker = tracker(&fake);
    ask(&tracker).await;
    fake.process(7, "dd")
        .arguments(&["dd", &format!("if={SOURCE}"), &format!("of={DESTINATION}")])
        .fdinfo(1, "torn");
    let error = tracker.answer(question()).await.unwrap_err();
    assert!(matches!(error, ProgressError::Malformed { .. }));
    assert!(error.path().ends_with("proc/7/fdinfo/1"));
    assert_eq!(tracker.answer(about("2")).await, Ok(Answer::Percent(40)));
}

/// The clock is paused, and does not advance by itself while a read hangs. Only the test advances it.
#[tokio::test(start_paused = true)]
async fn a_look_that_hangs_costs_one_caller_a_bounded_wait() {
    let fake = Fake::new();
    fake.dd(7, SOURCE, DESTINATION, at(30));
    fake.dd(8, "/dev/vg/volume-2", "/dev/sda", at(40));
    let tracker = tracker(&fake);
    assert_eq!(ask(&tracker).await, Answer::Percent(30));
    fake.hang("proc/7/fdinfo/1");
    // A position that was read at this very moment would not be read again.
    tokio::time::advance(Duration::from_millis(1)).await;
    let begun = Instant::now();
    let callers: Vec<_> = (0..200)
        .map(|_| {
            let tracker = tracker.clone();
            tokio::spawn(async move { tracker.answer(question()).await })
        })
        .collect();
    // By now each of them waits or reads.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let other = tracker.answer(about("2")).await;
    assert_eq!(other, Ok(Answer::Percent(40)));
    assert_eq!(begun.elapsed(), Duration::ZERO, "held up by another's");
    tokio::time::advance(CALL_LIMIT).await;
    for caller in callers {
        let answer = caller.await.unwrap();
        assert!(
            matches!(answer, Err(ProgressError::TimedOut { .. })),
            "{answer:?}"
        );
    }
    tokio::time::resume();
    let without_dd = tracker.answer(about("3")).await;
    assert_eq!(
        without_dd,
        Ok(Answer::Percent(0)),
        "the one that hangs is known to be another's"
    );
    // Tests that run at the same time have a few such threads.
    let looking = fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("comm")).ok())
        .filter(|name| name.trim() == "progress-look")
        .count();
    assert!(looking < 100, "{looking} threads: one each?");
}

#[tokio::test]
async fn a_command_line_that_hangs_leaves_the_unfound_unknown_and_the_found_known() {
    let fake = Fake::new();
    fake.process(7, "dd");
    fake.hang("proc/7/cmdline");
    fake.dd(8, "/dev/vg/volume-2", "/dev/sda", at(40));
    let tracker = tracker(&fake);
    assert_eq!(tracker.answer(about("2")).await, Ok(Answer::Percent(40)));
    let answer = tracker.answer(question()).await;
    assert!(
        matches!(answer, Err(ProgressError::TimedOut { .. })),
        "{answer:?}"
    );
    fake.end(7);
    assert_eq!(ask(&tracker).await, Answer::Percent(0));
}

#[tokio::test]
async fn a_hundred_dds_of_somebody_else_change_no_answer_though_all_their_command_lines_hang() {
    let fake = Fake::new();
    for pid in 100..200 {
        fake.dd(pid, "/dev/vg/volume-1", "/x", at(90));
        fake.process(pid, "dd").user(54321);
        fake.hang(&format!("proc/{pid}/cmdline"));
    }
    fake.dd(8, "/dev/vg/volume-2", "/dev/sda", at(40));
    let tracker = tracker(&fake);
    assert_eq!(tracker.answer(about("2")).await, Ok(Answer::Percent(40)));
    assert_eq!(tracker.answer(question()).await, Ok(Answer::Percent(0)));
    assert_eq!(tracker.running().await.unwrap().unseen, None);
}

#[tokio::test]
async fn a_wipe_after_a_failed_copy_of_its_destination_proves_nothing() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.dd(7, SOURCE, DESTINATION, at(60));
    ask(&tracker).await;
    fake.end(7);
    fake.dd(8, "/dev/zero", DESTINATION, at(10));
    assert_eq!(ask(&tracker).await, Answer::Percent(60));
    fake.end(8);
    fake.dd(9, "/dev/zero", SOURCE, at(10));
    assert_eq!(ask(&tracker).await, Answer::Percent(100));
}

#[tokio::test]
async fn an_encrypted_volume_is_smaller_than_its_size_and_complete_all_the_same() {
    let fake = Fake::new();
    let header = 16 << 20;
    fake.write("dev/dm-5", "");
    fake.write(
        "sys/class/block/dm-5/size",
        &((SIZE - header) / 512).to_string(),
    );
    fake.write("sys/block/dm-5/dm/name", "crypt-1\n");
    fake.write("sys/block/dm-5/dm/uuid", "CRYPT-LUKS1-5454\n");
    fake.write("sys/block/dm-5/slaves/dm-2/dev", "254:2\n");
    fake.write("sys/block/dm-2/dm/name", "vg_two-volume--1\n");
    let tracker = tracker(&fake);
    fake.dd(7, "/dev/dm-5", "/dev/dm-6", at(50));
    assert_eq!(ask(&tracker).await, Answer::Percent(50));
    fake.position(7, SIZE - header);
    assert_eq!(ask(&tracker).await, Answer::Percent(98));
    fake.end(7);
    assert_eq!(ask(&tracker).await, Answer::Percent(100));
}

#[tokio::test]
async fn a_volume_is_found_by_whatever_template_its_name_is_made_of() {
    let fake = Fake::new();
    fake.dd(7, "/dev/vg/a-1-b", "/dev/sda", at(10));
    fake.dd(8, "/dev/mapper/my--vg-os_2", "/dev/sdb", at(20));
    fake.dd(9, "/var/lib/cinder/mnt/5f3a/3", "/dev/sdc", at(30));
    let tracker = tracker(&fake);
    for (name, percent) in [("a-1-b", 10), ("os_2", 20), ("3", 30)] {
        let asked = Question {
            names: vec![name.to_owned()],
            ..about(name)
        };
        assert_eq!(
            tracker.answer(asked).await,
            Ok(Answer::Percent(percent)),
            "{name}"
        );
    }
}

#[tokio::test]
async fn sixty_four_copies_at_once_are_each_told_rightly() {
    let fake = Fake::new();
    for number in 0..64 {
        let (source, position) = (format!("/dev/vg/volume-{number}"), at(number + 1));
        let pid = i32::try_from(number).unwrap() + 100;
        fake.dd(pid, &source, &format!("/dev/sd{number}"), position);
    }
    let tracker = tracker(&fake);
    for _ in 0..2 {
        let answers = (0..64).map(|number: u8| {
            let tracker = tracker.clone();
            async move { (number, tracker.answer(about(&number.to_string())).await) }
        });
        for (number, answer) in futures_util::future::join_all(answers).await {
            assert_eq!(answer, Ok(Answer::Percent(number + 1)));
        }
    }
    assert_eq!(tracker.running().await.unwrap().running.len(), 64);
}

#[tokio::test]
async fn a_path_whose_names_hang_holds_up_nobody_elses_volume() {
    let fake = Fake::new();
    fake.write("dev/dm-9", "");
    fake.write("sys/block/dm-9/dm/name", "");
    fake.hang("sys/block/dm-9/dm/name");
    fake.dd(7, "/dev/dm-9", "/dev/sda", at(30));
    fake.dd(8, "/dev/vg/volume-2", "/dev/sdb", at(40));
    let tracker = tracker(&fake);
    assert_eq!(tracker.answer(about("2")).await, Ok(Answer::Percent(40)));
    let answer = ask_whatever(&tracker).await;
    assert!(
        matches!(answer, Err(ProgressError::TimedOut { .. })),
        "{answer:?}: it may be that one's"
    );
}

#[tokio::test]
async fn other_modes_are_unknown() {
    let fake = Fake::new();
    fake.dd(7, SOURCE, DESTINATION, at(60));
    let tracker = tracker(&fake);
    for mode in [CopyMode::DriverBased, CopyMode::Other] {
        let asked = Question { mode, ..question() };
        assert_eq!(tracker.answer(asked).await, Ok(Answer::Unknown));
    }
    let auto = Question {
        mode: CopyMode::Auto,
        ..question()
    };
    assert_eq!(tracker.answer(auto).await, Ok(Answer::Percent(60)));
}

#[tokio::test]
async fn the_drivers_command_is_asked_when_nothing_is_to_be_seen() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    let asked = |mode, script: &str| Question {
        mode,
        driver: Some(DriverCall {
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            timeout: Duration::from_secs(30),
            input: Vec::new(),
        }),
        ..question()
    };
    let answer = async |mode, script| tracker.answer(asked(mode, script)).await.unwrap();
    for mode in [CopyMode::DriverBased, CopyMode::Auto] {
        assert_eq!(answer(mode, "echo 33").await, Answer::Percent(33));
        assert_eq!(answer(mode, "exit 1").await, Answer::Unknown);
    }
    assert_eq!(answer(CopyMode::DriverBased, "true").await, Answer::Unknown);
    assert_eq!(
        answer(CopyMode::Auto, "true").await,
        Answer::Percent(0),
        "it does not know of a copy either"
    );
    for mode in [CopyMode::HostBased, CopyMode::FileBased] {
        assert_eq!(
            answer(mode, "echo 33").await,
            Answer::Percent(0),
            "not asked"
        );
    }
    fake.dd(7, SOURCE, DESTINATION, at(60));
    assert_eq!(
        answer(CopyMode::Auto, "echo 33").await,
        Answer::Percent(60),
        "a dd speaks first"
    );
}

#[tokio::test]
async fn the_watch_sees_a_copy_and_its_last_position_though_nobody_asks() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let watch = tokio::spawn(tracker.clone().watch(async {
        let _ = stopped.await;
    }));
    fake.dd(7, SOURCE, DESTINATION, at(10));
    seen(&tracker, at(10)).await;
    fake.position(7, SIZE);
    seen(&tracker, SIZE).await;
    fake.end(7);
    let over = || tracker.remembers(7).is_some_and(|(_, runs)| !runs);
    eventually("its end is noticed", async || over()).await;
    assert_eq!(ask(&tracker).await, Answer::Percent(100));
    stop.send(()).unwrap();
    watch.await.unwrap();
}

async fn seen(tracker: &Tracker, position: u64) {
    let there = || tracker.remembers(7) == Some((Some(position), true));
    eventually("it is seen there", async || there()).await;
}

#[tokio::test]
async fn a_newer_copy_beside_a_known_one_is_noticed() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    fake.dd(7, SOURCE, DESTINATION, at(70));
    assert_eq!(ask(&tracker).await, Answer::Percent(70));
    fake.dd(8, SOURCE, DESTINATION, at(20));
    let newer = async || ask(&tracker).await == Answer::Percent(20);
    eventually("the newer one counts", newer).await;
}

#[tokio::test]
async fn a_flood_of_questions_about_unknown_volumes_shares_its_scans() {
    let fake = Fake::new();
    for pid in 2..200 {
        fake.process(pid, "nova");
    }
    let tracker = tracker(&fake);
    let begun = Instant::now();
    let callers: Vec<_> = (0..1000)
        .map(|number| {
            let tracker = tracker.clone();
            tokio::spawn(async move { tracker.answer(about(&format!("unknown-{number}"))).await })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), Ok(Answer::Percent(0)));
    }
    let gaps = begun.elapsed().as_millis() / 100 + 1;
    assert!(
        tracker.scans().await as u128 <= gaps,
        "more than one scan in 100 ms"
    );
}

#[tokio::test]
async fn an_answer_about_a_known_dd_reads_its_position_and_nothing_else() {
    let fake = Fake::new();
    let tracker = Tracker::new(fake.roots(), Duration::from_secs(3600));
    fake.dd(7, SOURCE, DESTINATION, at(10));
    for _ in 0..2 {
        assert_eq!(ask(&tracker).await, Answer::Percent(10));
    }
    for file in ["comm", "stat", "cmdline", "fdinfo/0", "fd/0", "fd/1"] {
        fake.remove(&format!("proc/7/{file}"));
    }
    fake.position(7, at(20));
    assert_eq!(ask(&tracker).await, Answer::Percent(20));
}

#[tokio::test]
async fn a_dd_started_just_before_the_question_is_found_however_fresh_the_last_scan() {
    let fake = Fake::new();
    let tracker = Tracker::new(fake.roots(), Duration::from_secs(3600));
    assert_eq!(ask(&tracker).await, Answer::Percent(0));
    fake.dd(7, SOURCE, DESTINATION, at(70));
    assert_eq!(ask(&tracker).await, Answer::Percent(70));
    fake.end(7);
    fake.dd(8, SOURCE, DESTINATION, at(20));
    assert_eq!(ask(&tracker).await, Answer::Percent(20));
}
