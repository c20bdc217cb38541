//! Reader of oslo.config's file syntax.
//!
//! The syntax differs from INI:
//!
//! - A comment starts in column 0. In `a = b # c` the value is `b # c`.
//! - A line that starts with white space continues the value above it, unless a blank line, a comment or a section
//!   header stands between them.
//! - `:` separates option and value as `=` does. The first of the two counts.
//! - One pair of quotes around the first line of a value is removed.
//!
//! The rules were measured on the real package, see `tests/fixtures/config/corpus`.

use std::path::Path;
use std::sync::Arc;

use super::fragments::{Assignment, Fragment, normal_group};
use crate::config::ConfigError;
use crate::config::Origin;

/// The assignments in `bytes`, the content of the file at `path`.
pub(in crate::config) fn parse(path: &Path, bytes: &[u8]) -> Result<Fragment, ConfigError> {
    let origin: Arc<Path> = Arc::from(path);
    let wrong = |line, expected| ConfigError::Syntax {
        path: path.to_owned(),
        line,
        expected,
    };

    let mut section: Option<String> = None;
    let mut assignments: Vec<Assignment> = Vec::new();
    // Whether the last line belongs to an assignment, so that the next line may continue it.
    let mut open = false;

    for (index, raw) in lines(bytes).enumerate() {
        let number = index + 1;
        if raw.starts_with(b"#") || raw.starts_with(b";") {
            // Comments are skipped before decoding, so that a comment in Latin-1 is no error.
            open = false;
            continue;
        }
        let line = str::from_utf8(raw).map_err(|_| wrong(number, "text in UTF-8"))?;
        let line = line.trim_end_matches(is_space);

        if line.is_empty() {
            open = false;
        } else if line.starts_with([' ', '\t']) {
            match assignments.last_mut() {
                Some(assignment) if open => {
                    assignment.text.push('\n');
                    assignment.text.push_str(line.trim_start_matches(is_space));
                }
                _ => {
                    return Err(wrong(
                        number,
                        "an option in column 0: a line that starts with white space continues the option \
                         right above it, and there is none",
                    ));
                }
            }
        } else if let Some(rest) = line.strip_prefix('[') {
            let name = rest
                .strip_suffix(']')
                .ok_or_else(|| wrong(number, "']' at the end of a section header"))?;
            if name.is_empty() {
                return Err(wrong(number, "a section name between '[' and ']'"));
            }
            section = Some(normal_group(name));
            open = false;
        } else {
            let seam = line.find(['=', ':']).ok_or_else(|| {
                wrong(
                    number,
                    "option = value, [section] or, in column 0, # comment",
                )
            })?;
            let option = line[..seam].trim_matches(is_space);
            if option.is_empty() {
                return Err(wrong(number, "an option's name before '='"));
            }
            let group = section.clone().ok_or_else(|| {
                wrong(
                    number,
                    "a section such as [DEFAULT] before the first option",
                )
            })?;
            assignments.push(Assignment {
                group,
                option: option.to_owned(),
                text: unquoted(line[seam + 1..].trim_matches(is_space)).to_owned(),
                origin: Origin::File {
                    path: Arc::clone(&origin),
                    line: number,
                },
            });
            open = true;
        }
    }
    Ok(Fragment { assignments })
}

/// The lines of a file as Python's text mode splits them: at `\n`, `\r\n` or a lone `\r`.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.iter().position(|b| matches!(b, b'\n' | b'\r')) else {
            rest = None;
            return Some(text);
        };
        let seam = if text[end..].starts_with(b"\r\n") {
            2
        } else {
            1
        };
        rest = Some(&text[end + seam..]);
        Some(&text[..end])
    })
}

/// White space as in Python's `str.strip`: that of Unicode and the four ASCII separators.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `value` without the pair of equal quotes around it. A lone quote counts as an empty pair.
fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote) {
            return if inner.is_empty() {
                inner
            } else {
                inner.strip_suffix(quote).unwrap_or(value)
            };
        }
    }
    value
}
