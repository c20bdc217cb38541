//! Parse the command line, hand over, turn what comes back into an exit status.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cinder_progress::cli::run(cinder_progress::cli::Arguments::parse())
}
