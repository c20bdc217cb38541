//! The table of `verdict`, row by row, for copies by dd and through open files.

use std::time::{Duration, SystemTime};

use super::fake_host::Fake;
use super::questions::{eventually, let_time_pass};
use crate::progress::{Answer, CopyMode, Hardware, MigrationRequest, Question, Tracker};

const V: &str = "b5012f4a-d256-45a1-8370-86a6dd7e6dde";
const N: &str = "0f1c3a52-7be9-4a54-a3f6-3d8a0c6f9a11";

/// So large that no copy could end between two scans, even when a slow machine delays the test.
const SIZE: u64 = 1 << 40;

const READ: &str = "0100000";
const WRITE: &str = "0100001";

const INTERVAL: Duration = Duration::from_millis(50);

/// The two ways of copying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Dd,
    Files,
}

impl Way {
    const BOTH: [Self; 2] = [Self::Dd, Self::Files];

    /// The question about the volume, in the mode of this way.
    fn question(self) -> Question {
        Question {
            mode: match self {
                Self::Dd => CopyMode::HostBased,
                Self::Files => CopyMode::FileBased,
            },
            host: Some("one".to_owned()),
            ..Question::about(V, &format!("volume-{V}"), SIZE)
        }
    }

    /// Adds a copy of `source` that is at `percent`.
    fn copy(self, fake: &Fake, source: &str, percent: u64) {
        let position = (SIZE * percent).div_ceil(100);
        match self {
            Self::Dd => fake.dd(7, source, "/dev/sdz", position),
            Self::Files => {
                fake.process(7, "cinder-volume")
                    .fd(20, source, position, READ)
                    .fd(21, "/dev/sdz", position, WRITE);
            }
        }
    }
}

fn disk(fake: &Fake, name: &str, target: Option<&str>, size: u64) -> String {
    fake.write(&format!("dev/{name}"), "");
    let sectors = (size / 512).to_string();
    fake.write(&format!("sys/class/block/{name}/size"), &sectors);
    if let Some(target) = target {
        let link = format!("dev/disk/by-path/ip-1:3260-iscsi-iqn.x:{target}-lun-1");
        fake.link(&link, &format!("../../{name}"));
    }
    format!("/dev/{name}")
}

fn own(fake: &Fake) -> String {
    disk(fake, "sdb", Some(&format!("volume-{V}")), SIZE)
}

fn tracker(fake: &Fake) -> Tracker {
    Tracker::new(fake.roots(), INTERVAL)
}

async fn ask(tracker: &Tracker, question: Question) -> Answer {
    tracker.answer(question).await.unwrap()
}

/// The answer of a daemon that was started just now.
async fn fresh(fake: &Fake, question: Question) -> Answer {
    ask(&tracker(fake), question).await
}

/// A daemon that saw a copy of the volume end at `percent`, a hundred seconds ago.
async fn after_its_end(way: Way, fake: &Fake, percent: u64) -> Tracker {
    let state = fake.path("state.json");
    let tracker = Tracker::remembering(fake.roots(), INTERVAL, state.clone()).await;
    way.copy(fake, &own(fake), percent);
    let answer = u8::try_from(percent).unwrap();
    assert_eq!(ask(&tracker, way.question()).await, Answer::Percent(answer));
    fake.end(7);
    assert_eq!(ask(&tracker, way.question()).await, Answer::Percent(answer));
    tracker.watch(async {}).await;
    let_time_pass(&state, 100);
    Tracker::remembering(fake.roots(), INTERVAL, state).await
}

fn ago(seconds: u64) -> Option<SystemTime> {
    Some(SystemTime::now() - Duration::from_secs(seconds))
}

fn request() -> MigrationRequest {
    MigrationRequest {
        volume_id: V.to_owned(),
        ids: vec![V.to_owned()],
        size: SIZE,
        record: Hardware::default(),
        attached: false,
        volume_name_template: "volume-%s".to_owned(),
    }
}

#[tokio::test]
async fn with_nothing_to_be_seen_it_is_0_unless_others_copy_or_the_copy_is_made() {
    for way in Way::BOTH {
        let question = || way.question();
        for (what, question, expected) in [
            ("nothing", question(), Answer::Percent(0)),
            (
                "at rest",
                Question {
                    migrating: false,
                    ..question()
                },
                Answer::Percent(0),
            ),
            (
                "attached",
                Question {
                    attached: true,
                    ..question()
                },
                Answer::Unknown,
            ),
            (
                "in a cluster",
                Question {
                    clustered: true,
                    ..question()
                },
                Answer::Unknown,
            ),
            (
                "in Ceph",
                Question {
                    without_device: true,
                    ..question()
                },
                Answer::Unknown,
            ),
            (
                "completing",
                Question {
                    migrating: false,
                    completing: true,
                    ..question()
                },
                Answer::Unknown,
            ),
        ] {
            assert_eq!(
                fresh(&Fake::new(), question).await,
                expected,
                "{way:?}: {what}"
            );
        }
    }
}

