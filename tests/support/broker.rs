//! A broker: the shared one, or one of a test's own that it may break.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::environment::{repository, required};

/// The broker that all tests share: never stop it, use unique names on it.
pub struct SharedBroker;

impl SharedBroker {
    /// As oslo.messaging writes it.
    pub fn transport_url() -> String {
        required("CINDER_PROGRESS_TEST_TRANSPORT_URL")
    }

    /// As AMQP clients write it.
    pub fn amqp_uri() -> String {
        required("CINDER_PROGRESS_TEST_AMQP")
    }

    /// Runs `rabbitmqctl` and returns what it prints.
    pub async fn ctl(arguments: &[&str]) -> String {
        ctl(
            Path::new(&required("CINDER_PROGRESS_TEST_BROKER_DIR")),
            arguments,
        )
        .await
    }
}

/// Longer than the patience of `scripts/broker` with a node that starts on a loaded machine.
const START: Duration = Duration::from_secs(240);

/// Private brokers at once: each takes some 100 MB, and a processor while it starts.
static TURNS: Semaphore = Semaphore::const_new(2);

/// A private broker: removed on drop, and also when the test process is killed.
pub struct Broker {
    folder: PathBuf,
    port: String,
    // Above `folder`; deleted after the broker has been removed from it.
    _parent: TempDir,
    // Those that join a cluster share the turn of its first node.
    _turn: Option<SemaphorePermit<'static>>,
}

impl Broker {
    /// Starts one.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// Starts one with more lines in its `rabbitmq.conf`.
    pub async fn start_with(configuration: &str) -> Self {
        let turn = TURNS.acquire().await.unwrap();
        Self::prepare(configuration, Some(turn)).run(&[]).await
    }

    /// Starts one more node, which joins the cluster of this one.
    pub async fn start_member(&self) -> Self {
        let joins = ("CINDER_PROGRESS_BROKER_JOIN", self.folder.as_os_str());
        Self::prepare("", None).run(&[joins]).await
    }

    fn prepare(configuration: &str, turn: Option<SemaphorePermit<'static>>) -> Self {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("broker");
        std::fs::create_dir_all(folder.join("conf.d")).unwrap();
        std::fs::write(
            folder.join("conf.d/90-test.conf"),
            format!("{configuration}\n"),
        )
        .unwrap();
        Self {
            folder,
            port: String::new(),
            _parent: parent,
            _turn: turn,
        }
    }

    async fn run(mut self, environment: &[(&str, &OsStr)]) -> Self {
        self.port = self.start_node(environment).await;
        self
    }

    /// As oslo.messaging writes it.
    pub fn transport_url(&self) -> String {
        format!("rabbit://guest:guest@127.0.0.1:{}//", self.port)
    }

    /// As AMQP clients write it.
    pub fn amqp_uri(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// Stops it cleanly.
    pub async fn stop(&self) {
        script(&self.folder, "stop", &[], &[]).await;
    }

    /// Starts it again, on the same port and with what was durable.
    pub async fn start_again(&self) {
        self.start_node(&[]).await;
    }

    /// Stops it cleanly and starts it again.
    pub async fn restart(&self) {
        self.stop().await;
        self.start_again().await;
    }

    /// Kills it at once, as a power failure would.
    pub async fn kill(&self) {
        self.signal("KILL").await;
    }

    /// Sends a signal: after `STOP` it is silent until `CONT`.
    pub async fn signal(&self, name: &str) {
        script(&self.folder, "signal", &[name], &[]).await;
    }

    /// Runs `rabbitmqctl` and returns what it prints.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        ctl(&self.folder, arguments).await
    }

    /// `HOST:PORT`, for a `transport_url` of several.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    async fn start_node(&self, environment: &[(&str, &OsStr)]) -> String {
        let owner = std::process::id().to_string();
        script(&self.folder, "start", &[&owner], environment)
            .await
            .trim()
            .to_owned()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let removed = std::process::Command::new("bash")
            .arg(script_path())
            .arg("remove")
            .arg(&self.folder)
            .status();
        if !removed.is_ok_and(|status| status.success()) {
            eprintln!("the broker in {} was not removed", self.folder.display());
        }
    }
}

/// A port that nobody has, below the range that the kernel gives to outgoing connections: it stays
/// free until it is taken.
pub fn free_port() -> u16 {
    loop {
        let port = 12_000 + u16::try_from(uuid::Uuid::new_v4().as_u128() % 20_000).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn script_path() -> PathBuf {
    repository().join("scripts/broker")
}

async fn ctl(folder: &Path, arguments: &[&str]) -> String {
    script(folder, "ctl", arguments, &[]).await
}

/// Runs `scripts/broker` and returns what it prints.
async fn script(
    folder: &Path,
    verb: &str,
    arguments: &[&str],
    environment: &[(&str, &OsStr)],
) -> String {
    let what = format!("scripts/broker {verb} {arguments:?}");
    let run = Command::new("bash")
        .arg(script_path())
        .arg(verb)
        .arg(folder)
        .args(arguments)
        .envs(environment.iter().copied())
        .kill_on_drop(true)
        .output();
    // A start is given up by the script itself.
    let output = timeout(START, run).await;
    let output = output.unwrap_or_else(|_| panic!("not within {START:?}: {what}"));
    let output = output.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what} failed: {errors}");
    String::from_utf8(output.stdout).unwrap()
}
