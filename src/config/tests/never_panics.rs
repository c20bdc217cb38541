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