#[tokio::test]
async fn a_copy_that_runs_is_the_volumes_anothers_or_may_be_either() {
    let array = "sn.1e6ad5d2-2f0c-11ee-be56-0242ac120002".to_owned();
    for way in Way::BOTH {
        for (what, target, size, expected) in [
            (
                "its own",
                Some(format!("volume-{V}")),
                SIZE,
                Answer::Percent(30),
            ),
            (
                "another's",
                Some(format!("volume-{N}")),
                SIZE,
                Answer::Percent(0),
            ),
            ("nobody's by name", None, SIZE, Answer::Unknown),
            (
                "the array's by name",
                Some(array.clone()),
                SIZE,
                Answer::Unknown,
            ),
            (
                "nobody's, of half the size",
                None,
                SIZE / 2,
                Answer::Percent(0),
            ),
        ] {
            let fake = Fake::new();
            let source = disk(&fake, "sdb", target.as_deref(), size);
            way.copy(&fake, &source, 30);
            let answer = fresh(&fake, way.question()).await;
            assert_eq!(answer, expected, "{way:?}: {what}");
        }
    }
}

#[tokio::test]
async fn a_copy_of_nobodys_disk_may_be_the_volumes_after_its_end_too() {
    for way in Way::BOTH {
        let fake = Fake::new();
        let tracker = tracker(&fake);
        way.copy(&fake, &disk(&fake, "sdb", None, SIZE), 30);
        assert_eq!(
            ask(&tracker, way.question()).await,
            Answer::Unknown,
            "{way:?}"
        );
        fake.end(7);
        let gone = async || tracker.running().await.unwrap().running.is_empty();
        eventually("its end is noticed", gone).await;
        assert_eq!(
            ask(&tracker, way.question()).await,
            Answer::Unknown,
            "{way:?}"
        );
        tracker.requested(request(), Duration::ZERO);
        if way == Way::Dd {
            let answer = ask(&tracker, way.question()).await;
            assert_eq!(
                answer,
                Answer::Percent(0),
                "it was there before the request"
            );
        }
    }
}

#[tokio::test]
async fn what_was_not_to_be_seen_is_no_0() {
    for way in Way::BOTH {
        let fake = Fake::new();
        match way {
            Way::Dd => {
                fake.process(8, "dd");
                fake.hang("proc/8/cmdline");
            }
            Way::Files => {
                fake.process(8, "python3").fdinfo(3, "torn");
            }
        }
        let tracker = tracker(&fake);
        assert!(tracker.answer(way.question()).await.is_err(), "{way:?}");
        let auto = Question {
            mode: CopyMode::Auto,
            ..way.question()
        };
        let answer = tracker.answer(auto).await;
        assert!(
            !matches!(answer, Ok(Answer::Percent(_))),
            "{way:?}: {answer:?}"
        );
    }
}

/// The scan before has seen it as what it was until it executed dd.
#[tokio::test]
async fn a_wrapper_that_became_a_dd_whose_command_line_hangs_is_no_0() {
    let fake = Fake::new();
    fake.process(7, "cinder-rootwrap");
    let tracker = tracker(&fake);
    let question = || Way::Dd.question();
    assert_eq!(ask(&tracker, question()).await, Answer::Percent(0));
    fake.process(7, "dd");
    fake.hang("proc/7/cmdline");
    for _ in 0..3 {
        let answer = tracker.answer(question()).await;
        assert!(answer.is_err(), "{answer:?}");
    }
    fake.end(7);
    assert_eq!(ask(&tracker, question()).await, Answer::Percent(0));
}

#[tokio::test]
async fn a_copy_that_is_over_is_this_migrations_or_one_before_or_may_be_either() {
    for way in Way::BOTH {
        let question = || way.question();
        for (what, percent, question, requested, expected) in [
            ("nothing since", 24, question(), false, Answer::Percent(24)),
            ("asked for since", 24, question(), true, Answer::Percent(0)),
            (
                "asked for since, though it was complete",
                100,
                question(),
                true,
                Answer::Percent(0),
            ),
            (
                "row written since",
                24,
                Question {
                    updated_at: ago(50),
                    ..question()
                },
                false,
                Answer::Percent(0),
            ),
            (
                "row written since, though it was complete",
                100,
                Question {
                    updated_at: ago(50),
                    ..question()
                },
                false,
                Answer::Unknown,
            ),
            (
                "row written before",
                24,
                Question {
                    updated_at: ago(150),
                    ..question()
                },
                false,
                Answer::Percent(24),
            ),
            (
                "elsewhere by now",
                100,
                Question {
                    host: Some("two".to_owned()),
                    ..question()
                },
                false,
                Answer::Percent(0),
            ),
            (
                "attached since",
                24,
                Question {
                    attached: true,
                    ..question()
                },
                false,
                Answer::Unknown,
            ),
        ] {
            let fake = Fake::new();
            let tracker = after_its_end(way, &fake, percent).await;
            if requested {
                tracker.requested(request(), Duration::ZERO);
            }
            assert_eq!(ask(&tracker, question).await, expected, "{way:?}: {what}");
        }
    }
}

