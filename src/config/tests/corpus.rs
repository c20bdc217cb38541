//! Every corpus file reads as the real oslo.config reads it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Oracle {
    Error { line: Option<usize> },
    Values(BTreeMap<String, BTreeMap<String, Value>>),
}

#[derive(Deserialize)]
struct Value {
    written: Vec<String>,
    text: Option<String>,
    bool: Option<bool>,
    int: Option<i64>,
    list: Option<Vec<String>>,
}

#[test]
fn reads_as_oslo_config_does() {
    let mut read = 0;
    for entry in std::fs::read_dir(fixture("corpus")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "conf") {
            let expected = std::fs::read(path.with_extension("json")).unwrap();
            let expected = serde_json::from_slice(&expected).unwrap();
            let found = oslo::file::parse(&path, &std::fs::read(&path).unwrap());
            let name = path.file_stem().unwrap().to_string_lossy();
            match expected {
                Oracle::Error { line } => compare_error(&name, line, found),
                Oracle::Values(values) => compare_values(&name, &values, found),
            }
            read += 1;
        }
    }
    assert!(read >= 60, "only {read} files in the corpus");
}

fn compare_error(
    name: &str,
    expected: Option<usize>,
    found: Result<fragments::Fragment, ConfigError>,
) {
    match found {
        Err(ConfigError::Syntax { line, .. }) => {
            assert!(
                expected.is_none_or(|expected| expected == line),
                "{name}: line {line}"
            );
        }
        Err(error) => panic!("{name}: {error}"),
        Ok(_) => panic!("{name}: no error"),
    }
}

fn compare_values(
    name: &str,
    expected: &BTreeMap<String, BTreeMap<String, Value>>,
    found: Result<fragments::Fragment, ConfigError>,
) {
    let fragment = found.unwrap_or_else(|error| panic!("{name}: {error}"));

    let mut written: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for assignment in &fragment.assignments {
        let key = (assignment.group.as_str(), assignment.option.as_str());
        written.entry(key).or_default().push(&assignment.text);
    }
    let expected: BTreeMap<(&str, &str), &Value> = expected
        .iter()
        .flat_map(|(group, options)| {
            options
                .iter()
                .map(|(option, value)| ((group.as_str(), option.as_str()), value))
        })
        .collect();
    assert!(
        written.keys().eq(expected.keys()),
        "{name}: {:?}",
        written.keys()
    );

    let inputs = inputs::Inputs::new(vec![fragment.clone()], "machine".to_owned());
    for ((group, option), value) in expected {
        let place = format!("{name}: [{group}] {option}");
        assert_eq!(written[&(group, option)], value.written, "{place}");

        let text = inputs.read_in(group, option, values::text);
        assert_eq!(text.ok().flatten(), value.text, "{place}");
        if let Some(text) = &value.text {
            assert_eq!(values::boolean(text).ok(), value.bool, "{place}");
            let int = values::integer(i64::MIN..=i64::MAX)(text).ok();
            assert_eq!(int, value.int, "{place}");
            assert_eq!(values::list(text).ok(), value.list, "{place}");
        }
    }
}
