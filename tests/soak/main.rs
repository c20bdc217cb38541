//! The fault tests in their big form: `scripts/soak [NAME...]`. Prints a table in Markdown.
//!
//! Thousands of operations at some hundreds a second, faults in turn. Faults that befall cinder-volume
//! or the broker are made with and without the daemon, because what is lost without it as well is
//! not its doing: the bar is to be no worse.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

/// Faults of the broker.
mod broker;
/// Faults of cinder-volume, the real one and its queues.
mod cinder_volume;
/// Faults of one node of a cluster.
mod cluster;
/// Faults of the daemon and of its network.
mod daemon;
/// One line of the table.
mod row;

use row::Row;
use support::backlog;
use support::broker::SharedBroker;
use support::environment::Release;

/// Messages that wait when the daemon starts.
const BACKLOG: usize = 100_000;

#[tokio::main]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let wants =
        |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()));

    println!("{}", row::HEAD);
    let mut rows = Vec::new();
    for (name, fault) in daemon::FAULTS {
        if wants(name) {
            rows.push(daemon::row(name, *fault).await.print());
        }
    }
    for (name, fault, release) in cinder_volume::FAULTS {
        for beside in [false, true] {
            if wants(name) && release.available() {
                rows.push(
                    cinder_volume::row(name, *fault, *release, beside)
                        .await
                        .print(),
                );
            }
        }
    }
    for (name, fault) in broker::FAULTS {
        for beside in [false, true] {
            if wants(name) {
                rows.push(broker::row(name, *fault, beside).await.print());
            }
        }
    }
    // Last, because its nodes need the whole machine.
    if cluster::FAULTS.iter().any(|trouble| wants(trouble.0)) && Release::Latest.available() {
        let nodes = cluster::start().await;
        for trouble in cluster::FAULTS {
            for beside in [false, true] {
                if wants(trouble.0) {
                    rows.push(cluster::row(&nodes, *trouble, beside).await.print());
                }
            }
        }
    }
    let operations: usize = rows.iter().map(Row::operations).sum();
    println!("\n{operations} operations.");

    if wants("backlog") {
        let (amqp, transport) = (SharedBroker::amqp_uri(), SharedBroker::transport_url());
        let peak = backlog::peak_memory(&amqp, &transport, BACKLOG).await;
        println!("\nA backlog of {BACKLOG} messages of 5 kB: {peak} KiB at most.");
        assert!(peak < backlog::LIMIT, "{peak} KiB");
    }
    let broken: Vec<&str> = rows
        .iter()
        .filter(|row| row.is_broken())
        .map(Row::name)
        .collect();
    assert!(broken.is_empty(), "not as promised: {broken:?}");
}
