//! What it costs to find the copy among many processes, and to keep watch when there is none.
//!
//! The processes are real ones. They are made once and then made fewer, because the daemon looks at a
//! process often while it is young: half a minute after its birth the crowd is as on a node that runs for long.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::crowd::Crowd;
use crate::figures::{Table, at_least, at_most, median, time};
use crate::rivals::python;
use crate::support::broker::SharedBroker;
use crate::support::copy::{GIB, Volume};
use crate::support::daemon::Daemon;
use crate::support::service::Service;
use crate::topic::Topic;
use crate::usage;
use cinder_progress::progress::{Answer, CopyMode, Question, Roots, Tracker};

/// Processes of the node, and how long idleness is watched with so many. The list of all processes is read
/// every ten minutes, which is told apart: it costs what the first look does at most.
const NODES: [(usize, Duration); 4] = [
    (10_000, Duration::from_secs(30)),
    (5_000, Duration::from_secs(30)),
    (1_000, Duration::from_secs(12)),
    (100, Duration::from_secs(12)),
];

/// Until a process is not young any more and is looked at every few seconds only.
const YOUTH: Duration = Duration::from_secs(33);

/// Questions about a known dd.
const QUESTIONS: usize = 500;

/// Questions about a volume that has no dd, as one caller asks them: each waits for a scan, and for the rest before it.
const UNKNOWN: usize = 200;

/// New dd.
const NEW: usize = 7;

/// Between two scans, more than the tracker leaves by itself.
const GAP: Duration = Duration::from_millis(150);

/// Look-ups by psutil.
const LOOK_UPS: usize = 5;

/// A table, and how it stands to the goals.
pub async fn measure() -> String {
    let mut table = Table::new(&[
        "processes",
        "known dd",
        "new dd",
        "no dd",
        "psutil",
        "psutil ÷ known",
        "psutil ÷ new",
        "psutil ÷ none",
        "idle, share of a core",
    ]);
    let service = Service::unique();
    let topic = Topic::connect(&SharedBroker::amqp_uri()).await;
    topic.attend(&service).await;
    let others = procfs::process::all_processes().unwrap().count();
    let mut crowd = Crowd::start(NODES[0].0.saturating_sub(others));
    let daemon = Daemon::beside(&service).await;
    let tracker = Tracker::new(Roots::default(), Duration::from_secs(1));
    let begun = Instant::now();
    tracker.running().await.unwrap();
    let first = begun.elapsed();
    sleep(YOUTH).await;

    let mut ratios = (0.0, 0.0);
    let mut idle_at_most: f64 = 0.0;
    let mut unknown_at_1000 = 0.0;
    for (node, watched) in NODES {
        crowd.shrink_to(node.saturating_sub(others));
        let idle = idle(daemon.process.pid(), watched).await;
        // One look settles what has changed.
        tracker.running().await.unwrap();
        let (known, new) = (known(&tracker).await, new(&tracker).await);
        let unknown = unknown(&tracker).await;
        let psutil = psutil().await;
        table.row(&[
            node.to_string(),
            time(known),
            time(new),
            time(unknown),
            time(psutil),
            format!("{:.0}", psutil / known),
            format!("{:.0}", psutil / new),
            format!("{:.0}", psutil / unknown),
            format!("{:.3}%", idle * 100.0),
        ]);
        idle_at_most = idle_at_most.max(idle);
        match node {
            10_000 => ratios = (psutil / known, psutil / new),
            1_000 => unknown_at_1000 = unknown,
            _ => {}
        }
    }
    let mut goals = Table::new(&["goal", "measured", ""]);
    for (goal, figure, verdict) in [
        (
            "no dd among 1,000: at most 3 ms",
            time(unknown_at_1000),
            at_most(unknown_at_1000, 3e-3),
        ),
        (
            "idle, however many processes: at most 0.1% of a core",
            format!("{:.3}%", idle_at_most * 100.0),
            at_most(idle_at_most, 0.001),
        ),
        (
            "a known dd among 10,000: 100 × psutil",
            format!("{:.0} ×", ratios.0),
            at_least(ratios.0, 100.0),
        ),
        (
            "a new dd among 10,000: 100 × psutil",
            format!("{:.0} ×", ratios.1),
            at_least(ratios.1, 100.0),
        ),
    ] {
        goals.row(&[goal, figure.as_str(), verdict]);
    }
    format!(
        "{}\nThe very first look at 10,000 processes: {}. The others that look at all, two in ten minutes, cost no more.\n\n{}",
        table.text(),
        time(first.as_secs_f64()),
        goals.text()
    )
}

/// The daemon's share of a core while nothing happens.
async fn idle(pid: u32, watched: Duration) -> f64 {
    let (begun, before) = (Instant::now(), usage::processor_exact(pid).await);
    sleep(watched).await;
    let taken = usage::processor_exact(pid).await - before;
    taken / begun.elapsed().as_secs_f64()
}

/// Seconds of an answer about a dd that is known.
async fn known(tracker: &Tracker) -> f64 {
    let volume = Volume::unique();
    let copy = volume.copy();
    copy.hold_beyond(GIB / 8).await;
    assert_is_seen(tracker, &volume).await;
    let mut times = Vec::new();
    for _ in 0..QUESTIONS {
        let begun = Instant::now();
        assert_is_seen(tracker, &volume).await;
        times.push(begun.elapsed().as_secs_f64());
    }
    median(times)
}

/// Seconds of an answer about a dd that was started just before.
async fn new(tracker: &Tracker) -> f64 {
    let mut times = Vec::new();
    for _ in 0..NEW {
        sleep(GAP).await;
        let volume = Volume::unique();
        let copy = volume.copy();
        copy.hold_beyond(GIB / 8).await;
        let begun = Instant::now();
        assert_is_seen(tracker, &volume).await;
        times.push(begun.elapsed().as_secs_f64());
    }
    median(times)
}

/// Seconds of an answer about a volume that has no dd, for one who asks again and again.
async fn unknown(tracker: &Tracker) -> f64 {
    let volume = Volume::unique();
    let mut times = Vec::new();
    for _ in 0..UNKNOWN {
        let begun = Instant::now();
        assert_eq!(ask(tracker, &volume).await, Answer::Percent(0));
        times.push(begun.elapsed().as_secs_f64());
    }
    median(times)
}

async fn assert_is_seen(tracker: &Tracker, volume: &Volume) {
    let answer = ask(tracker, volume).await;
    assert!(matches!(answer, Answer::Percent(1..)), "{answer:?}");
}

async fn ask(tracker: &Tracker, volume: &Volume) -> Answer {
    let argument = volume.argument();
    let id = argument["id"].as_str().unwrap();
    let answer = tracker.answer(Question {
        host: Some("node@lvm#lvm".to_owned()),
        mode: CopyMode::HostBased,
        ..Question::about(id, &format!("volume-{id}"), GIB)
    });
    answer.await.unwrap()
}

/// Seconds of a look-up by psutil.
async fn psutil() -> f64 {
    let volume = Volume::unique();
    let copy = volume.copy();
    copy.hold_beyond(GIB / 8).await;
    let argument = volume.argument();
    let name = format!("volume-{}", argument["id"].as_str().unwrap());
    let mut look_ups = python("psutil_lookup.py", &[&name, &LOOK_UPS.to_string()]);
    let output = look_ups.output().await.unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let times = output.lines().skip(1).map(|line| {
        let (time, found) = line.split_once(' ').unwrap();
        assert_ne!(found, "None", "psutil does not find the dd");
        time.parse().unwrap()
    });
    median(times)
}
