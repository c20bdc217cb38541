//! Latency, throughput and cost of the call.
//!
//! All servers run at the same time, and all answer about the same dd, which is held still; the floor
//! answers about nothing.

use std::time::Duration;

use crate::callers::{Callers, Round};
use crate::figures::{Table, at_least, at_most, median, quantile, ratio, seconds, time};
use crate::rivals::Server;
use crate::support::broker::SharedBroker;
use crate::support::copy::{GIB, Volume};
use crate::support::operation::opened;
use crate::topic::Topic;
use crate::usage;

const CALLERS: [usize; 3] = [1, 16, 64];

/// Rounds of each server with each number of callers.
const ROUNDS: usize = 5;

/// Of one round. The goals need the 99th percentile of each.
const ROUND: Duration = Duration::from_millis(800);

/// The first calls meet cold caches.
const WARM_UP: Duration = Duration::from_millis(500);

/// The rounds of one server with one number of callers.
#[derive(Default)]
struct Series {
    throughput: Vec<f64>,
    median: Vec<f64>,
    p99: Vec<f64>,
    processor: f64,
    calls: usize,
}

impl Series {
    fn add(&mut self, round: &Round, processor: Duration) {
        self.throughput.push(round.throughput());
        self.median.push(median(seconds(&round.latencies)));
        self.p99.push(quantile(seconds(&round.latencies), 0.99));
        self.processor += processor.as_secs_f64();
        self.calls += round.latencies.len();
    }

    fn processor_per_call(&self) -> f64 {
        self.processor / self.calls as f64
    }
}

/// What is asked of one kind of server, as a ratio to another one.
struct Goal {
    what: &'static str,
    /// The figure of a server, by its place among all: floor, sidecar, standalone, Python.
    figure: fn(&[Series], usize) -> f64,
    verdict: fn(f64, f64) -> &'static str,
    limit: f64,
    /// The limit with a single caller, who waits for each turn of a thread.
    alone: f64,
}

const GOALS: [Goal; 6] = [
    Goal {
        what: "median at most 1.2 × floor, with one caller 1.7 ×",
        figure: |all, at| ratio(&all[at].median, &all[0].median),
        verdict: at_most,
        limit: 1.2,
        alone: 1.7,
    },
    Goal {
        what: "p99 at most 1.5 × floor, with one caller 2 ×",
        figure: |all, at| ratio(&all[at].p99, &all[0].p99),
        verdict: at_most,
        limit: 1.5,
        alone: 2.0,
    },
    Goal {
        what: "calls/s at least 0.9 × floor, with one caller 0.6 ×",
        figure: |all, at| ratio(&all[at].throughput, &all[0].throughput),
        verdict: at_least,
        limit: 0.9,
        alone: 0.6,
    },
    Goal {
        what: "CPU per call at most 1.4 × floor, with one caller 2.8 ×",
        figure: |all, at| all[at].processor_per_call() / all[0].processor_per_call(),
        verdict: at_most,
        limit: 1.4,
        alone: 2.8,
    },
    Goal {
        what: "calls/s at least 20 × Python, with one caller 10 ×",
        figure: |all, at| ratio(&all[at].throughput, &all[3].throughput),
        verdict: at_least,
        limit: 20.0,
        alone: 10.0,
    },
    Goal {
        what: "CPU per call at most 0.1 × Python",
        figure: |all, at| all[at].processor_per_call() / all[3].processor_per_call(),
        verdict: at_most,
        limit: 0.1,
        alone: 0.1,
    },
];

/// Two tables: the figures, and how they stand to the goals.
pub async fn measure() -> String {
    let volume = Volume::unique();
    let copy = volume.copy();
    let percent = copy.hold_beyond(GIB / 8).await * 100 / GIB;
    let uri = SharedBroker::amqp_uri();
    let topic = Topic::connect(&uri).await;
    let servers = [
        Server::floor(&topic).await,
        Server::sidecar(&topic).await,
        Server::standalone().await,
        Server::python().await,
    ];
    let argument = volume.argument();
    let callers = Callers::connect(&uri, argument["id"].as_str().unwrap()).await;
    for server in &servers {
        callers.ask_for(&server.queue, 16, WARM_UP).await;
    }
    for server in &servers[1..] {
        let reply = opened(&callers.call(&server.queue).await).unwrap();
        assert_eq!(
            reply["result"],
            percent.to_string(),
            "{} is wrong",
            server.name
        );
    }
    let mut figures = Table::new(&[
        "callers",
        "server",
        "calls/s",
        "median",
        "p99",
        "CPU per call",
    ]);
    let mut goals = Table::new(&["goal", "1 caller", "16 callers", "64 callers"]);
    let mut all = Vec::new();
    for count in CALLERS {
        let series = compare(&callers, &servers, count).await;
        for (server, series) in servers.iter().zip(&series) {
            figures.row(&[
                count.to_string(),
                server.name.to_owned(),
                format!("{:.0}", median(series.throughput.iter().copied())),
                time(median(series.median.iter().copied())),
                time(median(series.p99.iter().copied())),
                time(series.processor_per_call()),
            ]);
        }
        all.push(series);
    }
    for (at, name) in [(1, "sidecar"), (2, "standalone")] {
        for goal in &GOALS {
            let cells = CALLERS.iter().zip(&all).map(|(&callers, series)| {
                let figure = (goal.figure)(series, at);
                let limit = if callers == 1 { goal.alone } else { goal.limit };
                let verdict = (goal.verdict)(figure, limit);
                format!("{figure:.2}, {verdict}")
            });
            let what = format!("{name}: {}", goal.what);
            let row: Vec<String> = [what].into_iter().chain(cells).collect();
            goals.row(&row);
        }
    }
    format!("{}\n{}", figures.text(), goals.text())
}

/// So many callers at each server in turn.
async fn compare(callers: &Callers, servers: &[Server], count: usize) -> Vec<Series> {
    let mut series: Vec<Series> = servers.iter().map(|_| Series::default()).collect();
    for _ in 0..ROUNDS {
        for (server, series) in servers.iter().zip(&mut series) {
            let before = usage::processor(server.pid());
            let round = callers.ask_for(&server.queue, count, ROUND).await;
            series.add(&round, usage::processor(server.pid()) - before);
        }
    }
    series
}
