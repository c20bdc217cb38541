//! Debian's Prometheus, that scrapes one daemon each second and evaluates rules as often.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::process::Process;
use super::scrape::exchange;
use super::wait::until;

/// The folder with its programs that `scripts/test` has unpacked, where there is one.
pub fn programs() -> Option<PathBuf> {
    std::env::var("CINDER_PROGRESS_TEST_PROMETHEUS")
        .ok()
        .map(PathBuf::from)
}

/// A running Prometheus; killed on drop.
pub struct Prometheus {
    address: String,
    _process: Process,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts `program` with these rules, to scrape `target`; returns when it can be asked.
    pub async fn start(program: &Path, rules: &str, target: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rules.yml"), rules).unwrap();
        let configuration = folder.path().join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: [rules.yml]\n\
             scrape_configs:\n\
             - job_name: cinder-progress\n  static_configs: [{{targets: ['{target}']}}]\n"
        );
        std::fs::write(&configuration, text).unwrap();
        let (address, process) = until("Prometheus is ready", async || {
            // It does not tell which port it got, and somebody else may have this one by then.
            let port = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = port.local_addr().unwrap().to_string();
            drop(port);
            let mut process = Process::start(
                Command::new(program)
                    .arg(format!("--config.file={}", configuration.display()))
                    .arg(format!(
                        "--storage.tsdb.path={}",
                        folder.path().join("data").display()
                    ))
                    .arg(format!("--web.listen-address={address}")),
            );
            until("Prometheus listens or has ended", async || {
                let ended = process.has_ended();
                let line = "Server is ready to receive web requests";
                let ready = process
                    .stderr
                    .lines()
                    .iter()
                    .any(|text| text.contains(line));
                (ended || ready).then_some(!ended)
            })
            .await
            .then_some((address, process))
        })
        .await;
        Self {
            address,
            _process: process,
            _folder: folder,
        }
    }

    /// The `data` of what its API says at `path`.
    async fn get(&self, path: &str) -> Value {
        let request = format!("GET /api/v1/{path} HTTP/1.0\r\nHost: test\r\n\r\n");
        let response = exchange(&self.address, &request).await;
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 "), "{path}: {response}");
        let mut body: Value = serde_json::from_str(body).unwrap();
        body["data"].take()
    }

    /// How many series an expression has at this moment.
    pub async fn series(&self, expression: &str) -> usize {
        let encoded = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        let data = self.get(&format!("query?query={encoded}")).await;
        data["result"].as_array().unwrap().len()
    }

    /// The names of all alerts that fire, or are about to.
    pub async fn alerts(&self) -> Vec<(String, String)> {
        let data = self.get("alerts").await;
        let alerts = data["alerts"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        alerts
            .map(|alert| (text(&alert["labels"]["alertname"]), text(&alert["state"])))
            .collect()
    }

    /// Waits until an alert fires.
    pub async fn until_it_fires(&self, name: &str) {
        until(&format!("{name} fires"), async || {
            let alerts = self.alerts().await;
            alerts
                .iter()
                .any(|(alert, state)| alert == name && state == "firing")
                .then_some(())
        })
        .await;
    }
}
