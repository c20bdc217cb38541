//! What an answer costs when as many copies are remembered as can be, beside one with nothing remembered.
//!
//! Nearly all of an answer's work is done on the thread that also hands operations over, so what counts is that
//! thread's processor time. The processes are made-up: a thousand real dd would measure the machine.

use std::fs;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::Builder;

use crate::figures::{Table, at_most, median, ratio};
use cinder_progress::progress::{Answer, CopyMode, Question, Roots, Tracker};

/// As many as are remembered at most.
const FULL: u32 = 1024;

/// Rounds, in turns.
const ROUNDS: usize = 9;

/// Questions of a round, asked at once, so that they share the looks at the processes.
const QUESTIONS: u32 = 256;

/// Rounds that meet cold caches.
const WARM_UP: usize = 2;

/// A table, and how it stands to the goal.
pub async fn measure() -> String {
    let measured = std::thread::spawn(|| {
        // One thread alone does all that is not a read, as in the daemon.
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(compare())
    });
    measured.join().unwrap()
}

async fn compare() -> String {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (empty, full) = (
        remembering(folder.path(), 0).await,
        remembering(other.path(), FULL).await,
    );
    for _ in 0..WARM_UP {
        an_answer(&empty).await;
        an_answer(&full).await;
    }
    let (mut with_empty, mut with_full) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        with_empty.push(an_answer(&empty).await);
        with_full.push(an_answer(&full).await);
    }
    let times = ratio(&with_full, &with_empty);
    let micros = |seconds: &[f64]| format!("{:.1} µs", median(seconds.iter().copied()) * 1e6);
    let mut table = Table::new(&["remembered", "one answer, of that thread", "goal", ""]);
    table.row(&["nothing", &micros(&with_empty), "", ""]);
    table.row(&[
        &format!("{FULL} copies"),
        &format!("{} ({times:.2} × empty)", micros(&with_full)),
        "2 × empty",
        at_most(times, 2.0),
    ]);
    table.text().to_owned()
}

/// A tracker that has seen so many copies run and end.
async fn remembering(folder: &Path, copies: u32) -> Tracker {
    for tree in ["proc", "sys", "dev"] {
        fs::create_dir(folder.join(tree)).unwrap();
    }
    let roots = Roots {
        proc: folder.join("proc"),
        sys: folder.join("sys"),
        dev: folder.join("dev"),
        ..Roots::default()
    };
    let tracker = Tracker::new(roots, Duration::from_secs(3600));
    for number in 0..copies {
        dd(&folder.join("proc"), 1000 + number);
    }
    let seen = tracker.running().await.unwrap();
    assert_eq!(seen.running.len(), copies as usize);
    for number in 0..copies {
        let process = format!("proc/{}", 1000 + number);
        fs::remove_dir_all(folder.join(process)).unwrap();
    }
    assert!(tracker.running().await.unwrap().running.is_empty());
    tracker
}

/// A made-up dd in the midst of its copy.
fn dd(proc: &Path, pid: u32) {
    let folder = proc.join(pid.to_string());
    fs::create_dir_all(folder.join("fdinfo")).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    let volume = id(pid);
    write("comm", "dd\n");
    write(
        "cmdline",
        &format!("dd\0if=/dev/vg-a/volume-{volume}\0of=/dev/vg-b/volume-{volume}\0bs=1M\0"),
    );
    write("status", &format!("Tgid:\t{pid}\nUid:\t0\t0\t0\t0\n"));
    let rest = "1 1 1 0 -1 4194304 101 0 0 0 0 0 0 0 20 0 1 0";
    let more =
        "3133440 362 18446744073709551615 1 1 1 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0";
    write("stat", &format!("{pid} (dd) S {rest} {pid} {more}\n"));
    for (fd, flags) in [(0, "0140000"), (1, "0140001")] {
        let text = format!("pos:\t1048576\nflags:\t{flags}\nmnt_id:\t17\n");
        write(&format!("fdinfo/{fd}"), &text);
    }
}

fn id(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// Seconds of this thread that an answer about a volume takes that nothing is known of.
async fn an_answer(tracker: &Tracker) -> f64 {
    let before = processor();
    let answers = (0..QUESTIONS).map(|number| {
        let id = id(900_000 + number);
        let question = Question {
            mode: CopyMode::HostBased,
            ..Question::about(&id, &format!("volume-{id}"), 1 << 30)
        };
        tracker.answer(question)
    });
    let answers = join_all(answers).await;
    let taken = processor() - before;
    for answer in answers {
        assert_eq!(answer, Ok(Answer::Percent(0)));
    }
    taken / f64::from(QUESTIONS)
}

/// Seconds that this thread has been on a processor.
fn processor() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds: f64 = text.split(' ').next().unwrap().parse().unwrap();
    nanoseconds / 1e9
}
