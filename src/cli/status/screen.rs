//! The last picture on a terminal, drawn again in its place.

use std::io;

use console::{Term, truncate_str};

/// A terminal that does not tell its height has this many lines.
const USUAL_HEIGHT: usize = 24;

/// What is on the terminal, and how much of it is ours.
pub(super) struct Screen {
    terminal: Term,
    drawn: usize,
}

impl Screen {
    /// Standard output, with nothing drawn yet.
    pub(super) fn new() -> Self {
        Self {
            terminal: Term::buffered_stdout(),
            drawn: 0,
        }
    }

    /// Columns of the terminal; `None` where it does not tell.
    pub(super) fn width(&self) -> Option<usize> {
        self.terminal
            .size_checked()
            .map(|(_, columns)| columns.into())
    }

    /// Replaces what it drew before, warnings included: nothing else may write to the terminal meanwhile. Lines that do
    /// not fit are only counted, because lines that have left the terminal cannot be replaced.
    pub(super) fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let size = self.terminal.size_checked();
        let height = size.map_or(USUAL_HEIGHT, |(rows, _)| rows.into());
        self.terminal.clear_last_lines(self.drawn)?;
        let lines = fitting(lines, height.saturating_sub(1).max(1));
        for line in &lines {
            match size {
                // A line that wraps would be two.
                Some((_, columns)) => {
                    self.terminal
                        .write_line(&truncate_str(line, columns.into(), "…"))?
                }
                None => self.terminal.write_line(line)?,
            }
        }
        self.drawn = lines.len();
        self.terminal.flush()
    }
}

/// At most `height` lines; the last one says how many more there are.
fn fitting(lines: &[String], height: usize) -> Vec<String> {
    if lines.len() <= height {
        return lines.to_vec();
    }
    let shown = height - 1;
    let mut fitting = lines[..shown].to_vec();
    fitting.push(format!("… and {} more lines", lines.len() - shown));
    fitting
}

#[cfg(test)]
mod tests {
    use super::fitting;

    #[test]
    fn what_does_not_fit_is_counted() {
        let lines: Vec<String> = (0..5).map(|number| number.to_string()).collect();
        assert_eq!(fitting(&lines, 5), lines);
        assert_eq!(fitting(&lines, 3), ["0", "1", "… and 3 more lines"]);
        assert_eq!(fitting(&lines, 1), ["… and 5 more lines"]);
    }
}
