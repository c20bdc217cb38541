//! Log lines on stderr: one per event, fields not prose, never a body, never a password.

/// No more lines of one kind than somebody can read.
mod limit;
/// What a line looks like.
mod lines;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

/// The log, to be changed while it is written.
#[derive(Debug, Clone)]
pub struct Log(reload::Handle<Targets, Registry>);

impl Log {
    /// More lines, or not.
    pub fn set_debug(&self, debug: bool) {
        // Fails when there is no log any more.
        let _ = self.0.reload(targets(debug));
    }
}

/// Starts logging to stderr.
///
/// lapin's own lines are off: its warning about a returned message shows the body, its traces
/// show every frame, and what ends a connection is said by the supervisor anyway.
pub fn start(debug: bool) -> Log {
    let (targets, handle) = reload::Layer::new(targets(debug));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(lines::are_coloured())
        .event_format(lines::Lines::for_stderr())
        .with_filter(limit::Limit::default());
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
