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
use cinder_progress::progress::{
    Answer, CopyMode, Hardware, MigrationRequest, Question, Roots, Tracker,
};

/// As many as are remembered at most.
const FULL: u32 = 1024;

/// Bytes of each volume that is asked about.
const SIZE: u64 = 1 << 30;

/// The first number of these.
const ASKED: u32 = 900_000;

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
    let memories = [
        (0, Read::Volumes),
        (FULL, Read::Volumes),
        (FULL, Read::Disks(SIZE / 2)),
        (FULL, Read::Disks(SIZE)),
    ];
    let folders = memories.map(|_| tempfile::tempdir().unwrap());
    let mut trackers = Vec::new();
    for (folder, (copies, read)) in folders.iter().zip(memories) {
        trackers.push(remembering(folder.path(), copies, read).await);
    }
    let mut taken = memories.map(|_| vec![]);
    for round in 0..WARM_UP + ROUNDS {
        for (tracker, taken) in trackers.iter().zip(&mut taken) {
            let seconds = an_answer(tracker).await;
            if round >= WARM_UP {
                taken.push(seconds);
            }
        }
    }
    let micros = |seconds: &[f64]| format!("{:.1} µs", median(seconds.iter().copied()) * 1e6);
    let mut table = Table::new(&["remembered", "one answer, of that thread", "goal", ""]);
    let [empty, full @ ..] = &taken;
    table.row(&["nothing", &micros(empty), "", ""]);
    let what = [
        "copies",
        "copies of disks that nothing names",
        "such copies of the very size that is asked about",
    ];
    for (what, full) in what.into_iter().zip(full) {
        let times = ratio(full, empty);
        table.row(&[
            &format!("{FULL} {what}"),
            &format!("{} ({times:.2} × empty)", micros(full)),
            "2 × empty",
            at_most(times, 2.0),
        ]);
    }
    table.text().to_owned()
}

/// What the copies read.
#[derive(Clone, Copy)]
enum Read {
    /// Volumes of LVM.
    Volumes,
    /// Disks of so many bytes, which neither a link nor the kernel gives a name.
    Disks(u64),
}

/// A tracker that has seen so many copies run and end.
async fn remembering(folder: &Path, copies: u32, read: Read) -> Tracker {
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
        let pid = 1000 + number;
        let source = match read {
            Read::Volumes => format!("/dev/vg-a/volume-{}", id(pid)),
            Read::Disks(bytes) => disk(folder, number, bytes),
        };
        dd(&folder.join("proc"), pid, &source);
    }
    let seen = tracker.running().await.unwrap();
    assert_eq!(seen.running.len(), copies as usize);
    for number in 0..copies {
        let process = format!("proc/{}", 1000 + number);
        fs::remove_dir_all(folder.join(process)).unwrap();
    }
    assert!(tracker.running().await.unwrap().running.is_empty());
    // What is asked about is to be migrated since: none of the copies can be of it.
    for number in 0..QUESTIONS {
        tracker.requested(request(number), Duration::ZERO);
    }
    tracker
}

/// The request for the migration of a volume that a question is about.
fn request(number: u32) -> MigrationRequest {
    let id = id(ASKED + number);
    MigrationRequest {
        volume_id: id.clone(),
        ids: vec![id],
        size: SIZE,
        record: Hardware::default(),
        attached: false,
        volume_name_template: "volume-%s".to_owned(),
    }
}

/// A made-up disk without a name.
fn disk(folder: &Path, number: u32, bytes: u64) -> String {
    let name = format!("sd{number}");
    fs::write(folder.join("dev").join(&name), "").unwrap();
    let facts = folder.join("sys/class/block").join(&name);
    fs::create_dir_all(&facts).unwrap();
    fs::write(facts.join("size"), format!("{}\n", bytes / 512)).unwrap();
    format!("/dev/{name}")
}

/// A made-up dd in the midst of its copy.
fn dd(proc: &Path, pid: u32, source: &str) {
    let folder = proc.join(pid.to_string());
    fs::create_dir_all(folder.join("fdinfo")).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    let volume = id(pid);
    write("comm", "dd\n");
    write(
        "cmdline",
        &format!("dd\0if={source}\0of=/dev/vg-b/volume-{volume}\0bs=1M\0"),
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
        let id = id(ASKED + number);
        let question = Question {
            mode: CopyMode::HostBased,
            ..Question::about(&id, &format!("volume-{id}"), SIZE)
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
