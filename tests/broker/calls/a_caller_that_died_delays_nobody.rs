//! Replies to a caller that is gone hold up nobody else's, and are given up after a while.
//!
//! cinder-api processes are killed and restarted at any time, also in the middle of a burst of calls.

use serde_json::json;

use crate::support::broker::SharedBroker;
use crate::support::caller::{Call, Caller};
use crate::support::daemon::Daemon;
use crate::support::environment::Release;
use crate::support::raw::{Client, unwrapped};
use crate::support::releases::for_every_release;
use crate::support::service::Service;
use crate::support::wait::until;

const CALLS: u32 = 50;
const GIVEN_UP: &str = "the caller is gone";

for_every_release!(others_are_answered_while_a_dead_caller_is_looked_for);

async fn others_are_answered_while_a_dead_caller_is_looked_for(release: Release) {
    let url = SharedBroker::transport_url();
    let service = Service::unique();
    let queue = service.server_queue();
    let patience = "[oslo_messaging_rabbit]\nkombu_missing_consumer_retry_timeout = 5";
    let mut daemon = Daemon::alone(&service, patience).await;
    // Calls that come while the daemon is away wait on its queue.
    daemon.process.signal("TERM").await;
    daemon.process.wait_for_exit().await;

    let (dying, other, client) = tokio::join!(
        Caller::start(release, &url),
        Caller::start(release, &url),
        Client::connect(),
    );
    let call = Call::progress(&service, &json!({"id": "v", "size": 1})).timeout(60.0);
    tokio::select! {
        _ = dying.burst(&call, CALLS as usize, None) => panic!("nobody is there to answer"),
        () = until("the calls wait", async || {
            (client.depth(&queue).await == CALLS).then_some(())
        }) => {}
    }
    dying.kill().await;
    let request = unwrapped(&client.peek(&queue).await.data);
    let reply_queue = request["_reply_q"].as_str().unwrap();
    // The broker does so when nobody has used it for a while.
    client.delete(reply_queue).await;

    daemon.start_again();
    for outcome in other.burst(&call, 20, None).await {
        assert_eq!(outcome.unwrap(), "0");
    }
    assert!(!daemon.log().contains(GIVEN_UP), "{}", daemon.log());
    let line = daemon.wait_for_log(GIVEN_UP).await;
    assert!(line.contains(reply_queue), "{line}");
    assert_eq!(other.call(&call).await.unwrap(), "0");
    assert_eq!(
        daemon.log().matches(GIVEN_UP).count(),
        1,
        "{}",
        daemon.log()
    );
}
