//! A child process: started, signalled, killed on drop.

use std::process::{ExitStatus, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};

use super::transcript::Transcript;
use super::wait::in_time;

/// A running program with both outputs kept.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    /// What it wrote on stdout.
    pub stdout: Transcript,
    /// What it wrote on stderr.
    pub stderr: Transcript,
}

impl Process {
    /// Starts `command`.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self {
            stdin: child.stdin.take(),
            stdout: Transcript::of(child.stdout.take().unwrap()),
            stderr: Transcript::of(child.stderr.take().unwrap()),
            child,
        }
    }

    /// Writes a line to its stdin.
    pub async fn write_line(&mut self, line: &str) {
        let stdin = self
            .stdin
            .as_mut()
            .expect("stdin is open as long as the process runs");
        in_time(
            "the process reads its stdin",
            stdin.write_all(format!("{line}\n").as_bytes()),
        )
        .await
        .unwrap();
    }

    /// Its process id, while it has not been waited for.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("the process runs")
    }

    /// Sends a signal by name: `TERM`, `HUP`, `STOP`, `CONT`, ...
    pub async fn signal(&self, name: &str) {
        send_signal(self.pid(), name).await;
    }

    /// Kills it at once, as a crash would.
    pub async fn kill(&mut self) {
        in_time("the process is killed", self.child.kill())
            .await
            .unwrap();
    }

    /// Whether it has ended by now.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it ends.
    pub async fn wait_for_exit(&mut self) -> ExitStatus {
        in_time("the process ends", self.child.wait())
            .await
            .unwrap()
    }
}

/// By way of the shell: the signal calls of the standard library need `unsafe`.
async fn send_signal(pid: u32, name: &str) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -s {name} {pid}")])
        .status()
        .await
        .unwrap();
    assert!(status.success(), "cannot send {name} to {pid}");
}
