//! A verb of the program that ends by itself: run with a configuration of its own, and what it said.

use std::os::unix::fs::PermissionsExt;

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

/// The user of nobody, without any capability.
const NOBODY: u32 = 65534;

/// Runs `cinder-progress` with `arguments` and a configuration file of this content.
pub async fn run(configuration: &str, arguments: &[&str]) -> Said {
    let command = Command::new(env!("CARGO_BIN_EXE_cinder-progress"));
    finish(command, configuration, arguments).await
}

/// The same as a user that may do nothing; only root can. The program is copied to where that user may read it: the
/// repository may lie in the home of root.
pub async fn run_as_nobody(configuration: &str, arguments: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    let everybody = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), everybody).unwrap();
    let program = folder.path().join("cinder-progress");
    std::fs::copy(env!("CARGO_BIN_EXE_cinder-progress"), &program).unwrap();
    let mut command = Command::new(&program);
    command.uid(NOBODY).gid(NOBODY);
    finish(command, configuration, arguments).await
}

async fn finish(mut command: Command, configuration: &str, arguments: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    let everybody = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), everybody).unwrap();
    let file = folder.path().join("cinder.conf");
    std::fs::write(&file, configuration).unwrap();
    command.args(arguments).arg("--config-file").arg(&file);
    let output = in_time("the verb ends", command.kill_on_drop(true).output()).await;
    let output = output.unwrap();
    Said {
        status: output.status.code().expect("it ends by itself"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
