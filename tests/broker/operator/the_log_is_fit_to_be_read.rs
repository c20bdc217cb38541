//! Log lines bear no secret, also with `debug = true`; they are few, and as the journal wants them.

use std::fs::File;
use std::io::Write;

use lapin::BasicProperties;
use serde_json::json;
use tokio::process::Command;

use crate::support::bench::Alone;
use crate::support::broker::{Broker, SharedBroker};
use crate::support::caller::{Call, Caller};
use crate::support::cinder_volume::CinderVolume;
use crate::support::copy::Volume;
use crate::support::daemon::Daemon;
use crate::support::environment::Release;
use crate::support::load::properties;
use crate::support::process::Process;
use crate::support::raw::{Client, wrapped};
use crate::support::recorder::{Queues, Via};
use crate::support::service::Service;
use crate::support::trial::Trial;
use crate::support::wait::until;

/// More log lines, after all of `[progress]`.
const DEBUG: &str = "[DEFAULT]\ndebug = true";

/// What a pipe holds (`pipe(7)`), in bytes.
const PIPE: usize = 65_536;

/// Many seconds' worth of lines.
const FLOOD: usize = 2000;

/// Stands in every place where a secret can be.
const SECRET: &str = "hunter2sesame";

fn assert_keeps_secrets(daemon: &Daemon) {
    let log = daemon.log();
    assert!(log.contains("DEBUG"), "{log}");
    assert!(!log.contains(SECRET), "{log}");
}

fn volume() -> serde_json::Value {
    let mut volume = Volume::unique().argument();
    volume["provider_auth"] = json!(format!("CHAP user {SECRET}"));
    volume["metadata"] = json!({"key": SECRET});
    volume
}

#[tokio::test]
async fn no_line_bears_a_secret_of_a_call() {
    let driver = format!("driver_command = sh -c 'cat >&2; echo {SECRET}; exit 3'");
    let configuration = format!("{driver}\n{DEBUG}");
    let bench = Alone::start_with(Release::Latest, &configuration, &[]).await;
    let context = json!({"auth_token": SECRET, "user_id": "u"});
    let call = |volume| Call::progress(&bench.service, &volume).context(context.clone());
    let caller = &bench.caller;
    let ask = |call: Call| async move { caller.call(&call).await };
    ask(call(volume())).await.unwrap();
    let mut odd = volume();
    odd["size"] = json!(SECRET);
    ask(call(odd)).await.unwrap_err();
    ask(call(volume()).version("9.9")).await.unwrap_err();
    ask(call(volume()).arg("migration_mode", SECRET))
        .await
        .unwrap();
    let other = Call::to(&bench.service, "initialize_connection")
        .arg("volume", volume())
        .context(context.clone());
    bench.caller.call(&other).await.unwrap_err();

    let raw = Client::connect().await;
    let from = bench.daemon.process.stderr.len();
    for body in [
        format!("{{\"oslo.message\": {SECRET}"),
        format!("{{\"oslo.version\": \"2.0\", \"oslo.message\": \"{{\\\"method\\\": {SECRET}\"}}"),
    ] {
        let queue = bench.service.server_queue();
        raw.publish(&queue, BasicProperties::default(), body.as_bytes())
            .await;
    }
    bench
        .daemon
        .wait_for_log_from(from, "dropped a message")
        .await;
    ask(call(volume())).await.unwrap();
    assert_keeps_secrets(&bench.daemon);
}

#[tokio::test]
async fn no_line_bears_a_secret_of_an_operation() {
    let url = SharedBroker::transport_url();
    let service = Service::unique();
    let (cinder_volume, caller) = tokio::join!(
        CinderVolume::start(Release::Latest, &url, &service),
        Caller::start(Release::Latest, &url),
    );
    let daemon = Daemon::start_with(&url, &service, "", DEBUG);
    daemon.wait_for_log("serving beside").await;
    let operation = Call::to(&service, "create_volume")
        .arg("number", 1)
        .arg("volume", volume())
        .context(json!({"auth_token": SECRET}));
    caller.cast(&operation).await;
    cinder_volume.wait_for_executed(1).await;
    daemon.wait_for_log("handed over").await;
    assert_keeps_secrets(&daemon);
}

