//! Whoever asks on the daemon's own topic is answered, in every mode, whatever becomes of cinder-volume's queues.
//!
//! An extended cinder-api asks there. In mode direct nothing else is touched on the broker.

use serde_json::{Value, json};

use crate::support::broker::SharedBroker;
use crate::support::caller::{Call, Caller};
use crate::support::cinder_volume::CinderVolume;
use crate::support::command::{Said, run};
use crate::support::copy::{GIB, SOURCE, Volume};
use crate::support::daemon::Daemon;
use crate::support::environment::Release;
use crate::support::listing::{Listing, own_queues};
use crate::support::releases::for_every_release;
use crate::support::service::{Service, unique_name};
use crate::support::wait::until;

const SERVING: &str = "serving the own topic";

for_every_release!(
    in_mode_direct,
    in_mode_sidecar_besides,
    in_mode_standalone_besides,
);

/// Both methods, by topic and by server, as an extended cinder-api asks.
async fn assert_answers(release: Release, service: &Service) {
    let caller = Caller::start(release, &SharedBroker::transport_url()).await;
    let volume = Volume::unique();
    let copy = volume.copy();
    let position = copy.hold_beyond(GIB / 4).await;
    let percent = (position * 100 / GIB).min(100).to_string();
    let ask = |method| {
        Call::to(service, method)
            .topic(&service.own_topic())
            .arg("volume", volume.argument())
    };
    let progress = ask("get_migrate_volume_progress");
    for call in [
        progress.clone(),
        progress.clone().version("3.11"),
        progress.clone().any_server(),
    ] {
        assert_eq!(caller.call(&call).await, Ok(Value::from(percent.as_str())));
    }
    let details = caller
        .call(&ask("get_migrate_volume_progress_details"))
        .await
        .unwrap();
    assert_eq!(details["percent"], json!(percent));
    assert_eq!(details["bytes"], json!(position));
    // What this dd copies is its whole source, larger than the volume is said to be.
    assert_eq!(details["total_bytes"], json!(SOURCE));

    let refused = caller.call(&ask("delete_volume")).await.unwrap_err();
    assert_eq!(refused.thrown(), "NoSuchMethod", "{refused:?}");
    let refused = caller.call(&progress.version("3.12")).await.unwrap_err();
    assert_eq!(refused.thrown(), "UnsupportedVersion", "{refused:?}");
}

/// The queues of cinder-volume, each as often as it is consumed.
async fn consumers_of(service: &Service) -> Vec<String> {
    let consumed = SharedBroker::ctl(&["list_consumers", "--silent", "queue_name"]).await;
    let topic = service.topic();
    let mut of_topic: Vec<String> = consumed
        .lines()
        .filter(|queue| queue.starts_with(&topic))
        .map(str::to_owned)
        .collect();
    of_topic.sort();
    of_topic
}

async fn in_mode_direct(release: Release) {
    let service = Service::unique();
    let url = SharedBroker::transport_url();
    let _cinder_volume = CinderVolume::start(release, &url, &service).await;
    let daemon = Daemon::start(&url, &service, "mode = direct");
    daemon.wait_for_log(SERVING).await;
    assert_answers(release, &service).await;
}

#[tokio::test]
async fn in_mode_direct_it_touches_nothing_else() {
    let service = Service::unique();
    let url = SharedBroker::transport_url();
    let _cinder_volume = CinderVolume::start(Release::Latest, &url, &service).await;
    let before = Listing::now().await.of(&service);
    let consumers = consumers_of(&service).await;
    let mut daemon = Daemon::start(&url, &service, "mode = direct");
    daemon.wait_for_log(SERVING).await;

    assert_answers(Release::Latest, &service).await;
    assert_eq!(Listing::now().await.of(&service), before);
    assert_eq!(consumers_of(&service).await, consumers);
    assert_eq!(own_queues(&service).await.len(), 1);
    daemon.process.signal("TERM").await;
    assert!(daemon.process.wait_for_exit().await.success());
    until("its queue has gone", async || {
        own_queues(&service).await.is_empty().then_some(())
    })
    .await;
}

