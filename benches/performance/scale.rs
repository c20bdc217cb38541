//! What hundreds of nodes cost a broker: real daemons, at rest and when the broker comes back after a restart; and
//! how they find the others when one of a cluster of three dies.
//!
//! T and Q of each node are there before anything is measured: they are cinder-volume's.

use std::time::{Duration, Instant, SystemTime};

use futures_util::future::join_all;
use tokio::time::sleep;

use crate::figures::{Table, quantile, time};
use crate::support::broker::Broker;
use crate::support::cluster::Cluster;
use crate::support::daemon::Daemon;
use crate::support::service::Service;
use crate::support::wait::until;
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

/// What a daemon calls its connections in the log.
const LABELS: [&str; CONNECTIONS] = [":replies", ":intake", ":own topics"];

/// Two tables.
pub async fn measure() -> String {
    let one = one_broker().await;
    one + "\n" + &cluster().await
}

async fn one_broker() -> String {
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
    let daemons = start(&services, &url).await;
    let started = begun.elapsed();
    let with = State::of(&broker, node).await;
    let resident: u64 = daemons
        .iter()
        .map(|daemon| usage::memory(daemon.process.pid()).anonymous)
        .sum();
    drop(topic);

    let from = log_lengths(&daemons);
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

async fn start(services: &[Service], url: &str) -> Vec<Daemon> {
    let mut daemons = Vec::new();
    for services in services.chunks(AT_ONCE) {
        let some: Vec<Daemon> = services
            .iter()
            .map(|service| Daemon::start(url, service, CONFIGURATION))
            .collect();
        join_all(
            some.iter()
                .map(|daemon| daemon.wait_for_log("serving beside")),
        )
        .await;
        daemons.extend(some);
    }
    daemons
}

fn log_lengths(daemons: &[Daemon]) -> Vec<usize> {
    let lengths = daemons.iter().map(|daemon| daemon.process.stderr.len());
    lengths.collect()
}

/// One broker of three dies, on which no queue of cinder-volume's lives.
async fn cluster() -> String {
    let cluster = Cluster::start().await;
    let topic = Topic::connect(&cluster.of_queues.amqp_uri()).await;
    let services: Vec<Service> = (0..NODES).map(|_| Service::unique()).collect();
    for service in &services {
        topic.attend(service).await;
    }
    let daemons = start(&services, &cluster.transport_url()).await;
    let local = ["eval", "length(rabbit_networking:connections_local())."];
    let held = cluster.third.ctl(&local).await;
    let from = log_lengths(&daemons);
    let killed = now();
    cluster.third.kill().await;
    let lines = |number: usize| {
        daemons[number]
            .process
            .stderr
            .lines()
            .split_off(from[number])
    };
    until("all daemons serve", async || {
        let logs: Vec<Vec<String>> = (0..NODES).map(lines).collect();
        let hit = logs.iter().any(|lines| !lines.is_empty());
        (hit && logs.iter().all(|lines| is_back(lines))).then_some(())
    })
    .await;
    // Of those that have not noticed yet none is left behind.
    sleep(Duration::from_secs(2)).await;
    let mut connected = Vec::new();
    let mut serving = Vec::new();
    for lines in (0..NODES).map(lines) {
        assert!(is_back(&lines), "{lines:?}");
        let since = |lines: &[&String]| -> Vec<f64> {
            let seconds = lines.iter().map(|line| second_of_day(line) - killed);
            seconds.collect()
        };
        let of = |what: &str| -> Vec<&String> {
            lines.iter().filter(|line| line.contains(what)).collect()
        };
        connected.extend(since(&of("INFO connected ")));
        serving.extend(since(&of("serving beside")).last());
    }
    connected.sort_by(f64::total_cmp);
    let storm = Storm::of(&connected);
    let mut table = Table::new(&[
        "500 daemons on a cluster of three brokers, one of them killed",
        "",
    ]);
    let mut row = |what: &str, figure: String| table.row(&[what, figure.as_str()]);
    row("connections at the killed broker", held.trim().to_owned());
    row(
        "daemons that had to leave Q and serve again",
        serving.len().to_string(),
    );
    let again = [0.5, 0.9, 1.0].map(|share| time(quantile(serving.iter().copied(), share)));
    row(
        "serving again after the kill: half, 90%, all",
        again.join(", "),
    );
    let back = [0.5, 0.9, 1.0].map(|share| time(quantile(connected.iter().copied(), share)));
    row(
        "connections back after the kill: half, 90%, all",
        back.join(", "),
    );
    row(
        "most in a second, in a tenth",
        format!("{}, {}", storm.in_a_second, storm.in_a_tenth),
    );
    table.text().to_owned()
}

/// Whether a daemon, by its log since some fault, has all of its connections and serves.
fn is_back(lines: &[String]) -> bool {
    let last = |is_of_it: &dyn Fn(&String) -> bool| lines.iter().rev().find(|line| is_of_it(line));
    let connected = LABELS.iter().all(|label| {
        let of_label = |line: &String| line.contains("connected ") && line.contains(label);
        last(&of_label).is_none_or(|line| line.contains("INFO connected "))
    });
    let serves = last(&|line| {
        let lost = line.contains("not connected ") && line.contains(":intake");
        lost || line.contains("serving beside") || line.contains("standing aside")
    });
    connected && serves.is_none_or(|line| line.contains("serving beside"))
}

/// The second of the day, as [`second_of_day`].
fn now() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap().as_secs_f64() % 86_400.0
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
    LABELS.into_iter().filter_map(last).collect()
}

/// Of a line that begins as `2026-01-02T03:04:05.678901Z`.
fn second_of_day(line: &str) -> f64 {
    let time = line.split_whitespace().next().unwrap();
    let (_, clock) = time.trim_end_matches('Z').split_once('T').unwrap();
    let parts = clock.split(':').map(|part| part.parse::<f64>().unwrap());
    parts.fold(0.0, |sum, part| sum * 60.0 + part)
}
