//! What `scripts/test` hands over by environment variables.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// An OpenStack release whose oslo.messaging the peers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The newest one.
    Latest,
    /// oslo.messaging 14.0.
    Zed,
    /// oslo.messaging 5.17 on Python 2.7, the first release with the call.
    Ocata,
}

impl Release {
    /// All of them, available or not.
    pub const ALL: [Release; 3] = [Release::Latest, Release::Zed, Release::Ocata];

    /// The Python interpreter of this release, or `None` where the machine has none for it.
    ///
    /// Only Ocata may be missing: it needs Python 2.7.
    pub fn python(self) -> Option<String> {
        let variable = match self {
            Release::Latest => "CINDER_PROGRESS_TEST_PYTHON_LATEST",
            Release::Zed => "CINDER_PROGRESS_TEST_PYTHON_ZED",
            Release::Ocata => "CINDER_PROGRESS_TEST_PYTHON_OCATA",
        };
        match self {
            Release::Ocata => std::env::var(variable).ok(),
            Release::Latest | Release::Zed => Some(required(variable)),
        }
    }

    /// Whether the release can be tested here; says so when it cannot.
    pub fn available(self) -> bool {
        let available = self.python().is_some();
        if !available {
            left_out(&format!("no Python for {self:?}"));
        }
        available
    }

    /// Those that can be tested here.
    pub fn all_available() -> Vec<Release> {
        Release::ALL
            .into_iter()
            .filter(|release| release.available())
            .collect()
    }
}

/// Says that the test which calls this is left out, and why, to whoever reads its output and to `scripts/test`,
/// which counts these in its last line.
pub fn left_out(reason: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    eprintln!("LEFT OUT {test}: {reason}");
    if let Ok(file) = std::env::var("CINDER_PROGRESS_TEST_LEFT_OUT") {
        let line = format!("{test}: {reason}\n");
        let opened = OpenOptions::new().append(true).create(true).open(file);
        opened.unwrap().write_all(line.as_bytes()).unwrap();
    }
}

/// The value of a variable that `scripts/test` sets.
pub fn required(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!(
            "{variable} is not set: these tests need a broker and Python peers, run scripts/test"
        )
    })
}

/// The repository's folder.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of `tests/peers`.
pub fn peer_script(name: &str) -> PathBuf {
    repository().join("tests/peers").join(name)
}
