//! `$name`, `${name}`, `${group.name}`, `$$` and `\$` inside a value.
//!
//! oslo.config uses Python's `string.Template` and allows dots in names. So `$host.example` means option `example`
//! of group `host`. A `$` without a name after it stays as it is.

/// Replaces every `$name` in `text` by what `look_up` returns. Returns the first error of `look_up`.
pub(in crate::config) fn substitute<E>(
    text: &str,
    mut look_up: impl FnMut(&str) -> Result<String, E>,
) -> Result<String, E> {
    let text = text.replace("\\$", "$$");
    let mut result = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(dollar) = rest.find('$') {
        result.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = braced(rest).or_else(|| bare(rest)) {
            result.push_str(&look_up(name)?);
            rest = after;
        } else {
            result.push('$');
        }
    }
    result.push_str(rest);
    Ok(result)
}

/// The name at the start of `text`, and the rest.
fn bare(text: &str) -> Option<(&str, &str)> {
    text.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())
        .then(|| {
            let end = text
                .find(|c: char| !(c == '_' || c == '.' || c.is_ascii_alphanumeric()))
                .unwrap_or(text.len());
            text.split_at(end)
        })
}

/// The name in braces at the start of `text`, and the rest after the braces.
fn braced(text: &str) -> Option<(&str, &str)> {
    let (name, after) = bare(text.strip_prefix('{')?)?;
    Some((name, after.strip_prefix('}')?))
}

#[cfg(test)]
mod tests {
    use super::substitute;

    fn filled(text: &str) -> Result<String, String> {
        substitute(text, |name| {
            if name == "unknown" {
                Err(name.to_owned())
            } else {
                Ok(format!("<{name}>"))
            }
        })
    }

    #[test]
    fn names_end_where_python_ends_them() {
        for (text, expected) in [
            ("$host-1", "<host>-1"),
            ("${host}1", "<host>1"),
            ("$host.example", "<host.example>"),
            ("${rabbit.host}:$port", "<rabbit.host>:<port>"),
            ("a$$b\\$c", "a$b$c"),
            ("$1 ${ ${a-b} $", "$1 ${ ${a-b} $"),
            ("$_a", "<_a>"),
        ] {
            assert_eq!(filled(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn the_first_unknown_name_ends_it() {
        assert_eq!(filled("$host $unknown"), Err("unknown".to_owned()));
    }
}
