//! `etc/cinder-progress.conf` documents every option of the daemon's own, with its real default.

use super::*;

fn sample() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/cinder-progress.conf");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn changes_nothing_as_it_is_shipped() {
    assert_eq!(load_text(&sample()).unwrap(), load_text("").unwrap());
}

#[test]
fn shows_every_option_with_its_default() {
    let text = sample();
    let shown: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix('#')?.split_once(" = "))
        .filter(|(option, _)| !option.contains(' '))
        .collect();
    let real: Vec<(&str, &str)> = options::ALL
        .iter()
        .filter(|option| option.group == options::PROGRESS)
        .map(|option| (option.name, option.default))
        .collect();
    assert_eq!(shown, real);
}
