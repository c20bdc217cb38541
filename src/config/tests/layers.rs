//! What wins over what.

use std::fs;

use super::*;

struct ConfigFolder(tempfile::TempDir);

impl ConfigFolder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn later_sources_win() {
    let folder = ConfigFolder::new();
    let first = folder.file(
        "first.conf",
        "[DEFAULT]\nhost = first\ncontrol_exchange = first\n",
    );
    let second = folder.file("second.conf", "[DEFAULT]\nhost = second\n");
    folder.file("conf.d/20.conf", "[DEFAULT]\nhost = twenty\n");
    folder.file("conf.d/10.conf", "[DEFAULT]\nhost = ten\n");
    folder.file("conf.d/30.conf.bak", "[DEFAULT]\nhost = backup\n");
    folder.file("conf.d/.40.conf", "[DEFAULT]\nhost = hidden\n");

    let mut sources = Sources {
        config_files: vec![first.clone()],
        ..Sources::default()
    };
    let host = |sources: &Sources| load(sources).unwrap().host;
    assert_eq!(host(&sources), "first");
    sources.config_files.push(second.clone());
    assert_eq!(host(&sources), "second");
    let dir = folder.0.path().join("conf.d");
    sources.config_dirs.push(dir.clone());
    assert_eq!(host(&sources), "twenty");
    sources
        .environment
        .push(pair("OS_DEFAULT__HOST", "environment"));
    assert_eq!(host(&sources), "environment");
    sources
        .overrides
        .push(("DEFAULT".into(), "host".into(), "command".into()));
    assert_eq!(host(&sources), "command");

    let settings = load(&sources).unwrap();
    assert_eq!(settings.control_exchange, "first");
    assert_eq!(
        settings.files,
        [first, second, dir.join("10.conf"), dir.join("20.conf")]
    );
}

#[test]
fn the_query_of_transport_url_wins_over_all() {
    let folder = ConfigFolder::new();
    let file = folder.file(
        "a.conf",
        "[DEFAULT]\ntransport_url = rabbit://h/?rabbit_interval_max=7\n",
    );
    let sources = Sources {
        config_files: vec![file],
        overrides: vec![(
            "oslo_messaging_rabbit".into(),
            "rabbit_interval_max".into(),
            "8".into(),
        )],
        ..Sources::default()
    };
    let longest = load(&sources).unwrap().rabbit.rabbit_interval_max;
    assert_eq!(longest, std::time::Duration::from_secs(7));
}

#[test]
fn a_later_file_wins_also_by_an_older_spelling() {
    let folder = ConfigFolder::new();
    let new = folder.file("new.conf", "[oslo_messaging_rabbit]\nssl = false\n");
    let old = folder.file(
        "old.conf",
        "[oslo_messaging_rabbit]\nrabbit_use_ssl = true\n",
    );
    let tls = |config_files| {
        let sources = Sources {
            config_files,
            ..Sources::default()
        };
        load(&sources).unwrap().brokers.tls.is_some()
    };
    assert!(tls(vec![new.clone(), old.clone()]));
    assert!(!tls(vec![old, new]));
}

#[test]
fn within_a_file_the_present_spelling_wins() {
    let text = "[oslo_messaging_rabbit]\nssl = false\n[DEFAULT]\nrabbit_use_ssl = true\n";
    assert!(load_text(text).unwrap().brokers.tls.is_none());
}

#[test]
fn a_backend_section_is_reached_from_the_environment() {
    let folder = ConfigFolder::new();
    let file = folder.file("a.conf", "[DEFAULT]\nhost = h\nenabled_backends = Lvm-1\n");
    let sources = Sources {
        config_files: vec![file],
        environment: vec![
            pair("OS_LVM-1__BACKEND_HOST", "b"),
            pair("OS_PROGRESS:LVM-1__MIGRATION_MODE", "FILE_BASED"),
            pair("OS_AUTH_URL", "http://192.0.2.1/"),
        ],
        ..Sources::default()
    };
    let backend = load(&sources).unwrap().backends.remove(0);
    assert_eq!(backend.address.topic, "cinder-volume.b@Lvm-1");
    assert_eq!(backend.migration_mode, MigrationMode::FileBased);
}

#[test]
fn defaults_can_be_referred_to() {
    let settings = load_text("[DEFAULT]\ncontrol_exchange = $host-exchange\n").unwrap();
    assert_eq!(settings.control_exchange, "machine-exchange");
}

#[test]
fn what_was_named_must_exist() {
    let folder = ConfigFolder::new();
    for sources in [
        Sources {
            config_files: vec![folder.0.path().join("no.conf")],
            ..Sources::default()
        },
        Sources {
            config_dirs: vec![folder.0.path().join("no.d")],
            ..Sources::default()
        },
    ] {
        let error = load(&sources).unwrap_err();
        assert!(matches!(error, ConfigError::Unreadable { .. }), "{error}");
    }
}

#[test]
fn a_comment_in_latin_1_harms_nobody() {
    let path = Path::new("a.conf");
    assert!(oslo::file::parse(path, b"[DEFAULT]\n# f\xfcr\n; f\xfcr\nhost = b\n").is_ok());
}