async fn in_mode_sidecar_besides(release: Release) {
    let service = Service::unique();
    let url = SharedBroker::transport_url();
    let _cinder_volume = CinderVolume::start(release, &url, &service).await;
    let daemon = Daemon::beside(&service).await;
    daemon.wait_for_log(SERVING).await;
    assert_answers(release, &service).await;
}

async fn in_mode_standalone_besides(release: Release) {
    let service = Service::unique();
    let daemon = Daemon::alone(&service, "").await;
    daemon.wait_for_log(SERVING).await;
    assert_answers(release, &service).await;
}

fn configuration(url: &str, service: &Service) -> String {
    format!(
        "[DEFAULT]\ntransport_url = {url}\nhost = {}\nenabled_backends = lvm\n\
         [progress]\nmode = direct\nstate_file =\n",
        service.host
    )
}

fn line<'a>(said: &'a Said, what: &str) -> &'a str {
    let of = |line: &&str| line.split_whitespace().nth(1) == Some(what);
    said.out
        .lines()
        .find(of)
        .unwrap_or_else(|| panic!("{said:?}"))
}

#[tokio::test]
async fn check_and_call_look_there() {
    let service = Service::unique();
    let url = SharedBroker::transport_url();
    let _cinder_volume = CinderVolume::start(Release::Latest, &url, &service).await;
    let configuration = configuration(&url, &service);
    let host = service.name();
    let call = [
        "call",
        "--host",
        &host,
        "--volume-id",
        "6f0b2b5e-0000-4000-8000-000000000001",
        "--size",
        "1",
    ];

    let said = run(&configuration, &["check"]).await;
    assert_eq!(said.status, 1, "{said:?}");
    let served = format!("cinder-progress serves {}", service.own_topic());
    assert!(line(&said, "daemon").starts_with("FAIL"), "{said:?}");
    assert!(line(&said, "daemon").contains(&format!("no {served}")));
    let said = run(&configuration, &call).await;
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.err.contains("nobody serves"), "{said:?}");

    let daemon = Daemon::start(&url, &service, "mode = direct");
    daemon.wait_for_log(SERVING).await;
    let said = run(&configuration, &["check"]).await;
    assert_eq!(said.status, 0, "{said:?}");
    assert!(line(&said, "mode").contains("direct"), "{said:?}");
    assert!(line(&said, "daemon").contains(&format!("a {served}")));
    let said = run(&configuration, &call).await;
    assert_eq!((said.status, said.out.as_str()), (0, "0\n"), "{said:?}");
}

#[tokio::test]
async fn without_the_right_to_declare_its_queue_the_rest_is_served() {
    let service = Service::unique();
    let user = unique_name("user");
    SharedBroker::ctl(&["add_user", &user, "password"]).await;
    let permit = async |pattern: &str| {
        SharedBroker::ctl(&["set_permissions", &user, pattern, ".*", ".*"]).await;
    };
    // All but the queues of its own topic; the claim on the service is one of its own, too.
    permit("^(?!cinder-progress\\..*_[0-9a-f]{32}$)").await;
    let url = SharedBroker::transport_url();
    let restricted = url.replace("guest:guest", &format!("{user}:password"));
    let _cinder_volume = CinderVolume::start(Release::Latest, &url, &service).await;
    let daemon = Daemon::start(&restricted, &service, "mode = sidecar");
    daemon.wait_for_log("serving beside").await;
    let warning = daemon.wait_for_log("the own topic cannot be served").await;
    assert!(warning.contains("ACCESS_REFUSED"), "{warning}");
    assert!(warning.contains(&service.own_topic()), "{warning}");

    let caller = Caller::start(Release::Latest, &url).await;
    let call = Call::progress(&service, &Volume::unique().argument());
    assert_eq!(caller.call(&call).await, Ok(json!("0")));
    assert_eq!(own_queues(&service).await, Vec::<String>::new());
    drop(daemon);
    SharedBroker::ctl(&["delete_user", &user]).await;
}
