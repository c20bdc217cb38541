//! The program under test.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::process::Command;

use super::broker::SharedBroker;
use super::process::Process;
use super::service::Service;

/// A running `cinder-progress serve` with a configuration of its own.
pub struct Daemon {
    /// To signal, kill or wait for it.
    pub process: Process,
    folder: TempDir,
}

impl Daemon {
    /// Starts it for `service`; `progress` is what follows in `[progress]`, such as `"mode = standalone"`.
    pub fn start(transport_url: &str, service: &Service, progress: &str) -> Self {
        Self::start_with(transport_url, service, progress, "")
    }

    /// The same with more sections of the configuration file.
    pub fn start_with(transport_url: &str, service: &Service, progress: &str, more: &str) -> Self {
        Self::start_in(transport_url, service, progress, more, &[])
    }

    /// The same with more variables in its environment.
    pub fn start_in(
        transport_url: &str,
        service: &Service,
        progress: &str,
        more: &str,
        environment: &[(&str, String)],
    ) -> Self {
        let folder = configure(transport_url, service, progress, more);
        let environment = environment.iter().map(|(name, value)| (name, value));
        let process = Process::start(command(folder.path()).envs(environment));
        Self { process, folder }
    }

    /// One whose log goes to `file` and is not seen here.
    pub fn start_logging_to(file: &Path, transport_url: &str, service: &Service) -> Self {
        let folder = configure(transport_url, service, "", "");
        let direct = command(folder.path());
        let direct = direct.as_std();
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$@\" 2>\"$0\""])
            .arg(file)
            .arg(direct.get_program())
            .args(direct.get_args());
        let process = Process::start(&mut command);
        Self { process, folder }
    }

    /// One on the shared broker that is alone, ready to answer; `more` follows in `[progress]`.
    pub async fn alone(service: &Service, more: &str) -> Self {
        let progress = format!("mode = standalone\n{more}");
        let daemon = Self::start(&SharedBroker::transport_url(), service, &progress);
        daemon.wait_for_log("serving alone").await;
        daemon
    }

    /// One on the shared broker beside a cinder-volume, ready to answer.
    pub async fn beside(service: &Service) -> Self {
        let daemon = Self::start(&SharedBroker::transport_url(), service, "mode = sidecar");
        daemon.wait_for_log("serving beside cinder-volume").await;
        daemon
    }

    /// Starts it again after it has ended, with the same files.
    pub fn start_again(&mut self) {
        self.process = Process::start(&mut command(self.folder.path()));
    }

    /// One more with the same files, at the same time.
    pub fn another(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = Process::start(&mut command(self.folder.path()));
        Self { process, folder }
    }

    /// Where its configuration is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join(CONFIG_FILE)
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.process.stderr.lines().join("\n")
    }

    /// Waits for a line of the log that contains `text`, and returns the line.
    pub async fn wait_for_log(&self, text: &str) -> String {
        self.wait_for_log_from(0, text).await
    }

    /// The same, from line `from` on: `process.stderr.len()` at some earlier time.
    pub async fn wait_for_log_from(&self, from: usize, text: &str) -> String {
        let what = format!("a line of the daemon's log with {text:?}");
        self.process
            .stderr
            .find(&what, from, |line| {
                line.contains(text).then(|| line.to_owned())
            })
            .await
    }
}

const CONFIG_FILE: &str = "cinder-progress.conf";

/// A folder with the configuration file in it.
fn configure(transport_url: &str, service: &Service, progress: &str, more: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let backends = service.backend.as_deref().unwrap_or_default();
    let configuration = format!(
        "[DEFAULT]\ntransport_url = {transport_url}\nhost = {host}\nenabled_backends = {backends}\n\
         [progress]\nstate_file = {state}\n{progress}\n{more}\n",
        host = service.host,
        state = folder.path().join("state.json").display(),
    );
    std::fs::write(folder.path().join(CONFIG_FILE), configuration).unwrap();
    folder
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cinder-progress"));
    command
        .args(["serve", "--config-file"])
        .arg(folder.join(CONFIG_FILE));
    command
}
