//! Bars on a terminal: one for each copy, drawn again in place.

use std::collections::HashMap;
use std::io;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::row::Row;
use crate::progress::Means;

/// The copy on one line, its bar on the next. indicatif draws; what it says is ours.
const TEMPLATE: &str = "{msg}\n[{bar:40}] {prefix}";

/// The bars on the screen.
pub(super) struct Bars {
    all: MultiProgress,
    /// By process, beginning and means.
    bars: HashMap<(i32, Option<String>, Means), ProgressBar>,
    /// Says that there is nothing to show.
    idle: Option<ProgressBar>,
}

impl Bars {
    pub(super) fn new() -> Self {
        Self {
            all: MultiProgress::with_draw_target(ProgressDrawTarget::stdout()),
            bars: HashMap::new(),
            idle: None,
        }
    }

    /// Shows these copies and no others; one that is over stays above, as it was last seen.
    pub(super) fn draw(&mut self, rows: &[Row]) -> io::Result<()> {
        let key = |row: &Row| (row.pid, row.since.clone(), row.means);
        self.bars.retain(|known, bar| {
            let runs = rows.iter().any(|row| key(row) == *known);
            if !runs {
                bar.abandon_with_message(format!("{} (over)", bar.message()));
            }
            runs
        });
        if rows.is_empty() {
            if self.idle.is_none() {
                let idle = self.all.add(ProgressBar::no_length());
                idle.set_style(style("{msg}")?);
                idle.set_message("no copy runs on this node");
                idle.tick();
                self.idle = Some(idle);
            }
            return Ok(());
        }
        if let Some(idle) = self.idle.take() {
            idle.finish_and_clear();
        }
        for row in rows {
            let bar = match self.bars.get(&key(row)) {
                Some(bar) => bar.clone(),
                None => {
                    let bar = self.all.add(ProgressBar::new(100));
                    bar.set_style(style(TEMPLATE)?.progress_chars("##-"));
                    self.bars.insert(key(row), bar.clone());
                    bar
                }
            };
            let percent = row
                .percent
                .map_or("?".to_owned(), |percent| percent.to_string());
            bar.set_message(row.who());
            bar.set_prefix(format!("{percent:>3}%  {}", row.facts()));
            bar.set_position(row.percent.unwrap_or(0).into());
            bar.tick();
        }
        Ok(())
    }

    /// Leaves the bars on the screen as they are.
    pub(super) fn leave(&self) {
        for bar in self.bars.values() {
            bar.abandon();
        }
    }
}

fn style(template: &str) -> io::Result<ProgressStyle> {
    ProgressStyle::with_template(template).map_err(io::Error::other)
}