#[tokio::test]
async fn the_answer_of_a_migration_that_is_begun_again_does_not_run_backwards() {
    for way in Way::BOTH {
        let fake = Fake::new();
        let tracker = after_its_end(way, &fake, 24).await;
        tracker.requested(request(), Duration::ZERO);
        for _ in 0..2 {
            assert_eq!(
                ask(&tracker, way.question()).await,
                Answer::Percent(0),
                "{way:?}"
            );
        }
        way.copy(&fake, &own(&fake), 5);
        if way == Way::Dd {
            let later = crate::progress::proc::process::now() + 1_000_000;
            let operand = format!("if={}", own(&fake));
            fake.process(7, "dd")
                .start(later)
                .arguments(&["dd", &operand, "of=/dev/sdz"]);
        }
        let begun = async || ask(&tracker, way.question()).await == Answer::Percent(5);
        eventually("the new one counts", begun).await;
    }
}

#[tokio::test]
async fn a_copy_left_over_from_an_earlier_migration_is_not_this_ones() {
    for way in Way::BOTH {
        let fake = Fake::new();
        let state = fake.path("state.json");
        let tracker = Tracker::remembering(fake.roots(), INTERVAL, state.clone()).await;
        way.copy(&fake, &own(&fake), 30);
        let question = || way.question();
        assert_eq!(ask(&tracker, question()).await, Answer::Percent(30));
        tracker.watch(async {}).await;
        let_time_pass(&state, 100);
        let tracker = Tracker::remembering(fake.roots(), INTERVAL, state).await;
        assert_eq!(ask(&tracker, question()).await, Answer::Percent(30));
        tracker.requested(request(), Duration::ZERO);
        assert_eq!(ask(&tracker, question()).await, Answer::Unknown, "{way:?}");
    }
}

#[tokio::test]
async fn a_copy_whose_position_tells_nothing_is_no_0() {
    let fake = Fake::new();
    // qemu-img writes with pwrite(2), so the position of its descriptor does not move.
    fake.process(7, "qemu-img")
        .fd(20, &own(&fake), 0, READ)
        .fd(21, "/dev/sdz", 0, WRITE);
    let question = Way::Files.question();
    assert_eq!(fresh(&fake, question).await, Answer::Unknown);
}

#[tokio::test]
async fn a_dd_that_came_and_went_between_two_looks_is_no_0() {
    let fake = Fake::new();
    let tracker = tracker(&fake);
    Way::Dd.copy(&fake, &own(&fake), 0);
    fake.process(7, "dd")
        .arguments(&["dd", &format!("if={}", own(&fake)), "of=/dev/sdz"])
        .fd(1, "pipe:[9]", 777, "01");
    assert_eq!(tracker.running().await.unwrap().running.len(), 1);
    fake.end(7);
    assert_eq!(ask(&tracker, Way::Dd.question()).await, Answer::Unknown);
}

#[tokio::test]
async fn a_wipe_that_failed_before_the_migration_proves_nothing() {
    let volume = format!("/dev/vg/volume-{V}");
    let wiped = SIZE / 5;
    let fake = Fake::new();
    let tracker = tracker(&fake);
    let running = async |count: usize| {
        let runs = || tracker.remembers(7).is_some_and(|(_, runs)| runs);
        eventually("it is seen", async || {
            tracker.running().await.unwrap();
            usize::from(runs()) == count
        })
        .await;
    };
    fake.dd(7, "/dev/zero", &volume, wiped);
    running(1).await;
    fake.end(7);
    running(0).await;
    assert_eq!(ask(&tracker, Way::Dd.question()).await, Answer::Unknown);
    tracker.requested(request(), Duration::ZERO);
    assert_eq!(ask(&tracker, Way::Dd.question()).await, Answer::Percent(0));
    // The wipe of the old volume after a copy that no scan saw.
    let later = crate::progress::proc::process::now() + 1_000_000;
    fake.dd(8, "/dev/zero", &volume, wiped);
    fake.process(8, "dd")
        .start(later)
        .arguments(&["dd", "if=/dev/zero", &format!("of={volume}")]);
    assert_eq!(
        ask(&tracker, Way::Dd.question()).await,
        Answer::Percent(100)
    );
    fake.end(8);
    assert_eq!(
        ask(&tracker, Way::Dd.question()).await,
        Answer::Percent(100)
    );
}
