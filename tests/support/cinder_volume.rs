//! A stand-in for cinder-volume: its RPC servers of some release, which record what they execute.

use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;

use super::environment::{Release, peer_script};
use super::process::Process;
use super::service::Service;
use super::wait::until;

/// Both servers of a cinder-volume, in one Python process.
pub struct CinderVolume {
    /// To signal or kill it.
    pub process: Process,
}

/// An operation that has begun.
#[derive(Clone, Debug, Deserialize)]
pub struct Executed {
    /// The argument `number`, null if there was none.
    pub executed: Value,
    /// The method.
    pub method: String,
    /// Its place among all that this process executed.
    pub order: u64,
    /// Seconds since 1970.
    pub at: f64,
    /// `backend` for topic `cinder-volume.<host>@<backend>`, `service` for `cinder-volume`.
    pub server: String,
}

impl CinderVolume {
    /// Starts it and waits until its six consumers are up.
    pub async fn start(release: Release, transport_url: &str, service: &Service) -> Self {
        Self::start_with(release, transport_url, service, &[]).await
    }

    /// The same with more options of `tests/peers/cinder_volume.py`.
    pub async fn start_with(
        release: Release,
        transport_url: &str,
        service: &Service,
        options: &[&str],
    ) -> Self {
        let python = release
            .python()
            .expect("only available releases are started");
        let mut command = Command::new(python);
        command.arg(peer_script("cinder_volume.py")).args([
            "--url",
            transport_url,
            "--host",
            &service.host,
        ]);
        if let Some(backend) = &service.backend {
            command.args(["--backend", backend]);
        }
        let process = Process::start(command.args(options));
        process
            .stdout
            .find("cinder-volume is ready", 0, |line| {
                line.contains("\"ready\"").then_some(())
            })
            .await;
        Self { process }
    }

    /// What it has executed so far, in order.
    pub fn executed(&self) -> Vec<Executed> {
        self.process
            .stdout
            .lines()
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// The numbers of what it has executed so far, in order.
    pub fn numbers(&self) -> Vec<u64> {
        self.executed()
            .iter()
            .filter_map(|executed| executed.executed.as_u64())
            .collect()
    }

    /// Waits until it has executed at least `count`.
    pub async fn wait_for_executed(&self, count: usize) -> Vec<Executed> {
        let what = format!("cinder-volume executes {count}");
        until(&what, async || {
            Some(self.executed()).filter(|executed| executed.len() >= count)
        })
        .await
    }

    /// Waits until it consumes `queue` again, as it does after a lost connection; `from` is an earlier
    /// length of its output.
    pub async fn wait_for_consumer(&self, queue: &str, from: usize) {
        let what = format!("cinder-volume consumes {queue}");
        let line = format!("{{\"consuming\": \"{queue}\"}}");
        self.process
            .stdout
            .find(&what, from, |found| (found == line).then_some(()))
            .await;
    }

    /// Stops it as its service does: what it has begun is finished. Returns all that it executed.
    pub async fn stop(mut self) -> Vec<Executed> {
        self.process.write_line(r#"{"op": "stop"}"#).await;
        self.process
            .stdout
            .find("cinder-volume has stopped", 0, |line| {
                line.contains("\"stopped\"").then_some(())
            })
            .await;
        self.process.wait_for_exit().await;
        self.process.stdout.wait_for_end().await;
        self.executed()
    }
}
