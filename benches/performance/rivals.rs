//! The servers that are measured, each a process of its own with queues of its own.

use tokio::process::Command;

use crate::floor;
use crate::support::broker::SharedBroker;
use crate::support::daemon::Daemon;
use crate::support::environment::{Release, repository};
use crate::support::process::Process;
use crate::support::service::Service;
use crate::topic::Topic;

/// A server of the call, ready to answer.
pub struct Server {
    /// What it is called in the tables.
    pub name: &'static str,
    /// Where it is asked.
    pub queue: String,
    process: Kept,
}

enum Kept {
    Daemon(Daemon),
    Other(Process),
}

impl Server {
    /// The floor.
    pub async fn floor(topic: &Topic) -> Self {
        let service = Service::unique();
        topic.declare(&service).await;
        let queue = service.server_queue();
        let process = floor_process(&["answer", &queue]).await;
        Self {
            name: "floor",
            queue,
            process: Kept::Other(process),
        }
    }

    /// The daemon as it is by default.
    pub async fn sidecar(topic: &Topic) -> Self {
        let service = Service::unique();
        topic.attend(&service).await;
        Self {
            name: "cinder-progress, sidecar",
            queue: service.server_queue(),
            process: Kept::Daemon(Daemon::beside(&service).await),
        }
    }

    /// The daemon alone.
    pub async fn standalone() -> Self {
        let service = Service::unique();
        Self {
            name: "cinder-progress, standalone",
            queue: service.server_queue(),
            process: Kept::Daemon(Daemon::alone(&service, "").await),
        }
    }

    /// oslo.messaging and psutil.
    pub async fn python() -> Self {
        let service = Service::unique();
        let process = Process::start(&mut python(
            "psutil_server.py",
            &[
                "--url",
                &SharedBroker::transport_url(),
                "--host",
                &service.host,
                "--topic",
                &service.topic(),
            ],
        ));
        wait_for(&process, "\"ready\": true").await;
        Self {
            name: "Python, psutil",
            queue: service.server_queue(),
            process: Kept::Other(process),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        match &self.process {
            Kept::Daemon(daemon) => daemon.process.pid(),
            Kept::Other(process) => process.pid(),
        }
    }
}

/// This program in the role of a floor, ready.
pub async fn floor_process(arguments: &[&str]) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(floor::ROLE).args(arguments);
    let process = Process::start(&mut command);
    wait_for(&process, floor::READY).await;
    process
}

/// One of the Python programs of this folder, with what the peers of the tests share.
pub fn python(script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(Release::Latest.python().unwrap());
    command
        .args(["-W", "ignore"])
        .arg(repository().join("benches/performance").join(script))
        .args(arguments)
        .env("PYTHONPATH", repository().join("tests/peers"));
    command
}

async fn wait_for(process: &Process, word: &str) {
    let found = |line: &str| line.contains(word).then_some(());
    process.stdout.find("the server is ready", 0, found).await;
}
