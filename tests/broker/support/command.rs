//! A verb of the program that ends by itself: run with a configuration of its own, and what it said.

use tokio::process::Command;

use super::wait::in_time;

/// What a verb said.
#[derive(Debug)]
pub struct Said {
    /// Its exit status.
    pub status: i32,
    /// On stdout.
    pub out: String,
    /// On stderr.
    pub err: String,
}

/// Runs `cinder-progress` with `arguments` and a configuration file of this content.
pub async fn run(configuration: &str, arguments: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cinder.conf");
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cinder-progress"));
    command.args(arguments).arg("--config-file").arg(&file);
    let output = in_time("the verb ends", command.kill_on_drop(true).output()).await;
    let output = output.unwrap();
    Said {
        status: output.status.code().expect("it ends by itself"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
