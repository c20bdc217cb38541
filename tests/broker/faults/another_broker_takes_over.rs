//! Of several brokers in `transport_url` any that lives will do: one that dies, falls silent, refuses or
//! never says a word costs no more than the options say.
//!
//! The two brokers here are no cluster: whoever is answered by one has been served on that one.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::TcpListener;

use crate::support::broker::{Broker, free_port};
use crate::support::caller::{Call, Caller};
use crate::support::daemon::Daemon;
use crate::support::environment::Release;
use crate::support::service::Service;
use crate::support::wait::until;

/// Two of these without a sign mean that a broker is down.
const HEARTBEAT: Duration = Duration::from_secs(4);

const OPTIONS: &str = "[oslo_messaging_rabbit]\nheartbeat_timeout_threshold = 4\n\
                       rabbit_retry_interval = 1\nrabbit_retry_backoff = 0";

fn together(brokers: &[&str]) -> String {
    let hosts: Vec<&str> = brokers
        .iter()
        .map(|url| url.trim_start_matches("rabbit://").trim_end_matches('/'))
        .collect();
    format!("rabbit://{}//", hosts.join(","))
}

/// Waits until a call by this broker is answered.
async fn is_served(caller: &Caller, service: &Service) {
    let volume = json!({"id": "v", "size": 1, "migration_status": "migrating"});
    let call = Call::progress(service, &volume).timeout(0.5);
    until("a call is answered", async || {
        let answer = caller.call(&call).await.ok()?;
        (answer == "0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn when_one_is_killed_or_falls_silent() {
    let (one, two) = tokio::join!(Broker::start(), Broker::start());
    let service = Service::unique();
    let at_two = Caller::start(Release::Latest, &two.transport_url()).await;
    let url = together(&[&one.transport_url(), &two.transport_url()]);
    let daemon = Daemon::start_with(&url, &service, "mode = standalone", OPTIONS);
    daemon.wait_for_log("serving alone").await;

    // Wherever it was, it is served by the other now.
    one.kill().await;
    is_served(&at_two, &service).await;

    // Both its connections are at the second: the first has been dead all the time.
    one.start_again().await;
    let silent = Instant::now();
    two.signal("STOP").await;
    let again = Caller::start(Release::Latest, &one.transport_url()).await;
    is_served(&again, &service).await;
    let took = silent.elapsed();
    assert!(took >= HEARTBEAT, "{took:?}");
    two.signal("CONT").await;
}

#[tokio::test]
async fn when_others_refuse_or_never_say_a_word() {
    let broker = Broker::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let held = tokio::spawn(async move {
        let mut sockets = Vec::new();
        while let Ok((socket, _)) = silent.accept().await {
            sockets.push(socket);
        }
    });
    let caller = Caller::start(Release::Latest, &broker.transport_url()).await;
    for dead in [free_port(), silent_port] {
        let service = Service::unique();
        let dead = format!("rabbit://guest:guest@127.0.0.1:{dead}//");
        let url = together(&[&dead, &broker.transport_url()]);
        let daemon = Daemon::start_with(&url, &service, "mode = standalone", OPTIONS);
        is_served(&caller, &service).await;
        drop(daemon);
    }
    held.abort();
}
