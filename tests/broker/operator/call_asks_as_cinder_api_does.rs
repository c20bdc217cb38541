//! `cinder-progress call` asks as cinder-api would and shows what that would get, whoever answers.
//!
//! It is what an operator tries first when a progress does not show: its words must be true.

use lapin::BasicProperties;
use lapin::types::FieldTable;
use serde_json::{Value, json};

use crate::support::broker::{SharedBroker, free_port};
use crate::support::cinder_volume::CinderVolume;
use crate::support::command::{Said, run};
use crate::support::copy::{GIB, Volume};
use crate::support::daemon::Daemon;
use crate::support::environment::Release;
use crate::support::raw::{Client, unwrapped, wrapped};
use crate::support::releases::for_every_release;
use crate::support::service::Service;

const ID: &str = "6f0b2b5e-0000-4000-8000-000000000001";

async fn call_at(url: &str, service: &Service, more: &[&str]) -> Said {
    let configuration = format!("[DEFAULT]\ntransport_url = {url}\n");
    let host = format!("{}#pool", service.name());
    let mut arguments = vec!["call", "--host", &host];
    if !more.contains(&"--volume-id") {
        arguments.extend(["--volume-id", ID]);
    }
    if !more.contains(&"--size") {
        arguments.extend(["--size", "1"]);
    }
    arguments.extend(more);
    run(&configuration, &arguments).await
}

async fn call(service: &Service, more: &[&str]) -> Said {
    call_at(&SharedBroker::transport_url(), service, more).await
}

/// The answer alone on stdout, nothing else anywhere.
fn assert_answer(said: &Said, answer: &str) {
    assert_eq!(said.out, format!("{answer}\n"), "{said:?}");
    assert_eq!((said.status, said.err.as_str()), (0, ""));
}

fn assert_failure(said: &Said, first_line: &str, explanation: &str) {
    assert_eq!((said.status, said.out.as_str()), (1, ""), "{said:?}");
    let line = said.err.lines().next().unwrap();
    assert_eq!(line, format!("cinder-progress: {first_line}"));
    assert!(said.err.contains(explanation), "{said:?}");
}

#[tokio::test]
async fn a_daemon_alone() {
    let service = Service::unique();
    let _daemon = Daemon::alone(&service, "").await;
    assert_answer(&call(&service, &[]).await, "0");

    let volume = Volume::unique();
    let copy = volume.copy();
    let percent = copy.hold_beyond(GIB / 2).await * 100 / GIB;
    let id = volume.argument()["id"].as_str().unwrap().to_owned();
    let said = call(&service, &["--volume-id", &id]).await;
    assert_answer(&said, &percent.min(100).to_string());
    let said = call(&service, &["--name-id", &id]).await;
    assert_answer(&said, &percent.min(100).to_string());

    let said = call(&service, &["--size", "0"]).await;
    let invalid = format!(
        "cinder.exception.InvalidVolume: Invalid volume: the size of volume {ID} is 0; a whole \
         number of GiB from 1 is needed"
    );
    assert_failure(&said, &invalid, "");
    assert_eq!(said.err.lines().count(), 1, "no traceback: {said:?}");

    let said = call(&service, &["--rpc-version", "4.0"]).await;
    let refused = "oslo_messaging.rpc.dispatcher.UnsupportedVersion: Endpoint does not support RPC \
                   version 4.0. Attempted method: get_migrate_volume_progress";
    assert_failure(&said, refused, "");
    assert!(!said.err.contains("cinder-volume"), "{said:?}");
}

for_every_release!(
    a_daemon_beside_cinder_volume,
    cinder_volume_without_a_daemon,
    cinder_volume_that_raises,
);

async fn a_daemon_beside_cinder_volume(release: Release) {
    let service = Service::unique();
    let url = SharedBroker::transport_url();
    let _cinder_volume = CinderVolume::start(release, &url, &service).await;
    let _daemon = Daemon::beside(&service).await;
    assert_answer(&call(&service, &[]).await, "0");

    let said = call(&service, &["--rpc-version", "3.99"]).await;
    let refused = "oslo_messaging.rpc.dispatcher.UnsupportedVersion: Endpoint does not support RPC \
                   version 3.99. Attempted method: get_migrate_volume_progress";
    assert_failure(
        &said,
        refused,
        "not cinder-progress, though one is connected",
    );
}

async fn cinder_volume_without_a_daemon(release: Release) {
    let service = Service::unique();
    let url = SharedBroker::transport_url();
    let _cinder_volume = CinderVolume::start(release, &url, &service).await;
    let refused = "oslo_messaging.rpc.dispatcher.NoSuchMethod: Endpoint does not support RPC method \
                   get_migrate_volume_progress";
    let said = call(&service, &[]).await;
    assert_failure(
        &said,
        refused,
        "no cinder-progress is connected for that service",
    );
    assert!(!said.err.contains("Traceback"), "{said:?}");
    let said = call(&service, &["--debug"]).await;
    assert!(said.err.contains("| Traceback"), "{said:?}");
}

async fn cinder_volume_that_raises(release: Release) {
    let service = Service::unique();
    let url = SharedBroker::transport_url();
    let raises = ["--progress-fails", "no such thing"];
    let _cinder_volume = CinderVolume::start_with(release, &url, &service, &raises).await;
    let said = call(&service, &[]).await;
    let invalid = "cinder.exception.InvalidVolume: Invalid volume: no such thing";
    assert_failure(&said, invalid, "");
    assert_eq!(said.err.lines().count(), 1, "{said:?}");
}

