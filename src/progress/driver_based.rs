//! Copies that the storage makes itself, whose progress a command of the operator's tells.
//!
//! The command is another program: it may crash, hang, start other programs and print without end. Each of these costs
//! its time limit at most and one line in the log, and leaves nothing behind.

use std::collections::HashMap;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use super::Answer;

/// How many commands run at once.
const ROOM: usize = 8;

/// A number takes three bytes; the rest is for white space.
const OUTPUT_LIMIT: u64 = 1024;

/// How many bytes of its stderr are logged.
const COMPLAINT_LIMIT: u64 = 200;

/// How long to wait for the end of a killed command. One that hangs in the kernel does not end.
const REAPING: Duration = Duration::from_secs(1);

/// The variables that a command gets from the daemon's environment.
const ENVIRONMENT: [&str; 3] = ["PATH", "LANG", "HOME"];

/// What is to be asked about one volume, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverCall {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
    /// What it finds on its standard input.
    pub input: Vec<u8>,
}

/// Why a command failed.
#[derive(Debug, Error)]
enum DriverFailure {
    #[error("it cannot be run: {0}")]
    Run(io::Error),
    #[error("it cannot be listened to: {0}")]
    Listen(io::Error),
    #[error("it was not through after {0:?}")]
    Late(Duration),
    #[error("it said more than {OUTPUT_LIMIT} bytes")]
    Talkative,
    #[error("it said something else than a number from 0 to 100")]
    Garbage,
    #[error("it failed, {status}: {complaint}")]
    Failed {
        status: ExitStatus,
        complaint: String,
    },
}

/// Runs the commands, a few at a time.
#[derive(Debug)]
pub(super) struct Drivers {
    room: Semaphore,
    /// The last log text of each command.
    told: Mutex<HashMap<Vec<String>, String>>,
}

impl Default for Drivers {
    fn default() -> Self {
        Self {
            room: Semaphore::new(ROOM),
            told: Mutex::default(),
        }
    }
}

impl Drivers {
    /// Asks about one volume; `None` if the command does not know. Cancel-safe: the command is ended.
    pub(super) async fn ask(&self, volume_id: &str, call: &DriverCall) -> Option<Answer> {
        let asking = async {
            // The semaphore is never closed; were it, there would be no limit and no harm.
            let _room = self.room.acquire().await;
            run(call).await
        };
        let outcome = tokio::time::timeout(call.timeout, asking)
            .await
            .unwrap_or(Err(DriverFailure::Late(call.timeout)));
        self.tell(volume_id, call, outcome.as_ref().err());
        match outcome {
            Ok(None) => None,
            Ok(Some(percent)) => Some(Answer::Percent(percent)),
            Err(_) => Some(Answer::Unknown),
        }
    }

    /// Logs what is wrong with a command, once until it changes.
    fn tell(&self, volume_id: &str, call: &DriverCall, trouble: Option<&DriverFailure>) {
        let mut told = self.told.lock();
        let Some(trouble) = trouble.map(ToString::to_string) else {
            told.remove(&call.command);
            return;
        };
        if told.get(&call.command) != Some(&trouble) {
            let program = call.command.first();
            tracing::warn!(volume_id, program, error = %trouble, "driver_command failed");
            told.insert(call.command.clone(), trouble);
        }
    }
}

/// A running command; dropped early, it is killed with all processes that it has started.
struct Running {
    child: Option<Child>,
}

impl Running {
    fn kill(child: &Child) {
        // The id is the command's until it is reaped, so it cannot be another process's.
        if let Some(group) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            // It may end at this moment, which is as good.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            Self::kill(&child);
            // A caller that has gone away does not wait, so the command is reaped on a task of its own.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { tokio::time::timeout(REAPING, child.wait()).await });
            }
        }
    }
}

