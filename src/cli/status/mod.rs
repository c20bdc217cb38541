//! `status`: the copies that run on this node, without asking a broker or the daemon.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;

use super::{EX_CONFIG, complain};
use crate::config::{ConfigError, Local, Sources, load_local};
use crate::progress::speed::{self, Speeds};
use crate::progress::{Copies, ProgressError, Roots, Tracker, Users};

/// The state of this node's daemon.
mod daemon;
/// Copies that ended while `status` watched.
mod ended;
/// Numbers and times as people read them.
mod format;
/// The facts shown of one copy.
mod row;
/// The last picture on a terminal.
mod screen;
/// The copies as lines for people.
mod table;

use daemon::DaemonRow;
use ended::RecentCopies;
use row::Row;
use screen::Screen;

/// How often `--watch` scans.
const INTERVAL: Duration = Duration::from_secs(1);

/// The pause between the scans of a single answer. Two scans already give a rate.
const FIRST_LOOKS: Duration = Duration::from_millis(500);

/// Printed if there is no copy.
const NO_COPY: &str = "no copy runs on this node";

/// The arguments of `status`.
#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    /// Show the copies again each second until interrupted
    #[arg(long, short)]
    watch: bool,
    /// Show paths, ids and times in full, several lines for each copy
    #[arg(long, short, conflicts_with = "json")]
    long: bool,
    /// Only the copies of this volume
    #[arg(long, value_name = "ID")]
    volume: Option<String>,
    /// Print one JSON document a line
    #[arg(long)]
    json: bool,
}

/// Why `status` failed.
enum ScreenEnd {
    /// The processes could not be read.
    Blind(ProgressError),
    /// The output was closed.
    Unread(io::Error),
}

