//! The daemon keeps its capabilities to itself: a `driver_command` is somebody else's program, and what the
//! shipped unit gives the daemon as ambient capabilities survives exec, also without new privileges.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Those of the unit.
const GIVEN: &str = "+sys_ptrace,+dac_read_search";

/// A daemon that has them; killed on drop.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `setpriv` gives capabilities as systemd does.
fn with_privileges(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args([
        format!("--inh-caps={GIVEN}"),
        format!("--ambient-caps={GIVEN}"),
    ]);
    command.arg(program);
    command
}

/// The set of this name in the text of a `/proc/<pid>/status`.
fn set(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    u64::from_str_radix(line.unwrap().trim_start_matches(':').trim(), 16).unwrap()
}

/// Whether they can be given here: it takes root, and a container may keep them from it.
fn can_be_given() -> bool {
    let status = with_privileges("cat").arg("/proc/self/status").output();
    status.is_ok_and(|output| {
        let status = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success() && set(&status, "CapAmb") != 0
    })
}

#[test]
fn what_the_daemon_starts_inherits_none_of_its_capabilities() {
    if !can_be_given() {
        eprintln!("left out: setpriv cannot give capabilities here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("cinder.conf");
    // Nobody listens there, which keeps no daemon from starting.
    let text =
        "[DEFAULT]\nhost = node\ntransport_url = rabbit://127.0.0.1:1/\n[progress]\nstate_file =\n";
    fs::write(&config, text).unwrap();
    let mut daemon = Daemon(
        with_privileges(env!("CARGO_BIN_EXE_cinder-progress"))
            .args(["serve", "--config-file"])
            .arg(&config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let stderr = BufReader::new(daemon.0.stderr.take().unwrap());
    let mut lines = stderr.lines();
    assert!(lines.any(|line| line.unwrap().contains("started")));
    let tasks = format!("/proc/{}/task", daemon.0.id());
    // All threads: whichever starts a command passes on what it has.
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut seen = 0;
    while seen < 2 {
        assert!(Instant::now() < deadline, "no second thread");
        seen = 0;
        for task in fs::read_dir(&tasks).unwrap() {
            // One that has ended meanwhile has nothing to pass on.
            let Ok(status) = fs::read_to_string(task.unwrap().path().join("status")) else {
                continue;
            };
            assert_eq!(set(&status, "CapAmb"), 0, "{status}");
            assert_ne!(set(&status, "CapEff"), 0, "it has lost its own: {status}");
            seen += 1;
        }
    }
}