async fn run(call: &DriverCall) -> Result<Option<u8>, DriverFailure> {
    let mut child = start(call).map_err(DriverFailure::Run)?;
    let (input, output, complaints) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let mut running = Running { child: Some(child) };

    let told = async {
        // A command that does not read the volume closes its input early.
        if let Some(mut input) = input {
            let _ = input.write_all(&call.input).await;
        }
        Ok(())
    };
    let (_, output, complaint) = futures_util::try_join!(
        told,
        async {
            let output = some_of(output, OUTPUT_LIMIT + 1)
                .await
                .map_err(DriverFailure::Listen)?;
            // The rest is not read: it may never end.
            (output.len() as u64 <= OUTPUT_LIMIT)
                .then_some(output)
                .ok_or(DriverFailure::Talkative)
        },
        async {
            all_but_some_forgotten(complaints)
                .await
                .map_err(DriverFailure::Listen)
        },
    )?;
    let Some(child) = &mut running.child else {
        return Ok(None);
    };
    let status = child.wait().await.map_err(DriverFailure::Listen)?;
    // The command has ended and is reaped: there is nothing to kill any more.
    running.child = None;
    if !status.success() {
        return Err(DriverFailure::Failed { status, complaint });
    }
    parse(&output)
}

fn start(call: &DriverCall) -> io::Result<Child> {
    let (program, arguments) = call
        .command
        .split_first()
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A process group of its own, so that the processes it starts are killed with it.
        .process_group(0)
        .kill_on_drop(true);
    // The daemon's environment may hold settings, among them the broker's password, and the socket by which
    // systemd is told that the daemon is alive.
    command.env_clear();
    for name in ENVIRONMENT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.spawn()
}

async fn some_of(stream: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(limit).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// The beginning of the text, fit for a log; the rest is read so that the writer does not block.
async fn all_but_some_forgotten(stream: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let Some(mut stream) = stream else {
        return Ok(String::new());
    };
    let beginning = some_of(Some(&mut stream), COMPLAINT_LIMIT).await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    let text = String::from_utf8_lossy(&beginning);
    Ok(text.trim().replace(char::is_control, " "))
}

/// A number, a fraction or not, or nothing.
fn parse(output: &[u8]) -> Result<Option<u8>, DriverFailure> {
    let text = std::str::from_utf8(output).map_err(|_| DriverFailure::Garbage)?;
    match text.trim() {
        "" => Ok(None),
        number => match number.parse::<f64>() {
            // Rounded down: 99.9 is not all of it.
            Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Some(percent as u8)),
            _ => Err(DriverFailure::Garbage),
        },
    }
}

