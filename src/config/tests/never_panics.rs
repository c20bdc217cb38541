//! Nothing that can be written in a file panics.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = oslo::file::parse(Path::new("x.conf"), &bytes);
    }

    #[test]
    fn on_what_looks_like_a_file(text in "([\\[\\]=:#;\"' \t\r\n$\\\\{}.a-cé\u{3000}\u{1c}]|DEFAULT|host){0,60}") {
        let _ = load_text(&text);
    }

    #[test]
    fn on_any_value(text in "([$\\\\{}._a-c]|host|enabled_backends){0,30}") {
        let _ = load_text(&format!("[DEFAULT]\nhost = {text}\nenabled_backends = $host\na = $host\n"));
    }

    #[test]
    fn on_any_url(text in "(rabbit:)?([/?#@:,%=&\\[\\]a-c0-9é]|//){0,40}") {
        let _ = transport_url::parse(&text);
    }

    #[test]
    fn on_any_option_of_the_daemon(option in prop::sample::select(options::ALL), text in ".{0,12}") {
        let _ = load_text(&format!("[{}]\n{} = {text}\n", option.group, option.name));
    }
}

fn fixtures(folder: &str) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(fixture(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.extension().is_some_and(|end| end == "conf"));
    files.map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn damaged_input_as_settings() {
    let seeds = [fixtures("."), fixtures("corpus")].concat();
    crate::mutation::try_many("settings", &seeds, |input| {
        let _ = oslo::file::parse(Path::new("x.conf"), input);
        let _ = load_text(&String::from_utf8_lossy(input));
    });
}

#[test]
fn damaged_input_as_transport_url() {
    let seeds = [
        "rabbit://guest:guest@127.0.0.1:5672//",
        "rabbit://u:p%40w@[::1]:5671,v:q@host:5672/vhost?ssl=1&ssl_version=TLSv1_2&ssl_ca_file=",
        "kombu+memory:////",
    ];
    let seeds = seeds.map(|seed| seed.as_bytes().to_vec());
    crate::mutation::try_many("transport_url", &seeds, |input| {
        let _ = transport_url::parse(&String::from_utf8_lossy(input));
    });
}
