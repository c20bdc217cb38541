//! What hundreds of nodes cost one broker: real daemons, at rest and when the broker comes back after a restart.
//!
//! T and Q of each node are there before anything is measured: they are cinder-volume's.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::sleep;

use crate::figures::{Table, quantile, time};
use crate::support::broker::Broker;
use crate::support::daemon::Daemon;
use crate::support::service::Service;
use crate::topic::Topic;
use crate::usage;

const NODES: usize = 500;

/// Connections of a node.
const CONNECTIONS: usize = 3;

/// Daemons that are started at the same time.
const AT_ONCE: usize = 20;

/// How long the broker is watched while nothing happens: a third of the time between two heartbeats.
const REST: Duration = Duration::from_secs(10);

/// A node's /proc is not what is measured, and 500 daemons would watch the same one.
const CONFIGURATION: &str = "scan_interval = 3600";

const KIB: f64 = 1024.0;

/// A table.
pub async fn measure() -> String {
    let broker = Broker::start().await;
    let node: u32 = broker
        .ctl(&["eval", "list_to_integer(os:getpid())."])
        .await
        .trim()
        .parse()
        .unwrap();
    let topic = Topic::connect(&broker.amqp_uri()).await;
    let services: Vec<Service> = (0..NODES).map(|_| Service::unique()).collect();
    for service in &services {
        topic.attend(service).await;
    }
    let before = State::of(&broker, node).await;
    let url = broker.transport_url();
    let begun = Instant::now();
    let mut daemons = Vec::new();
    for services in services.chunks(AT_ONCE) {
        let some: Vec<Daemon> = services
            .iter()
            .map(|service| Daemon::start(&url, service, CONFIGURATION))
            .collect();
        join_all(
            some.iter()
                .map(|daemon| daemon.wait_for_log("serving beside")),
        )
        .await;
        daemons.extend(some);
    }
    let started = begun.elapsed();
    let with = State::of(&broker, node).await;
    let resident: u64 = daemons
        .iter()
        .map(|daemon| usage::memory(daemon.process.pid()).anonymous)
        .sum();
    drop(topic);

    let from: Vec<usize> = daemons
        .iter()
        .map(|daemon| daemon.process.stderr.len())
        .collect();
    let down = Instant::now();
    broker.restart().await;
    let down = down.elapsed();
    let topic = Topic::connect(&broker.amqp_uri()).await;
    for service in &services {
        topic.attend(service).await;
    }
    let back = join_all(daemons.iter().zip(&from).map(async |(daemon, &from)| {
        daemon.wait_for_log_from(from, "serving beside").await;
        connected(daemon, from)
    }));
    let mut back: Vec<f64> = back.await.concat();
    back.sort_by(f64::total_cmp);
    let storm = Storm::of(&back);

    let each = |with: f64, before: f64, count: usize| (with - before) / count as f64;
    let mut table = Table::new(&["500 daemons at one broker", ""]);
    let mut row = |what: &str, figure: String| table.row(&[what, figure.as_str()]);
    row("connections", format!("{}", NODES * CONNECTIONS));
    row("started, 20 at a time, in", time(started.as_secs_f64()));
    row(
        "the broker's resident memory for each node",
        format!(
            "{:.0} KiB",
            each(with.resident, before.resident, NODES) / KIB
        ),
    );
    row(
        "the broker's processor time at rest for each node",
        format!(
            "{} a second",
            time(each(with.processor, before.processor, NODES).max(0.0)),
        ),
    );
    row(
        "the broker's processor at rest: without, with",
        format!(
            "{:.2}%, {:.2}% of a core",
            before.processor * 100.0,
            with.processor * 100.0
        ),
    );
    row(
        "memory of a daemon that is its own",
        format!("{:.1} MiB", resident as f64 / NODES as f64 / KIB / KIB),
    );
    row("broker stopped and started in", time(down.as_secs_f64()));
    row(
        "connections back, after the first one: half, 90%, all",
        storm.shares.map(time).join(", "),
    );
    row(
        "most in a second, in a tenth",
        format!("{}, {}", storm.in_a_second, storm.in_a_tenth),
    );
    table.text().to_owned()
}

/// The broker at rest.
struct State {
    /// Bytes, after a garbage collection. Erlang's own count is many times that: it has large buffers
    /// for each connection that are never touched.
    resident: f64,
    /// Share of a core.
    processor: f64,
}

impl State {
    async fn of(broker: &Broker, node: u32) -> Self {
        let collect = "lists:foreach(fun erlang:garbage_collect/1, erlang:processes()).";
        broker.ctl(&["eval", collect]).await;
        let resident = usage::memory(node).resident;
        // What was just done ends.
        sleep(Duration::from_secs(2)).await;
        let (begun, taken) = (Instant::now(), usage::processor_exact(node).await);
        sleep(REST).await;
        let taken = usage::processor_exact(node).await - taken;
        Self {
            resident: resident as f64,
            processor: taken / begun.elapsed().as_secs_f64(),
        }
    }
}

/// How connections come back.
struct Storm {
    /// Seconds from the first one until half, nine tenths and all are back.
    shares: [f64; 3],
    in_a_second: usize,
    in_a_tenth: usize,
}

impl Storm {
    fn of(back: &[f64]) -> Self {
        let most = |width: f64| {
            let within = |first: &f64| {
                back.iter()
                    .filter(|&at| (*first..first + width).contains(at))
                    .count()
            };
            back.iter().map(within).max().unwrap()
        };
        Self {
            shares: [0.5, 0.9, 1.0].map(|share| quantile(back.iter().copied(), share) - back[0]),
            in_a_second: most(1.0),
            in_a_tenth: most(0.1),
        }
    }
}

/// The seconds of the day at which a daemon's connections were open again, from line `from` of its log on. The
/// last time counts, should there be several.
fn connected(daemon: &Daemon, from: usize) -> Vec<f64> {
    let lines = daemon.process.stderr.lines();
    let last = |purpose: &str| {
        let mut lines = lines[from..].iter().rev();
        let line = lines.find(|line| line.contains("INFO connected ") && line.contains(purpose));
        line.map(|line| second_of_day(line))
    };
    [":replies", ":intake", ":own topics"]
        .into_iter()
        .filter_map(last)
        .collect()
}

/// Of a line that begins as `2026-01-02T03:04:05.678901Z`.
fn second_of_day(line: &str) -> f64 {
    let time = line.split_whitespace().next().unwrap();
    let (_, clock) = time.trim_end_matches('Z').split_once('T').unwrap();
    let parts = clock.split(':').map(|part| part.parse::<f64>().unwrap());
    parts.fold(0.0, |sum, part| sum * 60.0 + part)
}