/// The example for Ceph.
#[cfg(test)]
mod rbd_example;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use futures_util::future::join_all;

    use super::*;

    fn shell(script: &str) -> DriverCall {
        DriverCall {
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            timeout: Duration::from_secs(30),
            input: br#"{"id":"1"}"#.to_vec(),
        }
    }

    async fn ask(script: &str) -> Option<Answer> {
        Drivers::default().ask("1", &shell(script)).await
    }

    fn runs(pid: &str) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
            .is_ok_and(|stat| !stat.contains(") Z "))
    }

    async fn is_over(pid: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while runs(pid) {
            assert!(Instant::now() < deadline, "{pid} goes on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_number_is_the_answer_and_nothing_is_none() {
        assert_eq!(ask("echo 42").await, Some(Answer::Percent(42)));
        assert_eq!(ask("echo 99.9").await, Some(Answer::Percent(99)));
        assert_eq!(ask("echo; echo").await, None);
        assert_eq!(ask("true").await, None);
    }

    #[tokio::test]
    async fn the_volume_is_on_standard_input() {
        let script = r#"test "$(cat)" = '{"id":"1"}' && echo 7"#;
        assert_eq!(ask(script).await, Some(Answer::Percent(7)));
    }

    #[tokio::test]
    async fn its_environment_says_nothing_of_the_daemon() {
        // The test has more in its own, Cargo's among it, which must not come through.
        let script = r#"tr '\0' '\n' </proc/$$/environ | grep -cvE '^(PATH|LANG|HOME)='"#;
        assert_eq!(
            ask(&format!("{script} || true")).await,
            Some(Answer::Percent(0))
        );
        let path = r#"tr '\0' '\n' </proc/$$/environ | grep -c '^PATH='"#;
        assert_eq!(ask(path).await, Some(Answer::Percent(1)));
    }

    #[tokio::test]
    async fn a_large_volume_nobody_reads_is_no_trouble() {
        let mut call = shell("exec <&-; echo 7");
        call.input = vec![b' '; 1 << 20];
        let answer = Drivers::default().ask("1", &call).await;
        assert_eq!(answer, Some(Answer::Percent(7)));
    }

    #[tokio::test]
    async fn a_crash_garbage_and_a_missing_program_are_unknown() {
        for script in [
            "echo 42; exit 3",
            "kill -9 $$",
            "echo 101",
            "echo -- -1",
            "echo NaN",
            "echo forty",
            "printf '\\377'",
            "echo 1 2",
        ] {
            assert_eq!(ask(script).await, Some(Answer::Unknown), "{script}");
        }
        for command in [vec![], vec!["/no/such/program".to_owned()]] {
            let call = DriverCall {
                command,
                ..shell("")
            };
            assert_eq!(
                Drivers::default().ask("1", &call).await,
                Some(Answer::Unknown)
            );
        }
    }

    #[tokio::test]
    async fn no_shell_reads_the_arguments() {
        let call = DriverCall {
            command: ["echo", "$(echo 5)"].map(str::to_owned).to_vec(),
            ..shell("")
        };
        assert_eq!(
            Drivers::default().ask("1", &call).await,
            Some(Answer::Unknown)
        );
    }

    #[tokio::test]
    async fn who_talks_without_end_is_ended() {
        let begun = Instant::now();
        assert_eq!(ask("exec yes").await, Some(Answer::Unknown));
        assert_eq!(
            ask("yes >&2 & echo 4; kill $!; wait").await,
            Some(Answer::Percent(4))
        );
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[tokio::test]
    async fn who_hangs_is_killed_with_all_it_has_started_and_reaped() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pids");
        let script = format!(
            "sleep 600 & echo $$ $! > {0}.new; mv {0}.new {0}; wait",
            file.display()
        );
        let call = DriverCall {
            timeout: Duration::from_secs(2),
            ..shell(&script)
        };
        let begun = Instant::now();
        assert_eq!(
            Drivers::default().ask("1", &call).await,
            Some(Answer::Unknown)
        );
        assert!(begun.elapsed() < Duration::from_secs(10));
        let pids = fs::read_to_string(file).unwrap();
        let (parent, child) = pids.split_once(' ').unwrap();
        is_over(child).await;
        let deadline = Instant::now() + Duration::from_secs(20);
        while fs::exists(format!("/proc/{parent}")).unwrap() {
            assert!(Instant::now() < deadline, "it was never reaped");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn who_asked_and_went_away_leaves_nothing_running() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!(
            "echo $$ > {0}.new; mv {0}.new {0}; sleep 600",
            file.display()
        );
        let asking = tokio::spawn(async move { ask(&script).await });
        let deadline = Instant::now() + Duration::from_secs(20);
        while !file.exists() {
            assert!(Instant::now() < deadline, "never started");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        asking.abort();
        is_over(&fs::read_to_string(file).unwrap()).await;
    }

    #[tokio::test]
    async fn a_few_run_at_once_and_the_others_wait_their_turn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        // Each counts who is there beside it, itself included.
        let script = format!("touch {path}/$$; ls {path} | wc -l; sleep 0.1; rm {path}/$$");
        let drivers = Drivers::default();
        let call = shell(&script);
        let answers = join_all((0..3 * ROOM).map(|_| drivers.ask("1", &call))).await;
        let most = answers
            .into_iter()
            .map(|answer| match answer {
                Some(Answer::Percent(count)) => count as usize,
                other => panic!("{other:?}"),
            })
            .max();
        assert!((1..=ROOM).contains(&most.unwrap()), "{most:?} at once");
    }
}
