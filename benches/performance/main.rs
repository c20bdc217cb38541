//! Every figure of docs/performance.md, measured side by side in one run: `scripts/bench [SECTION...]`.
//!
//! The machine's own speed must not matter, so each figure stands beside that of a rival measured in
//! the same minute: rounds take turns (A B C A B C …), and what is compared are medians over the rounds.
//! The rivals are processes of their own, as the daemon is.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../tests/support/mod.rs"]
mod support;

/// Latency, throughput and cost of the call.
mod call;
/// Many callers in one process, as in cinder-api.
mod callers;
/// Processes that do nothing.
mod crowd;
/// The figures' place in the document.
mod document;
/// Medians, ratios and how they are written.
mod figures;
/// Finding the copy, and keeping watch.
mod finding;
/// The least that a server can do.
mod floor;
/// An answer with a full memory.
mod full_memory;
/// What an operation pays for passing through the daemon.
mod hand_over;
/// What the figures were measured on.
mod machine;
/// The servers that are measured, each a process.
mod rivals;
/// Hundreds of nodes at one broker.
mod scale;
/// Memory, threads, connections, start.
mod size;
/// The topic's other end: a consumer of T in the place of cinder-volume.
mod topic;
/// What a process takes.
mod usage;

use document::Document;
use tokio::runtime::{Builder, Runtime};

fn main() {
    // `cargo bench` adds an argument of its own.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    if let Some((floor::ROLE, rest)) = arguments
        .split_first()
        .map(|(first, rest)| (first.as_str(), rest))
    {
        return runtime(floor::THREADS).block_on(floor::run(rest));
    }
    runtime(2).block_on(measure(&arguments));
}

fn runtime(threads: usize) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .unwrap()
}

/// Writes the figures of these sections into the document; of all, where none is named.
async fn measure(arguments: &[String]) {
    let wants = |section: &str| arguments.is_empty() || arguments.iter().any(|a| a == section);
    let document = Document::open();
    document.write("machine", &machine::describe().await);
    if wants("call") {
        document.write("call", &call::measure().await);
    }
    if wants("hand-over") {
        document.write("hand-over", &hand_over::measure().await);
    }
    if wants("size") {
        document.write("size", &size::measure().await);
    }
    if wants("finding") {
        document.write("finding", &finding::measure().await);
    }
    if wants("memory") {
        document.write("memory", &full_memory::measure().await);
    }
    if wants("scale") {
        document.write("scale", &scale::measure().await);
    }
}
