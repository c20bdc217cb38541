//! A crowd of real processes that do nothing.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};

/// Real processes, in a group of their own; ended on drop.
pub struct Crowd {
    shell: Child,
    /// Never read again, but the shell's children have it open.
    _stdout: BufReader<ChildStdout>,
    pids: Vec<String>,
}

impl Crowd {
    /// Starts so many.
    pub fn start(count: usize) -> Self {
        // With this program ends its end of the pipe, and with that the group, however it ends.
        let script = format!(
            "exec 3<&0; (read _ <&3; kill -9 0) & \
             for i in $(seq {count}); do sleep 3600 & echo $!; done; wait"
        );
        let mut shell = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Those that are ended are nothing to write home about.
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(shell.stdout.take().unwrap());
        let pids = stdout.by_ref().lines().take(count);
        let pids = pids.map(|line| line.unwrap()).collect();
        Self {
            shell,
            _stdout: stdout,
            pids,
        }
    }

    /// Ends all but so many.
    pub fn shrink_to(&mut self, count: usize) {
        let rest = self.pids.split_off(count.min(self.pids.len()));
        for some in rest.chunks(1_000) {
            let ended = Command::new("kill").arg("-9").args(some).status();
            assert!(ended.unwrap().success(), "cannot end the crowd");
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let group = format!("-{}", self.shell.id());
        let _ = Command::new("kill").args(["-9", "--", &group]).status();
        let _ = self.shell.wait();
    }
}
