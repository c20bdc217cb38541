//! Memory, threads, connections, and the time from start to ready.

use std::time::{Duration, Instant};

use crate::callers::Callers;
use crate::figures::{Table, at_most, median, quantile, time};
use crate::rivals::Server;
use crate::support::broker::SharedBroker;
use crate::support::copy::{GIB, Volume};
use crate::support::daemon::Daemon;
use crate::support::service::{Service, unique_name};
use crate::topic::Topic;
use crate::usage::{self, Memory};

const MIB: f64 = (1 << 20) as f64;

/// Calls after which everything has been used once, those of the goal, and those after which memory must
/// not have grown.
const CALLS: [usize; 3] = [10_000, 100_000, 200_000];

/// Calls of the rival, which is slow.
const RIVAL_CALLS: usize = 1_000;

/// Callers at once meanwhile.
const CALLERS: usize = 16;

/// Backends of the large daemon.
const BACKENDS: usize = 64;

/// Starts, of which the median counts.
const STARTS: usize = 15;

/// After which a process that has nothing to do is idle.
const SETTLED: Duration = Duration::from_secs(3);

/// A table.
pub async fn measure() -> String {
    let uri = SharedBroker::amqp_uri();
    let topic = Topic::connect(&uri).await;
    let mut table = Table::new(&["", "cinder-progress", "goal", "", "Python, psutil"]);

    let program = std::fs::metadata(env!("CARGO_BIN_EXE_cinder-progress")).unwrap();
    let mib = program.len() as f64 / MIB;
    table.row(&row("program, stripped", mib, 8.0, "its libraries"));

    let begun = Instant::now();
    let python = Server::python().await;
    let python_ready = begun.elapsed().as_secs_f64();
    let starts = starts(&topic).await;
    let ready = median(starts.iter().copied());
    table.row(&[
        "start to ready, median (longest)".to_owned(),
        format!("{} ({})", time(ready), time(quantile(starts, 1.0))),
        time(0.1),
        at_most(ready, 0.1).to_owned(),
        time(python_ready),
    ]);

    let volume = Volume::unique();
    let copy = volume.copy();
    copy.hold_beyond(GIB / 8).await;
    let server = Server::sidecar(&topic).await;
    let argument = volume.argument();
    let callers = Callers::connect(&uri, argument["id"].as_str().unwrap()).await;
    let beside = Memories::of(&server, &callers, &CALLS).await;
    let python = Memories::of(&python, &callers, &[RIVAL_CALLS]).await;
    let cells = |memory: Memory, goal| {
        let resident = memory.resident as f64 / MIB;
        [
            format!(
                "{} ({} its own)",
                mebibytes(memory.resident),
                mebibytes(memory.anonymous)
            ),
            format!("{goal:.0} MiB"),
            at_most(resident, goal).to_owned(),
        ]
    };
    let rival_later = format!("{} after 1,000", mebibytes(python.last().resident));
    for (what, memory, rival) in [
        (
            "resident, idle",
            beside.idle,
            mebibytes(python.idle.resident),
        ),
        ("resident after 10,000 calls", beside.after[0], rival_later),
        (
            "resident after 100,000 calls",
            beside.after[1],
            String::new(),
        ),
        (
            "resident after 200,000 calls",
            beside.after[2],
            String::new(),
        ),
    ] {
        let [figure, goal, verdict] = cells(memory, 12.0);
        table.row(&[what.to_owned(), figure, goal, verdict, rival]);
    }
    let large = large(&topic).await;
    let [figure, goal, verdict] = cells(large.memory, 12.0);
    table.row(&[
        "resident with 64 backends".to_owned(),
        figure,
        goal,
        verdict,
        String::new(),
    ]);
    table.row(&[
        "threads: idle, after calls, with 64 backends".to_owned(),
        format!(
            "{}, {}, {}",
            beside.idle.threads,
            beside.last().threads,
            large.memory.threads
        ),
        String::new(),
        String::new(),
        format!("{}, {}", python.idle.threads, python.last().threads),
    ]);
    let (connections, channels) = connections(server.pid()).await;
    table.row(&[
        "connections to the broker, their channels".to_owned(),
        format!(
            "{connections}, {channels}; {} with 64 backends",
            large.channels
        ),
        String::new(),
        String::new(),
        String::new(),
    ]);
    table.text().to_owned()
}

fn row(what: &str, mib: f64, goal: f64, rival: &str) -> [String; 5] {
    [
        what.to_owned(),
        format!("{mib:.1} MiB"),
        format!("{goal:.0} MiB"),
        at_most(mib, goal).to_owned(),
        rival.to_owned(),
    ]
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB)
}

/// Seconds from the start of the process until it serves.
async fn starts(topic: &Topic) -> Vec<f64> {
    let service = Service::unique();
    topic.attend(&service).await;
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let begun = Instant::now();
        let mut daemon = Daemon::beside(&service).await;
        times.push(begun.elapsed().as_secs_f64());
        daemon.process.signal("TERM").await;
        daemon.process.wait_for_exit().await;
    }
    times
}

/// Of one process, idle and after so many calls.
struct Memories {
    idle: Memory,
    after: Vec<Memory>,
}

impl Memories {
    async fn of(server: &Server, callers: &Callers, calls: &[usize]) -> Self {
        tokio::time::sleep(SETTLED).await;
        let idle = usage::memory(server.pid());
        let (mut after, mut done) = (Vec::new(), 0);
        for &calls in calls {
            let more = calls - done;
            callers.ask_times(&server.queue, CALLERS, more).await;
            after.push(usage::memory(server.pid()));
            done = calls;
        }
        Self { idle, after }
    }

    fn last(&self) -> Memory {
        *self.after.last().unwrap_or(&self.idle)
    }
}

/// A daemon with many backends.
struct Large {
    memory: Memory,
    channels: usize,
}

async fn large(topic: &Topic) -> Large {
    let backends: Vec<String> = (0..BACKENDS).map(|n| format!("b{n}")).collect();
    let host = unique_name("node");
    for backend in &backends {
        let service = Service {
            host: host.clone(),
            backend: Some(backend.clone()),
        };
        topic.attend(&service).await;
    }
    let all = Service {
        host,
        backend: Some(backends.join(",")),
    };
    let daemon = Daemon::start(&SharedBroker::transport_url(), &all, "");
    let mut from = 0;
    for _ in 0..BACKENDS {
        daemon.wait_for_log_from(from, "serving beside").await;
        from = served_until(&daemon, from);
    }
    tokio::time::sleep(SETTLED).await;
    let pid = daemon.process.pid();
    Large {
        memory: usage::memory(pid),
        channels: connections(pid).await.1,
    }
}

/// The line after the next that says that a backend is served.
fn served_until(daemon: &Daemon, from: usize) -> usize {
    let lines = daemon.process.stderr.lines();
    let next = lines[from..]
        .iter()
        .position(|l| l.contains("serving beside"));
    from + next.unwrap() + 1
}

/// The daemon's connections and their channels, as the broker tells.
async fn connections(pid: u32) -> (usize, usize) {
    let list = SharedBroker::ctl(&["list_connections", "channels", "client_properties"]).await;
    let ours = format!("cinder-progress:{pid}:");
    let channels: Vec<usize> = list
        .lines()
        .filter(|line| line.contains(&ours))
        .map(|line| line.split_whitespace().next().unwrap().parse().unwrap())
        .collect();
    (channels.len(), channels.iter().sum())
}
