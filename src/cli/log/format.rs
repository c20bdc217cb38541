//! The format of a log line: on a terminal, in a file, and in the journal.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Whether lines have colours.
pub(super) fn are_coloured() -> bool {
    io::stderr().is_terminal()
}

/// Formats lines.
pub(super) enum Lines {
    /// With colours, for a person.
    Terminal(Format<Full>),
    /// With time and level.
    File(Format<Full>),
    /// The journal adds the time and reads the level from a prefix (`sd-daemon(3)`).
    Journal(Format<Full, ()>),
}

impl Lines {
    pub(super) fn for_stderr() -> Self {
        let format = Format::default().with_target(false);
        if are_coloured() {
            Self::Terminal(format)
        } else if is_journal() {
            Self::Journal(format.without_time().with_level(false).with_ansi(false))
        } else {
            Self::File(format.with_ansi(false))
        }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut to: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        match self {
            Self::Terminal(format) => return format.format_event(ctx, to, event),
            Self::File(format) => format.format_event(ctx, Writer::new(&mut line), event)?,
            Self::Journal(format) => {
                write!(to, "<{}>", priority(*event.metadata().level()))?;
                format.format_event(ctx, Writer::new(&mut line), event)?;
            }
        }
        one_line(&mut to, line.trim_end())
    }
}

/// Writes `text` as one line, because a text from a broker or a program must not look like a line of this log.
fn one_line(to: &mut Writer<'_>, text: &str) -> fmt::Result {
    for c in text.chars() {
        if c.is_control() {
            write!(to, "{}", c.escape_default())?;
        } else {
            to.write_char(c)?;
        }
    }
    to.write_char('\n')
}

/// The priority of `syslog(3)` of a level, which the journal reads.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// Whether stderr is connected to the journal. Then systemd sets `JOURNAL_STREAM` to the device and inode of stderr
/// (`systemd.exec(5)`). The numbers are compared, because the variable stays when a shell redirects stderr.
fn is_journal() -> bool {
    let Ok(announced) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let stderr = io::stderr().as_fd().try_clone_to_owned();
    stderr
        .and_then(|stderr| File::from(stderr).metadata())
        .is_ok_and(|stderr| announced == format!("{}:{}", stderr.dev(), stderr.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let mut text = String::new();
        one_line(&mut Writer::new(&mut text), "a\nb\u{1b}[31m\tü").unwrap();
        assert_eq!(text, "a\\nb\\u{1b}[31m\\tü\n");
    }
}