impl From<io::Error> for ScreenEnd {
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
    // A read that hangs in the kernel must not keep the process from ending.
    runtime.shutdown_background();
    match end {
        Ok(()) => ExitCode::SUCCESS,
        // `status | head` is no error.
        Err(ScreenEnd::Unread(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(ScreenEnd::Unread(error)) => {
            complain(&error);
            ExitCode::FAILURE
        }
        Err(ScreenEnd::Blind(error)) => {
            eprintln!("cinder-progress: {}", error.detail());
            ExitCode::FAILURE
        }
    }
}

/// The settings. A user who may not read cinder's own files still sees the node, with the defaults.
fn local(sources: &Sources) -> Result<Local, ConfigError> {
    match load_local(sources) {
        Err(ConfigError::Unreadable { path, source })
            if sources.config_files.is_empty() && sources.config_dirs.is_empty() =>
        {
            eprintln!(
                "cinder-progress: {}: {source}: using the defaults",
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

async fn show(local: &Local, wanted: &StatusArguments) -> Result<(), ScreenEnd> {
    let roots = Roots {
        proc: local.proc_root.clone(),
        sys: local.sys_root.clone(),
        dev: local.dev_root.clone(),
        users: Users::and(&local.dd_users),
    };
    // The daemon's state file has the volumes of some unnamed copies. `status` writes nothing to it.
    let tracker = match &local.state_file {
        Some(file) => Tracker::remembering(roots, INTERVAL, file.clone()).await,
        None => Tracker::new(roots, INTERVAL),
    };
    let mut speeds = Speeds::default();
    let mut look = async || -> Result<(Copies, Vec<Row>), ScreenEnd> {
        let mut copies = tracker.running().await.map_err(ScreenEnd::Blind)?;
        let template = &local.volume_name_template;
        copies.running.retain(|copy| copy.may_be_cinders(template));
        let at = Instant::now();
        let mut rows: Vec<Row> = copies
            .running
            .iter()
            .zip(speeds.note(&copies.running, at, SystemTime::now()))
            .map(|(copy, speed)| Row::new(copy, template, speed, at))
            .collect();
        if let Some(volume) = &wanted.volume {
            rows.retain(|row| row.volume_id.as_deref() == Some(volume));
        }
        Ok((copies, rows))
    };
    let state_file = local.state_file.as_deref();
    let mut screen = (io::stdout().is_terminal() && !wanted.json).then(Screen::new);
    if !wanted.watch {
        let (mut copies, mut rows) = look().await?;
        let begun = Instant::now();
        while !rows.is_empty() && !enough(&rows, begun.elapsed()) {
            tokio::time::sleep(FIRST_LOOKS).await;
            (copies, rows) = look().await?;
        }
        say(unseen(&copies).as_deref());
        let daemon = DaemonRow::of(state_file);
        match &mut screen {
            Some(screen) => {
                screen.draw(&picture(&rows, &daemon, screen.width(), wanted.long))?;
            }
            None => {
                print(&copies, &rows, &daemon, wanted.json)?;
                if !wanted.json {
                    writeln!(io::stdout(), "{}", daemon.line())?;
                }
            }
        }
        return Ok(());
    }
    let mut ended = RecentCopies::default();
    let (mut said, mut daemon_said) = (None, None);
    loop {
        // A scan may fail because a process ends or the node is busy. The next scan is tried.
        let (copies, rows, missing) = match look().await {
            Ok((copies, rows)) => {
                let missing = unseen(&copies);
                (Some(copies), rows, missing)
            }
            Err(ScreenEnd::Blind(error)) => (None, Vec::new(), Some(error.detail())),
            Err(end) => return Err(end),
        };
        let over = match &copies {
            Some(_) => ended.note(&rows, Instant::now(), |row| {
                tracker.end_of(row.pid, row.started)
            }),
            None => Vec::new(),
        };
        let daemon = DaemonRow::of(state_file);
        if let Some(screen) = &mut screen {
            let mut shown = rows;
            shown.extend(ended.lately().cloned());
            let mut lines = picture(&shown, &daemon, screen.width(), wanted.long);
            lines.extend(missing);
            screen.draw(&lines)?;
        } else {
            if said != missing {
                say(missing.as_deref());
                said = missing;
            }
            if let Some(copies) = &copies {
                print(copies, &rows, &daemon, wanted.json)?;
            }
            if !wanted.json {
                let mut out = io::stdout().lock();
                for row in &over {
                    writeln!(out, "{}", table::plain(row))?;
                }
                // Printed at first, and again when it changes.
                let line = daemon.line();
                if daemon_said.as_ref() != Some(&line) {
                    writeln!(out, "{line}")?;
                    daemon_said = Some(line);
                }
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn picture(rows: &[Row], daemon: &DaemonRow, width: Option<usize>, long: bool) -> Vec<String> {
    let mut lines = if rows.is_empty() {
        vec![NO_COPY.to_owned()]
    } else {
        table::table(rows, width, long)
    };
    lines.push(daemon.line());
    lines
}

/// Whether a single answer can be given: each copy has moved, or is known to stand still. `elapsed` is the time since
/// the first scan.
fn enough(rows: &[Row], elapsed: Duration) -> bool {
    // One scan more than needed for a copy to count as stalled that ran at the first scan.
    elapsed > speed::STALLED + FIRST_LOOKS
        || (elapsed >= FIRST_LOOKS && rows.iter().all(|row| row.settled))
}

/// Why more copies may run than are shown.
fn unseen(copies: &Copies) -> Option<String> {
    let unseen = copies.unseen.as_ref().or(copies.unseen_files.as_ref())?;
    Some(format!("there may be more copies: {}", unseen.detail()))
}

fn say(what: Option<&str>) {
    if let Some(what) = what {
        eprintln!("cinder-progress: {what}");
    }
}

fn print(copies: &Copies, rows: &[Row], daemon: &DaemonRow, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        let unseen = copies.unseen.as_ref().or(copies.unseen_files.as_ref());
        let unseen = unseen.map(ProgressError::detail);
        let document = serde_json::json!({"copies": rows, "unseen": unseen, "daemon": daemon});
        return writeln!(out, "{document}");
    }
    if rows.is_empty() {
        return writeln!(out, "{NO_COPY}");
    }
    for row in rows {
        writeln!(out, "{}", table::plain(row))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::ended::tests::row;
    use super::*;

    #[test]
    fn a_single_answer_waits_until_each_copy_is_settled_and_not_for_ever() {
        let unsettled = Row {
            settled: false,
            ..row(2, 50)
        };
        let some = [row(1, 50), unsettled];
        let soon = FIRST_LOOKS / 2;
        assert!(!enough(&[], soon), "a second scan gives a rate");
        assert!(enough(&[], FIRST_LOOKS));
        assert!(enough(&some[..1], FIRST_LOOKS));
        assert!(!enough(&some, FIRST_LOOKS));
        assert!(!enough(&some, speed::STALLED));
        assert!(enough(&some, speed::STALLED + 2 * FIRST_LOOKS));
    }
}
