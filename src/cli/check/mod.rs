//! `check`: prints a line for each of settings, brokers, queues, `/proc` and copies, and advice for each that fails.
//!
//! `check` may run at any time beside a working daemon and cinder-volume: it consumes nothing, writes no file and
//! leaves nothing on the broker.

use std::process::ExitCode;

use super::{EX_CONFIG, log, run_to_end};
use crate::config::{Sources, load_with_origins};
use crate::error_chain::chain;

/// Each broker, and its queues.
mod broker;
/// The node's processes and files.
mod node;
/// The queues of each backend.
mod queues;
/// The format of the lines.
mod report;
/// The settings.
mod settings;

use report::Report;

/// Runs the verb. Exits with 0 only if nothing fails, and with 78 for settings with which the daemon would exit with
/// 78.
pub(super) fn check(sources: &Sources) -> ExitCode {
    let mut report = Report::default();
    let (settings, origins) = match load_with_origins(sources) {
        Ok(loaded) => loaded,
        Err(error) => {
            report.fail(
                "settings",
                chain(&error),
                "correct it: the daemon would not start with it",
            );
            return ExitCode::from(EX_CONFIG);
        }
    };
    if settings.debug {
        log::start(true);
    }
    run_to_end(async {
        settings::report(&mut report, &settings, &origins);
        broker::report(&mut report, &settings).await;
        node::report(&mut report, &settings).await;
        if report.all_is_well() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    })
}
