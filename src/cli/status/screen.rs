//! The table on a terminal, redrawn in place.

use std::io;

use console::{Term, truncate_str};

/// The height assumed for a terminal that does not report its own.
const USUAL_HEIGHT: usize = 24;

/// The terminal, and how many of its lines were drawn here.
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

    /// Columns of the terminal. `None` if the terminal does not report them.
    pub(super) fn width(&self) -> Option<usize> {
        self.terminal
            .size_checked()
            .map(|(_, columns)| columns.into())
    }

    /// Replaces the lines that were drawn before, warnings included. Nothing else may write to the terminal meanwhile.
    /// Lines that do not fit are only counted, because lines that have scrolled off the terminal cannot be replaced.
    pub(super) fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let size = self.terminal.size_checked();
        let height = size.map_or(USUAL_HEIGHT, |(rows, _)| rows.into());
        self.terminal.clear_last_lines(self.drawn)?;
        let lines = fitting(lines, height.saturating_sub(1).max(1));
        for line in &lines {
            match size {
                // A longer line would wrap and take two lines.
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

/// At most `height` lines. The last one has the number of lines left out.
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
