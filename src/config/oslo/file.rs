//! Reader of oslo.config's file syntax.
//!
//! It looks like INI and is not. Comments stand in column 0 only, so `a = b # c` is the value
//! `b # c`; a line that starts with white space goes on with the value above it, unless a blank
//! line, a comment or a section header came between; `:` separates as `=` does, whichever comes
//! first; one pair of quotes around a first line is taken away. The rules were measured on the real
//! package, see `tests/fixtures/config/corpus`.

use std::path::Path;
use std::sync::Arc;

use super::fragments::{Assignment, Fragment, normal_group};
use crate::config::ConfigError;
use crate::config::Origin;

/// What `bytes`, the content of the file at `path`, assigns.
pub(in crate::config) fn parse(path: &Path, bytes: &[u8]) -> Result<Fragment, ConfigError> {
    let origin: Arc<Path> = Arc::from(path);
    let wrong = |line, expected| ConfigError::Syntax {
        path: path.to_owned(),
        line,
        expected,
    };

    let mut section: Option<String> = None;
    let mut assignments: Vec<Assignment> = Vec::new();
    // Whether the last line was part of an assignment, so that a continuation may follow.
    let mut open = false;

    for (index, raw) in lines(bytes).enumerate() {
        let number = index + 1;
        if raw.starts_with(b"#") || raw.starts_with(b";") {
            // Before decoding: an old comment in Latin-1 harms nobody.
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

/// Lines as Python's text files have them: ended by `\n`, `\r\n` or a lone `\r`.
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

/// White space as Python's `str.strip` has it: Unicode's, and the four ASCII separators besides.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `value` without the pair of equal quotes around it; a lone quote counts as an empty pair.
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
