//! The dashboard and the alerts, in Debian's Prometheus, beside a real daemon and a real dd.
//!
//! A rule with a slip in it stays silent for ever, and nobody misses it until the day it was made for.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use serde_json::Value;
use tokio::process::Command;
use uuid::Uuid;

use crate::support::broker::Broker;
use crate::support::daemon::Daemon;
use crate::support::environment::{left_out, repository};
use crate::support::process::Process;
use crate::support::prometheus::{Prometheus, programs};
use crate::support::recorder::{Queues, Recorder};
use crate::support::scrape::{self, METRICS};
use crate::support::service::Service;
use crate::support::wait::{in_time, until};

const RULES: &str = "packaging/prometheus/cinder-progress.rules.yml";
const DASHBOARD: &str = "packaging/grafana/cinder-progress.json";

/// What of the dashboard has nothing to show while all is well.
const NOTHING_WHILE_WELL: [&str; 4] = [
    "Calls",
    "Standing aside",
    "Trouble with scans",
    "Answer times",
];

/// With windows and patience of seconds, so that hours need not pass. Those that a loaded machine may need longer
/// than that for are left some.
fn shortened(rules: &str) -> String {
    let lines = rules.lines().map(|line| {
        if line.trim_start().starts_with("for: ") {
            return "        for: 5s".to_owned();
        }
        line.replace("[5m]", "[20s]")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Copies between sparse files for longer than any test takes.
fn long_copy(folder: &Path) -> Process {
    let path = || folder.join(format!("volume-{}", Uuid::new_v4()));
    let (source, destination) = (path(), path());
    for file in [&source, &destination] {
        File::create(file).unwrap().set_len(64 << 30).unwrap();
    }
    Process::start(Command::new("dd").args([
        format!("if={}", source.display()),
        format!("of={}", destination.display()),
        "bs=512".to_owned(),
        "conv=sparse,notrunc".to_owned(),
    ]))
}

/// The panels' titles and expressions, with what Grafana puts in the place of its variables.
fn expressions() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(repository().join(DASHBOARD)).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut expressions = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let expression = expression
                .replace("$instance", ".*")
                .replace("$__rate_interval", "20s")
                .replace("$__interval", "20s")
                .replace("[5m]", "[20s]");
            expressions.push((title.to_owned(), expression));
        }
    }
    expressions
}

async fn promtool(program: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(repository());
    let output = in_time("promtool ends", command.output()).await.unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

#[tokio::test]
async fn each_alert_fires_after_hours_of_trouble_and_not_in_a_quiet_day() {
    let Some(programs) = programs() else {
        return left_out("no Prometheus");
    };
    let promtool = async |arguments: &[&str]| promtool(&programs.join("promtool"), arguments).await;
    promtool(&["check", "rules", RULES]).await;
    let scenarios = "tests/alerts/cinder-progress.test.yml";
    promtool(&["test", "rules", scenarios]).await;
    let names = |text: &str, before: &str| -> BTreeSet<String> {
        let lines = text.lines().filter_map(|line| line.split_once(before));
        let names = lines.map(|(_, name)| name.trim_end_matches('}').trim().to_owned());
        names.collect()
    };
    let read = |path: &str| std::fs::read_to_string(repository().join(path)).unwrap();
    let (rules, tests) = (read(RULES), read(scenarios));
    // What stands behind the last of them does not fire.
    let (tests, _) = tests.rsplit_once("exp_alerts").unwrap();
    let fires = tests
        .split("exp_alerts")
        .filter_map(|part| part.rsplit_once("alertname: "))
        .map(|(_, rest)| rest.lines().next().unwrap().trim().to_owned());
    assert_eq!(
        names(&rules, "alert: "),
        fires.collect(),
        "each has a scenario"
    );
}

#[tokio::test]
async fn the_dashboard_has_something_to_show_and_alerts_fire_when_they_should() {
    let Some(programs) = programs() else {
        return left_out("no Prometheus");
    };
    let broker = Broker::start().await;
    let service = Service::unique();
    let mut peer = Recorder::start(&broker.amqp_uri(), &service, Queues::durable()).await;
    let mut daemon = Daemon::start_with(
        &broker.transport_url(),
        &service,
        METRICS,
        "[oslo_messaging_rabbit]\nheartbeat_timeout_threshold = 4",
    );
    let address = scrape::address(&daemon).await;
    daemon.wait_for_log("serving beside cinder-volume").await;
    let folder = tempfile::tempdir().unwrap();
    let mut copy = long_copy(folder.path());
    let rules = std::fs::read_to_string(repository().join(RULES)).unwrap();
    let program = programs.join("prometheus");
    let prometheus = Prometheus::start(&program, &shortened(&rules), &address).await;

    // The quiet scenario: all is there, and nothing fires once that has been so for a while.
    for (title, expression) in expressions() {
        if NOTHING_WHILE_WELL.contains(&title.as_str()) {
            prometheus.series(&expression).await;
            continue;
        }
        until(&format!("{title}: {expression}"), async || {
            (prometheus.series(&expression).await > 0).then_some(())
        })
        .await;
    }
    let looked = "count_over_time(cinder_progress_copies[60s]) >= 15";
    until("it was looked at for some time", async || {
        (prometheus.series(looked).await > 0).then_some(())
    })
    .await;
    let firing: Vec<String> = prometheus
        .alerts()
        .await
        .into_iter()
        .filter_map(|(name, state)| (state == "firing").then_some(name))
        .collect();
    assert!(firing.is_empty(), "{firing:?}");

    copy.signal("STOP").await;
    let settings = daemon.config_file();
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, text + "[progress]\nprefetch = many\n").unwrap();
    daemon.process.signal("HUP").await;
    peer.stop().await;
    for alert in ["SettingsRefused", "StandingAside", "CopyStalled"] {
        prometheus
            .until_it_fires(&format!("CinderProgress{alert}"))
            .await;
    }
    copy.kill().await;
    prometheus.until_it_fires("CinderProgressCopyFailed").await;
    broker.kill().await;
    prometheus
        .until_it_fires("CinderProgressNotConnected")
        .await;
    daemon.process.kill().await;
    prometheus.until_it_fires("CinderProgressDown").await;
}
