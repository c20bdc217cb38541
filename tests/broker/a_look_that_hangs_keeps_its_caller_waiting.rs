//! While a look at `/proc` hangs, the caller is told that its call is alive, and soon that it failed.
//!
//! A read about a process stuck in the kernel can hang for hours. A caller with `call_monitor_timeout` gives
//! up on a server that is silent for that long; heartbeats tell it that this one is not dead.

use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::broker::SharedBroker;
use super::support::caller::{Call, Caller};
use super::support::daemon::Daemon;
use super::support::environment::Release;
use super::support::raw::{Client, unwrapped, wrapped};
use super::support::releases::for_every_release;
use super::support::service::{Service, unique_name};

/// `call_monitor_timeout` in seconds; the look takes longer.
const MONITOR: u32 = 2;

for_every_release!(a_monitored_call_outlives_its_monitor);

async fn a_monitored_call_outlives_its_monitor(release: Release) {
    let node = HangingNode::make();
    let service = Service::unique();
    let _daemon = Daemon::alone(&service, &node.configuration()).await;
    let caller = Caller::start(release, &SharedBroker::transport_url()).await;
    let call = Call::progress(&service, &volume()).monitor(MONITOR);
    assert_eq!(caller.call(&call).await.unwrap(), "0");

    node.hang();
    let since = Instant::now();
    let exception = caller.call(&call).await.unwrap_err();
    assert!(since.elapsed() > Duration::from_secs(MONITOR.into()));
    assert_eq!(exception.thrown(), "RuntimeError", "{exception:?}");
    assert!(
        exception.message.contains("could not be looked at within"),
        "{exception:?}"
    );

    node.recover();
    assert_eq!(caller.call(&call).await.unwrap(), "0");
}

#[tokio::test]
async fn heartbeats_come_at_half_the_monitors_time() {
    let node = HangingNode::make();
    let service = Service::unique();
    let _daemon = Daemon::alone(&service, &node.configuration()).await;
    let reply_queue = unique_name("reply");
    let client = Client::connect().await;
    client.declare(&reply_queue).await;
    let mut replies = client.consume(&reply_queue).await;

    node.hang();
    let request = json!({
        "method": "get_migrate_volume_progress", "version": "3.11", "args": {"volume": volume()},
        "_msg_id": "the call", "_reply_q": reply_queue, "_timeout": MONITOR,
    });
    let queue = service.server_queue();
    let since = Instant::now();
    client
        .publish(&queue, Default::default(), &wrapped(&request))
        .await;
    for heartbeat in 1..=2 {
        let reply = unwrapped(&replies.next().await.data);
        assert!(since.elapsed() >= Duration::from_secs(heartbeat), "{reply}");
        assert_eq!(reply["ending"], false, "{reply}");
        assert_eq!(reply["_msg_id"], "the call");
        assert_eq!(
            (&reply["result"], &reply["failure"]),
            (&Value::Null, &Value::Null)
        );
    }
    let reply = unwrapped(&replies.next().await.data);
    assert_eq!(reply["ending"], true, "{reply}");
    assert!(reply["failure"].is_string(), "{reply}");
}

fn volume() -> Value {
    json!({"id": "v", "size": 1})
}

/// A made-up `/proc` in which the names of some processes are FIFOs: who reads one waits for a writer.
struct HangingNode {
    proc: TempDir,
}

impl HangingNode {
    /// More than a call has time for, at a second each, and fewer than the threads that may hang.
    const PIDS: std::ops::Range<u32> = 101..113;

    fn make() -> Self {
        let proc = tempfile::tempdir().unwrap();
        Self { proc }
    }

    /// A scan by itself would hang before the call comes.
    fn configuration(&self) -> String {
        format!(
            "proc_root = {}\nscan_interval = 3600",
            self.proc.path().display()
        )
    }

    fn hang(&self) {
        for name in self.names() {
            fs::create_dir(name.parent().unwrap()).unwrap();
            let made = Command::new("mkfifo").arg(&name).status().unwrap();
            assert!(made.success());
        }
    }

    fn recover(&self) {
        let mut writers: Vec<File> = Vec::new();
        for name in self.names() {
            // Opened for both, a FIFO never lets the opener wait.
            writers.push(
                OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(&name)
                    .unwrap(),
            );
            fs::remove_file(&name).unwrap();
        }
    }

    fn names(&self) -> impl Iterator<Item = PathBuf> {
        Self::PIDS.map(|pid| self.proc.path().join(pid.to_string()).join("comm"))
    }
}
