//! The lines of `check`: the result, what was checked, what was found, and advice.

use std::fmt::Display;
use std::io::{self, Write};

use console::{Style, style};

/// The width of the column with what was checked, which names of options need.
const WIDTH: usize = 16;

/// The result of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and deserves a look.
    Warn,
    /// Not as it should be.
    Fail,
}

impl Verdict {
    fn word(self) -> (&'static str, Style) {
        match self {
            Self::Ok => ("ok  ", Style::new().green()),
            Self::Warn => ("warn", Style::new().yellow()),
            Self::Fail => ("FAIL", Style::new().red().bold()),
        }
    }
}

/// Prints each line at once, and notes whether a check failed.
#[derive(Debug, Default)]
pub(super) struct Report {
    failed: bool,
    unread: Option<io::Error>,
}

impl Report {
    pub fn ok(&mut self, what: &str, found: impl Display) {
        self.line(Verdict::Ok, what, found, None);
    }

    pub fn warn(&mut self, what: &str, found: impl Display, advice: &str) {
        self.line(Verdict::Warn, what, found, Some(advice));
    }

    pub fn fail(&mut self, what: &str, found: impl Display, advice: &str) {
        self.line(Verdict::Fail, what, found, Some(advice));
    }

    fn line(&mut self, verdict: Verdict, what: &str, found: impl Display, advice: Option<&str>) {
        self.failed |= verdict == Verdict::Fail;
        let (word, colour) = verdict.word();
        let mut out = io::stdout().lock();
        let mut written = writeln!(out, "{}  {what:WIDTH$}  {found}", colour.apply_to(word));
        if let Some(advice) = advice {
            let arrow = style("->").dim();
            written = written.and_then(|()| writeln!(out, "{:24}{arrow} {advice}", ""));
        }
        if let Err(error) = written {
            self.unread = self.unread.take().or(Some(error));
        }
    }

    /// Whether no check failed and every line could be printed.
    pub fn all_is_well(&self) -> bool {
        !self.failed && self.unread.is_none()
    }
}
