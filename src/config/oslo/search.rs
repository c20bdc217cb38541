//! Where cinder-volume finds its files when its command line names none: oslo.config's `find_config_files` and
//! `find_config_dirs` for project `cinder` and program `cinder-volume`.

use std::fs;
use std::path::{Path, PathBuf};

/// Names of the files and folders, the weaker first: those of all services, then those of cinder-volume.
const NAMES: [&str; 2] = ["cinder", "cinder-volume"];

/// Cinder's user. oslo.config searches the user's home first.
const USER: &str = "cinder";

/// The files and folders that exist: of each of [`NAMES`] the first.
pub(super) struct ConfigFiles {
    /// Existing files.
    pub files: Vec<PathBuf>,
    /// Existing folders.
    pub folders: Vec<PathBuf>,
}

/// Searches below `root`, which is `/` except in tests. The home is that of cinder-volume's user, not the daemon's.
pub(super) fn default_places(root: &Path) -> ConfigFiles {
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    let mut folders = Vec::new();
    if let Some(home) = home(&below("/etc/passwd")) {
        folders.push(below(&home).join(".cinder"));
        folders.push(below(&home));
    }
    folders.extend([below("/etc/cinder"), below("/etc")]);
    let first = |extension: &str| {
        let named = NAMES.iter().filter_map(|name| {
            let candidates = folders
                .iter()
                .map(|folder| folder.join(format!("{name}{extension}")));
            candidates.into_iter().find(|path| path.exists())
        });
        named.collect()
    };
    ConfigFiles {
        files: first(".conf"),
        folders: first(".conf.d"),
    }
}

/// The home of cinder's user, if the node has that user.
fn home(passwd: &Path) -> Option<String> {
    let passwd = fs::read(passwd).ok()?;
    String::from_utf8_lossy(&passwd).lines().find_map(|line| {
        let mut fields = line.split(':');
        let home = (fields.next() == Some(USER)).then(|| fields.nth(4))??;
        (!home.is_empty()).then(|| home.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// One case: the files that exist, and which of them the real oslo.config reads. tests/peers/oslo_config_oracle.py
    /// wrote the cases.
    #[derive(Deserialize)]
    struct Searched {
        present: Vec<String>,
        files: Vec<PathBuf>,
        folders: Vec<PathBuf>,
    }

    #[test]
    fn finds_what_oslo_config_finds() {
        let oracle = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/config/search.json"
        );
        let cases: Vec<Searched> = serde_json::from_slice(&fs::read(oracle).unwrap()).unwrap();
        assert!(cases.len() >= 8);
        for case in cases {
            let root = tempfile::tempdir().unwrap();
            let write = |path: &str, text: &str| {
                let path = root.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            };
            write(
                "etc/passwd",
                "root:x:0:0::/root:/bin/sh\ncinder:x:7:7::/home/cinder:/bin/false\n",
            );
            case.present.iter().for_each(|path| write(path, ""));
            let relative = |paths: Vec<PathBuf>| -> Vec<PathBuf> {
                let relative = paths
                    .iter()
                    .map(|path| path.strip_prefix(root.path()).unwrap().to_owned());
                relative.collect()
            };
            let found = default_places(root.path());
            assert_eq!(relative(found.files), case.files, "{:?}", case.present);
            assert_eq!(relative(found.folders), case.folders, "{:?}", case.present);
        }
    }

    #[test]
    fn without_cinders_user_its_home_is_not_looked_for() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/cinder")).unwrap();
        for file in ["cinder.conf", "etc/cinder/cinder.conf"] {
            fs::write(root.path().join(file), "").unwrap();
        }
        for passwd in ["", "cinder:x:7:7", "cinder:x:7:7:::/bin/sh"] {
            fs::write(root.path().join("etc/passwd"), passwd).unwrap();
            let found = default_places(root.path()).files;
            assert_eq!(
                found,
                [root.path().join("etc/cinder/cinder.conf")],
                "{passwd}"
            );
        }
    }
}
