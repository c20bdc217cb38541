//! `serve`: the daemon, until SIGTERM or SIGINT.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::{complain, log};
use crate::config::Settings;
use crate::daemon;

/// Threads that run async tasks: one for the broker's messages, one for everything else.
const THREADS: usize = 2;

/// Runs the daemon.
pub fn serve(settings: Settings) -> ExitCode {
    log::start(settings.debug);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build();
    let served = runtime.and_then(|runtime| {
        let served = runtime.block_on(async {
            // Before anything else, so that no signal finds nobody listening.
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let stop = async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            };
            Ok(daemon::run(settings, stop).await)
        });
        // Reads that hang in the kernel must not keep the process.
        runtime.shutdown_background();
        served
    });
    match served {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(ended)) => {
            complain(&ended);
            ExitCode::FAILURE
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}
