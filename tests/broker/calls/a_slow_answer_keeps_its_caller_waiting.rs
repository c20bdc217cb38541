//! While an answer takes its time, the caller is told that its call is alive.
//!
//! The storage's own command may take many seconds. A caller with `call_monitor_timeout` gives up on a
//! server that is silent for that long; heartbeats tell it that this one is not dead.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::broker::SharedBroker;
use crate::support::caller::{Call, Caller};
use crate::support::daemon::Daemon;
use crate::support::environment::Release;
use crate::support::raw::{Client, unwrapped, wrapped};
use crate::support::releases::for_every_release;
use crate::support::service::{Service, unique_name};

/// `call_monitor_timeout` in seconds; the command takes longer.
const MONITOR: u32 = 2;

/// It never comes back, and is given up after twice the monitor's time.
const SLOW: &str = "migration_mode = DRIVER_BASED\ndriver_command = sleep 60\ndriver_timeout = 4";

for_every_release!(a_monitored_call_outlives_its_monitor);

async fn a_monitored_call_outlives_its_monitor(release: Release) {
    let service = Service::unique();
    let _daemon = Daemon::alone(&service, SLOW).await;
    let caller = Caller::start(release, &SharedBroker::transport_url()).await;
    let call = Call::progress(&service, &volume()).monitor(MONITOR);
    let since = Instant::now();
    assert_eq!(caller.call(&call).await.unwrap(), "NA");
    assert!(since.elapsed() > Duration::from_secs(MONITOR.into()));
}

#[tokio::test]
async fn heartbeats_come_at_half_the_monitors_time() {
    let service = Service::unique();
    let _daemon = Daemon::alone(&service, SLOW).await;
    let reply_queue = unique_name("reply");
    let client = Client::connect().await;
    client.declare(&reply_queue).await;
    let mut replies = client.consume(&reply_queue).await;

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
    let answer = loop {
        let reply = unwrapped(&replies.next().await.data);
        if reply["ending"] == true {
            break reply;
        }
    };
    assert_eq!(answer["result"], "NA", "{answer}");
}

fn volume() -> Value {
    json!({"id": "v", "size": 1})
}
