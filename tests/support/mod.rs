//! What the tests against a broker share: the broker, the peers, the daemon, and waiting with a deadline.

#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "a tool box: not each tool is in use at all times"
)]

/// The replies that a caller gets.
pub mod answers;
/// Many messages on Q before the daemon starts.
pub mod backlog;
/// The daemon on its own, and a caller.
pub mod bench;
/// A broker: the shared one, or one of a test's own that it may break.
pub mod broker;
/// A caller such as cinder-api.
pub mod caller;
/// A stand-in for cinder-volume.
pub mod cinder_volume;
/// Three brokers that are one.
pub mod cluster;
/// A verb of the program that ends by itself.
pub mod command;
/// A dd that copies a volume.
pub mod copy;
/// The program under test.
pub mod daemon;
/// What `scripts/test` hands over by environment variables.
pub mod environment;
/// AMQP frames in a stream of bytes.
pub mod frames;
/// What the broker has under a service's names.
pub mod listing;
/// A steady load of numbered operations.
pub mod load;
/// A service manager such as systemd.
pub mod manager;
/// A numbered operation, and a progress call.
pub mod operation;
/// A child process: started, signalled, killed on drop.
pub mod process;
/// Debian's Prometheus.
pub mod prometheus;
/// A network that fails on demand.
pub mod proxy;
/// An AMQP client that knows no RPC.
pub mod raw;
/// A bare cinder-volume that writes down what comes.
pub mod recorder;
/// One test per behaviour and release.
pub mod releases;
/// What the daemon shows over HTTP.
pub mod scrape;
/// Names on the broker, and names that no other test has.
pub mod service;
/// TLS to a broker.
pub mod tls;
/// Lines that a process writes, and waiting for them.
pub mod transcript;
/// A load and a bare cinder-volume: everything but the daemon and the fault.
pub mod trial;
/// What became of each operation.
pub mod verdict;
/// Waiting for a condition.
pub mod wait;
