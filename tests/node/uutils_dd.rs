//! Proves that the progress of uutils' dd, which Ubuntu has as its dd, is told rightly.
//!
//! It is not packaged everywhere, so this program is that dd: called by that name it does nothing else. The
//! test therefore has no harness; it takes names to run as one would.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::ExitCode;

#[allow(dead_code)]
mod held;

const TEST: &str = "a_copy_by_uutils_dd_is_followed_to_its_end";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if Path::new(&arguments[0])
        .file_name()
        .is_some_and(|name| name == "dd")
    {
        let status = uu_dd::uumain(arguments.into_iter());
        return ExitCode::from(u8::try_from(status).unwrap_or(1));
    }
    let names: Vec<String> = arguments[1..]
        .iter()
        .filter_map(|argument| argument.to_str())
        .filter(|argument| !argument.starts_with('-'))
        .map(str::to_owned)
        .collect();
    if names.is_empty() || names.iter().any(|name| TEST.contains(name.as_str())) {
        // A panic is a failure here as with a harness.
        follow();
        println!("test {TEST} ... ok");
    }
    ExitCode::SUCCESS
}

#[tokio::main(flavor = "current_thread")]
async fn follow() {
    // comm is taken from the file's name.
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("dd");
    symlink(std::env::current_exe().unwrap(), &link).unwrap();
    held::a_copy_is_followed_to_its_end(link.to_str().unwrap()).await;
}
