//! Values as types, by the rules of oslo.config's own types.
//!
//! The error of each function is what would be right. It never quotes the value, which may be a secret.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Any text except the empty one.
pub(in crate::config) fn filled(text: &str) -> Result<String, String> {
    if text.is_empty() {
        Err("a value that is not empty".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

/// Any text. It may be empty.
pub(in crate::config) fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// A boolean.
pub(in crate::config) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Ok(true),
        "false" | "0" | "off" | "no" => Ok(false),
        _ => Err("true or false (or 1/0, on/off, yes/no)".to_owned()),
    }
}

/// A whole number in `range`.
pub(in crate::config) fn integer<T>(
    range: RangeInclusive<T>,
) -> impl FnOnce(&str) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    move |text| {
        text.trim()
            .parse()
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()))
    }
}

/// A whole number of seconds in `range`.
pub(in crate::config) fn seconds(
    range: RangeInclusive<u64>,
) -> impl FnOnce(&str) -> Result<Duration, String> {
    move |text| {
        integer(range)(text)
            .map(Duration::from_secs)
            .map_err(|expected| format!("{expected}, in seconds"))
    }
}

/// A number of seconds in `range`. Fractions are allowed.
pub(in crate::config) fn fractional_seconds(
    range: RangeInclusive<f64>,
) -> impl FnOnce(&str) -> Result<Duration, String> {
    move |text| {
        text.trim()
            .parse()
            .ok()
            .filter(|number| range.contains(number))
            .and_then(|number| Duration::try_from_secs_f64(number).ok())
            .ok_or_else(|| {
                format!(
                    "a number from {} to {}, in seconds",
                    range.start(),
                    range.end()
                )
            })
    }
}

/// Items between commas, without the white space around them. Empty items are left out, as cinder leaves them out of
/// `enabled_backends`.
pub(in crate::config) fn list(text: &str) -> Result<Vec<String>, String> {
    Ok(text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect())
}

/// A path. `None` if the text is empty.
pub(in crate::config) fn optional_path(text: &str) -> Result<Option<PathBuf>, String> {
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

/// An absolute path: it does not depend on the daemon's working directory.
pub(in crate::config) fn absolute_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err("an absolute path".to_owned())
    }
}

/// An absolute path. `None` if the text is empty.
pub(in crate::config) fn optional_absolute_path(text: &str) -> Result<Option<PathBuf>, String> {
    match text {
        "" => Ok(None),
        path => absolute_path(path)
            .map(Some)
            .map_err(|expected| format!("{expected}, or nothing")),
    }
}

/// A program and its arguments. They are split and quoted as in a shell, but no shell runs. Empty if the text is.
pub(in crate::config) fn command(text: &str) -> Result<Vec<String>, String> {
    let words = shell_words::split(text)
        .map_err(|_| "a program and its arguments, each quote closed".to_owned())?;
    match words.first() {
        Some(program)
            if program.is_empty() || program.contains('/') && !program.starts_with('/') =>
        {
            Err("a program by its absolute path, or by a name to be found in PATH".to_owned())
        }
        _ => Ok(words),
    }
}

/// One of `choices`. Upper and lower case differ.
pub(in crate::config) fn choice<T: Copy>(
    choices: &'static [(&'static str, T)],
) -> impl FnOnce(&str) -> Result<T, String> {
    move |text| {
        choices
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, value)| *value)
            .ok_or_else(|| {
                let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
                format!("one of {}", names.join(", "))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches() {
        for (text, expected) in [
            ("True", Some(true)),
            ("YES", Some(true)),
            ("0", Some(false)),
            ("", None),
        ] {
            assert_eq!(boolean(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn numbers_stay_in_range() {
        assert_eq!(integer(1..=1000_u16)(" 16 "), Ok(16));
        assert_eq!(
            integer(1..=1000_u16)("0"),
            Err("a whole number from 1 to 1000".to_owned())
        );
        assert!(integer(1..=1000_u16)("70000").is_err());
        assert_eq!(
            fractional_seconds(0.1..=60.0)("0.5"),
            Ok(Duration::from_millis(500))
        );
        for text in ["nan", "inf", "-1", ""] {
            assert!(fractional_seconds(0.1..=60.0)(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn commands_are_divided_as_a_shell_would_and_nothing_else_is_done_to_them() {
        let words = |text| command(text).unwrap();
        assert_eq!(words(""), Vec::<String>::new());
        assert_eq!(
            words(r#"/usr/bin/ask --pool "a b" 'c"d' e\ f"#),
            ["/usr/bin/ask", "--pool", "a b", "c\"d", "e f"]
        );
        assert_eq!(words("ask > /tmp/x; id"), ["ask", ">", "/tmp/x;", "id"]);
        for text in ["ask 'a", "./ask", "bin/ask", "''"] {
            assert!(command(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn lists_leave_out_what_is_empty() {
        assert_eq!(
            list(" a,\nb ,,c, "),
            Ok(vec!["a".into(), "b".into(), "c".into()])
        );
        assert_eq!(list(""), Ok(vec![]));
    }
}
