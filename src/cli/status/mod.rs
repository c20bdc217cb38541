//! `status`: the copies that run on this node, without asking a broker or the daemon.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;

use super::{EX_CONFIG, complain};
use crate::config::{ConfigError, Local, Sources, load_local};
use crate::progress::{Copies, ProgressError, Roots, Tracker};

/// Bars on a terminal.
mod bars;
/// Numbers and times as people read them.
mod format;
/// What one copy is said to be.
mod row;
/// How fast a copy is, and whether it moves at all.
mod speed;

use bars::Bars;
use row::Row;
use speed::Speeds;

/// How often it is looked while watching.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked for a single answer: two looks already tell a rate.
const FIRST_LOOKS: Duration = Duration::from_millis(500);

/// How `status` is to look and to speak.
#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    /// Go on until interrupted, with a look each second
    #[arg(long, short)]
    watch: bool,
    /// One JSON document a line
    #[arg(long)]
    json: bool,
}

/// Why it came to an end.
enum End {
    /// The processes could not be looked at.
    Blind(ProgressError),
    /// Nobody reads any more what is written.
    Unread(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Unread(error)
    }
}

/// Runs the verb.
pub(super) fn status(sources: &Sources, wanted: &StatusArguments) -> ExitCode {
    let local = match local(sources) {
        Ok(local) => local,
        Err(error) => {
            complain(&error);
            return ExitCode::from(EX_CONFIG);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let end = runtime.block_on(show(&local, wanted));
    // Reads that hang in the kernel must not keep the process.
    runtime.shutdown_background();
    match end {
        Ok(()) => ExitCode::SUCCESS,
        // `status | head` is no mistake.
        Err(End::Unread(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(End::Unread(error)) => {
            complain(&error);
            ExitCode::FAILURE
        }
        Err(End::Blind(error)) => {
            eprintln!("cinder-progress: {}", error.detail());
            ExitCode::FAILURE
        }
    }
}

/// The settings. Whoever may not read cinder's own files still sees the node, by the built-in defaults.
fn local(sources: &Sources) -> Result<Local, ConfigError> {
    match load_local(sources) {
        Err(ConfigError::Unreadable { path, source })
            if sources.config_files.is_empty() && sources.config_dirs.is_empty() =>
        {
            eprintln!(
                "cinder-progress: {}: {source}: going by the built-in defaults",
                path.display()
            );
            let nothing = Sources {
                config_files: vec!["/dev/null".into()],
                ..sources.clone()
            };
            load_local(&nothing)
        }
        outcome => outcome,
    }
}

async fn show(local: &Local, wanted: &StatusArguments) -> Result<(), End> {
    let roots = Roots {
        proc: local.proc_root.clone(),
        sys: local.sys_root.clone(),
        dev: local.dev_root.clone(),
    };
    let tracker = Tracker::new(roots, INTERVAL);
    let mut speeds = Speeds::default();
    let mut look = async || -> Result<(Copies, Vec<Row>), End> {
        let copies = tracker.running().await.map_err(End::Blind)?;
        let rows = speeds.rows(&copies, local, Instant::now(), SystemTime::now());
        Ok((copies, rows))
    };
    let mut bars = (io::stdout().is_terminal() && !wanted.json).then(Bars::new);
    if !wanted.watch {
        let (mut copies, mut rows) = look().await?;
        let begun = Instant::now();
        while !rows.is_empty() && !enough(&rows, begun.elapsed()) {
            tokio::time::sleep(FIRST_LOOKS).await;
            (copies, rows) = look().await?;
        }
        say_unseen(&copies);
        match &mut bars {
            Some(bars) if !rows.is_empty() => {
                bars.draw(&rows)?;
                bars.leave();
            }
            _ => print(&copies, &rows, wanted.json)?,
        }
        return Ok(());
    }
    let mut said = None;
    loop {
        let (copies, rows) = look().await?;
        if said.as_ref() != unseen(&copies) {
            say_unseen(&copies);
            said = unseen(&copies).cloned();
        }
        match &mut bars {
            Some(bars) => bars.draw(&rows)?,
            None => print(&copies, &rows, wanted.json)?,
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Whether a single answer can be given: each copy has moved, or is known to stand still. `elapsed`
/// since the first look.
fn enough(rows: &[Row], elapsed: Duration) -> bool {
    // One look more than a copy that was there from the first needs to count as stalled.
    elapsed > speed::STALLED + FIRST_LOOKS
        || (elapsed >= FIRST_LOOKS && rows.iter().all(|row| row.settled))
}

fn unseen(copies: &Copies) -> Option<&ProgressError> {
    copies.unseen.as_ref().or(copies.unseen_files.as_ref())
}

fn say_unseen(copies: &Copies) {
    if let Some(unseen) = unseen(copies) {
        eprintln!(
            "cinder-progress: there may be more copies: {}",
            unseen.detail()
        );
    }
}

fn print(copies: &Copies, rows: &[Row], json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        let unseen = unseen(copies).map(ProgressError::detail);
        let document = serde_json::json!({"copies": rows, "unseen": unseen});
        return writeln!(out, "{document}");
    }
    if rows.is_empty() {
        return writeln!(out, "no copy runs on this node");
    }
    for row in rows {
        writeln!(out, "{}", row.line())?;
    }
    Ok(())
}
