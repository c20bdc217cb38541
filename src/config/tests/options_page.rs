//! `docs/options.md` lists every option, with its real default and its older spellings, and no other.

use std::collections::BTreeMap;

use super::*;

/// Group and name → default and the whole row, from the tables of the page.
fn page() -> BTreeMap<(String, String), (String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/options.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut group = String::new();
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## `[") {
            group = heading.trim_end_matches("]`").to_owned();
        }
        let Some(row) = line.strip_prefix("| `") else {
            continue;
        };
        let (name, rest) = row.split_once('`').unwrap();
        let default = rest.split('|').nth(1).unwrap().trim().trim_matches('`');
        let key = (group.clone(), name.to_owned());
        let before = rows.insert(key, (default.to_owned(), line.to_owned()));
        assert!(before.is_none(), "twice: {line}");
    }
    rows
}

#[test]
fn lists_every_option_with_its_default_and_older_spellings() {
    let mut page = page();
    for option in options::ALL {
        let key = (option.group.to_owned(), option.name.to_owned());
        let row = page.remove(&key);
        let (default, row) = row.unwrap_or_else(|| panic!("not on the page: {key:?}"));
        assert_eq!(default, option.default, "{row}");
        for (group, name) in option.older {
            let older = if *group == option.group {
                format!("`{name}`")
            } else {
                format!("`[{group}] {name}`")
            };
            assert!(row.contains(&older), "{older} is not in {row}");
        }
    }
    for option in options::PER_BACKEND {
        let key = ("progress:<backend>".to_owned(), option.name.to_owned());
        assert!(page.remove(&key).is_some(), "not on the page: {key:?}");
    }
    assert!(page.is_empty(), "no such options: {page:#?}");
}
