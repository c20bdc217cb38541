//! `serve`: the daemon, until SIGTERM or SIGINT; SIGHUP makes it read its settings again.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::thread::clear_ambient_capability_set;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::warn;

use super::{complain, log};
use crate::config::{Settings, Sources};
use crate::daemon;
use crate::daemon::reload::Reload;

/// Threads that run async tasks. With two, each message wakes a second thread, which costs more than all work on the
/// message. Work that may block (reads, log lines) has its own threads.
const THREADS: usize = 1;

/// Runs the daemon.
///
/// The unit gives the daemon its capabilities as ambient ones. A `driver_command` would inherit these, and with
/// `CAP_SYS_PTRACE` could take over any process of root's. So the ambient set is emptied. The daemon keeps its own
/// capabilities without that set (`capabilities(7)`).
pub fn serve(sources: Sources, settings: Settings) -> ExitCode {
    // Before the first thread starts, because each thread inherits the set of the one that starts it.
    let kept = clear_ambient_capability_set();
    let (log, written) = log::start_apart(settings.debug);
    if let Err(error) = kept {
        warn!(%error, "driver_command would run with this daemon's capabilities");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build();
    let served = runtime.and_then(|runtime| {
        let served = runtime.block_on(async {
            // The handlers are installed first, so that no signal is missed.
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut hangup = signal(SignalKind::hangup())?;
            // One waiting request is enough: a reload reads everything that was written before it.
            let (ask, asked) = mpsc::channel(1);
            tokio::spawn(async move {
                while hangup.recv().await.is_some() {
                    let _ = ask.try_send(());
                }
            });
            let reload = Reload {
                sources,
                set_debug: Box::new(move |debug| log.set_debug(debug)),
                good: Arc::new(AtomicBool::new(true)),
            };
            let stop = async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            };
            Ok(daemon::run(settings, reload, asked, stop).await)
        });
        // A read that hangs in the kernel must not keep the process from ending.
        runtime.shutdown_background();
        served
    });
    // The last lines of the log are written before the message below.
    drop(written);
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
