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
        let mut goal = |what: &str, figure: &dyn Fn(&[Series]) -> (f64, &'static str)| {
            let cells = all.iter().map(|series| {
                let (figure, verdict) = figure(series);
                format!("{figure:.2}, {verdict}")
            });
            let row: Vec<String> = [format!("{name}: {what}")]
                .into_iter()
                .chain(cells)
                .collect();
            goals.row(&row);
        };
        goal("median at most 1.2 × floor", &|all| {
            let figure = ratio(&all[at].median, &all[0].median);
            (figure, at_most(figure, 1.2))
        });
        goal("p99 at most 1.5 × floor", &|all| {
            let figure = ratio(&all[at].p99, &all[0].p99);
            (figure, at_most(figure, 1.5))
        });
        goal("calls/s at least 0.9 × floor", &|all| {
            let figure = ratio(&all[at].throughput, &all[0].throughput);
            (figure, at_least(figure, 0.9))
        });
        goal("CPU per call at most 1.4 × floor", &|all| {
            let figure = all[at].processor_per_call() / all[0].processor_per_call();
            (figure, at_most(figure, 1.4))
        });
        goal("calls/s at least 20 × Python", &|all| {
            let figure = ratio(&all[at].throughput, &all[3].throughput);
            (figure, at_least(figure, 20.0))
        });
        goal("CPU per call at most 0.1 × Python", &|all| {
            let figure = all[at].processor_per_call() / all[3].processor_per_call();
            (figure, at_most(figure, 0.1))
        });
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
