//! Log lines on stderr: one per event, fields not prose, never a body, never a password.

/// The format of a line.
mod format;
/// Limits the lines of one kind.
mod rate_limit;

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

/// The running log, whose level can be changed.
#[derive(Debug, Clone)]
pub struct Log(reload::Handle<Targets, Registry>);

impl Log {
    /// Switches debug lines on or off.
    pub fn set_debug(&self, debug: bool) {
        // Fails only after the subscriber was dropped.
        let _ = self.0.reload(targets(debug));
    }
}

/// Lines that wait to be written, at most. Further lines are dropped while stderr is not read, as when the journal
/// hangs, because a log must not delay a volume operation.
const WAITING: usize = 1024;

/// Starts logging to stderr.
pub fn start(debug: bool) -> Log {
    begin(debug, std::io::stderr)
}

/// Starts logging to stderr through a thread of its own, so that logging never waits. Dropping the guard waits
/// until all lines are written, for about a second at most.
pub fn start_apart(debug: bool) -> (Log, WorkerGuard) {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING)
        .thread_name("log")
        .finish(std::io::stderr());
    (begin(debug, writer), guard)
}

/// lapin's own lines are off: its warning about a returned message shows the body, and its traces
/// show every frame. The supervisor logs what ends a connection.
fn begin(debug: bool, writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static) -> Log {
    let (targets, handle) = reload::Layer::new(targets(debug));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(format::are_coloured())
        .event_format(format::Lines::for_stderr())
        .with_filter(rate_limit::Limit::default());
    tracing_subscriber::registry()
        .with(targets)
        .with(lines)
        .init();
    Log(handle)
}

fn targets(debug: bool) -> Targets {
    let level = if debug {
        LevelFilter::DEBUG
    } else {
        LevelFilter::INFO
    };
    Targets::new().with_target(env!("CARGO_CRATE_NAME"), level)
}