/// The daemon has an account of its own, whose password is the secret.
#[tokio::test]
async fn no_line_bears_the_password() {
    let broker = Broker::start().await;
    let service = Service::unique();
    broker.ctl(&["add_user", "progress", SECRET]).await;
    broker
        .ctl(&["set_permissions", "progress", ".*", ".*", ".*"])
        .await;
    let connect = |password: &str| {
        let url = broker.transport_url();
        let url = url.replace("guest:guest", &format!("progress:{password}"));
        Daemon::start_with(&url, &service, "mode = standalone", DEBUG)
    };
    let wrong = connect(&format!("{SECRET}!"));
    wrong.wait_for_log("ACCESS_REFUSED").await;
    assert_keeps_secrets(&wrong);
    let right = connect(SECRET);
    right.wait_for_log("serving alone").await;
    broker.stop().await;
    right.wait_for_log("not connected").await;
    assert_keeps_secrets(&right);
}

/// The daemon is stopped until all of it waits, so that it comes faster than its lines may.
#[tokio::test]
async fn a_flood_of_events_is_a_few_lines() {
    let service = Service::unique();
    let daemon = Daemon::alone(&service, "").await;
    let request = wrapped(&json!({"method": "no_such_method", "version": "3.0", "args": {}}));
    let client = Client::connect().await;
    daemon.process.signal("STOP").await;
    for _ in 0..FLOOD {
        let queue = service.server_queue();
        client.publish(&queue, properties(), &request).await;
    }
    daemon.process.signal("CONT").await;
    let line = daemon.wait_for_log("more suppressed").await;
    assert!(line.contains(r#"like="refused a call""#), "{line}");
    until("all is read", async || {
        (client.depth(&service.server_queue()).await == 0).then_some(())
    })
    .await;
    let log = daemon.log();
    let written = log
        .lines()
        .filter(|line| line.contains(" refused a call"))
        .count();
    assert!(written < FLOOD / 2, "{written} lines");
}

/// As when the journal hangs: not one line can be written.
#[tokio::test]
async fn whoever_reads_no_log_holds_up_no_operation() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("stderr");
    let made = Command::new("mkfifo").arg(&pipe).status().await.unwrap();
    assert!(made.success());
    let mut full = File::options().read(true).write(true).open(&pipe).unwrap();
    full.write_all(&[b'.'; PIPE]).unwrap();

    let (url, service) = (SharedBroker::transport_url(), Service::unique());
    let trial = Trial::start(&SharedBroker::amqp_uri(), &service, Queues::transient()).await;
    let mut daemon = Daemon::start_logging_to(&pipe, &url, &service);
    trial.recorder.wait_for_one_via(Via::Topic).await;
    trial.load.wait_for_more(200).await;
    let verdict = trial.finish().await;
    verdict.assert_exact_and_in_order();
    assert_eq!(verdict.progress.unanswered, 0, "{verdict:?}");
    daemon.process.signal("TERM").await;
    assert!(daemon.process.wait_for_exit().await.success());
}

#[tokio::test]
async fn the_journal_gets_a_level_and_no_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cinder-progress.conf");
    let text = "[DEFAULT]\ntransport_url = rabbit://u:p@127.0.0.1:1//\nhost = journal\n\
                [progress]\nstate_file =\n";
    std::fs::write(&file, text).unwrap();
    for (stream, prefix) in [
        ("$(stat -L -c %d:%i /proc/self/fd/2)", true),
        ("1:2", false),
    ] {
        let program = env!("CARGO_BIN_EXE_cinder-progress");
        let script = format!(
            "JOURNAL_STREAM={stream} exec {program} serve --config-file {}",
            file.display()
        );
        let daemon = Process::start(Command::new("sh").args(["-c", &script]));
        let line = |text: &'static str| {
            let stderr = &daemon.stderr;
            async move {
                let found = |line: &str| line.contains(text).then(|| line.to_owned());
                stderr.find(text, 0, found).await
            }
        };
        let (started, lost) = (line("started").await, line("not connected").await);
        assert_eq!(started.starts_with("<6>started "), prefix, "{started}");
        assert_eq!(lost.starts_with("<4>not connected "), prefix, "{lost}");
        assert_eq!(started.contains("INFO"), !prefix, "{started}");
    }
}