#[tokio::test]
async fn nobody() {
    let service = Service::unique();
    // Somebody must have declared the exchange.
    let _daemon = Daemon::alone(&Service::unique(), "").await;
    let said = call(&service, &[]).await;
    let (name, queue) = (service.name(), service.server_queue());
    let line = format!("nobody serves {name}#pool: no queue {queue}");
    assert_failure(&said, &line, "cinder service-list");

    let host = service.name();
    let url = SharedBroker::transport_url();
    let configuration = format!(
        "[DEFAULT]\ntransport_url = {url}\ncontrol_exchange = {}\n",
        service.host
    );
    let arguments = ["call", "--host", &host, "--volume-id", ID, "--size", "1"];
    let said = run(&configuration, &arguments).await;
    let line = format!("there is no exchange {}", service.host);
    assert_failure(&said, &line, "control_exchange");
}

#[tokio::test]
async fn a_queue_that_nobody_consumes() {
    let service = Service::unique();
    let client = Client::connect().await;
    let _daemon = Daemon::alone(&Service::unique(), "").await;
    client.declare(&service.server_queue()).await;
    client.bind(&service.server_queue(), "openstack").await;
    let said = call(&service, &["--timeout", "1"]).await;
    let line = "no answer within 1s (in cinder-api: MessagingTimeout)";
    assert_failure(&said, line, "has no consumer");
    // The settings' own time limit counts where none is given.
    let url = SharedBroker::transport_url();
    let configuration = format!("[DEFAULT]\ntransport_url = {url}\nrpc_response_timeout = 1\n");
    let host = service.name();
    let arguments = ["call", "--host", &host, "--volume-id", ID, "--size", "1"];
    assert_failure(
        &run(&configuration, &arguments).await,
        line,
        "has no consumer",
    );
    client.delete(&service.server_queue()).await;
}

/// The message is as those of real callers; signs of life and replies to other calls are passed
/// over; nothing is left behind.
#[tokio::test]
async fn whoever_looks_at_the_messages() {
    let service = Service::unique();
    let client = Client::connect().await;
    let _daemon = Daemon::alone(&Service::unique(), "").await;
    client.declare(&service.server_queue()).await;
    client.bind(&service.server_queue(), "openstack").await;
    let mut messages = client.consume(&service.server_queue()).await;

    let answering = async {
        let delivery = messages.next().await;
        let request = unwrapped(&delivery.data);
        let properties = &delivery.properties;
        assert_eq!(properties.delivery_mode(), &Some(2));
        assert_eq!(properties.priority(), &Some(0));
        assert_eq!(properties.expiration().as_ref().unwrap().as_str(), "7000");
        assert_eq!(properties.headers(), &Some(FieldTable::default()));
        assert_eq!(delivery.exchange.as_str(), "openstack");
        let volume = &request["args"]["volume"]["versioned_object.data"];
        assert_eq!(volume["id"], ID);
        assert_eq!(volume["host"], format!("{}#pool", service.name()));
        let reply_queue = request["_reply_q"].as_str().unwrap().to_owned();
        for (msg_id, ending, result) in [
            (json!("another"), true, json!("1")),
            (request["_msg_id"].clone(), false, Value::Null),
            (request["_msg_id"].clone(), true, json!("42")),
        ] {
            let reply = json!({
                "_msg_id": msg_id, "ending": ending, "result": result, "failure": null,
                "_unique_id": "u",
            });
            let body = wrapped(&reply);
            client
                .publish(&reply_queue, BasicProperties::default(), &body)
                .await;
        }
        reply_queue
    };
    let (said, reply_queue) = tokio::join!(call(&service, &["--timeout", "7"]), answering);
    assert_answer(&said, "42");
    client.delete(&service.server_queue()).await;

    for list in ["list_queues", "list_exchanges"] {
        let listed = SharedBroker::ctl(&[list, "name"]).await;
        assert!(!listed.contains(&reply_queue), "{listed}");
    }
}

#[tokio::test]
async fn no_broker_bad_settings_bad_usage() {
    let service = Service::unique();
    let port = free_port();
    let url = format!("rabbit://guest:secret@127.0.0.1:{port},guest:secret@localhost:{port}//");
    let said = call_at(&url, &service, &[]).await;
    let line = "no broker of transport_url can be reached";
    assert_failure(&said, line, &format!("localhost:{port}: "));
    assert!(!said.err.contains("secret"), "{said:?}");

    let url = SharedBroker::transport_url().replace("guest:guest", "guest:wrong");
    let said = call_at(&url, &service, &[]).await;
    assert_failure(&said, line, "ACCESS_REFUSED");

    let said = run(
        "[progress]\nmode = both\n",
        &["call", "--host", "h", "--volume-id", "v", "--size", "1"],
    )
    .await;
    assert_eq!((said.status, said.out.as_str()), (78, ""), "{said:?}");
    for arguments in [
        &["call", "--host", "h", "--volume-id", "v"][..],
        &["call", "--host", "", "--volume-id", "v", "--size", "1"],
        &["call", "--host", "h", "--volume-id", "v", "--size", "x"],
    ] {
        let said = run("", arguments).await;
        assert_eq!((said.status, said.out.as_str()), (2, ""), "{said:?}");
    }
}
