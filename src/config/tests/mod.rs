//! Tests of the room as a whole: files in, settings or a mistake out.

/// Every corpus file reads as the real oslo.config reads it.
mod corpus;
/// Real-looking files of several deployments give the settings they should.
mod deployments;
/// What wins over what.
mod layers;
/// Each mistake says where, what and what would be right.
mod mistakes;
/// Nothing that can be written in a file panics.
mod never_panics;
/// The page of the documents that lists every option is true.
mod options_page;
/// The file that is shipped documents every option.
mod sample_file;
/// Every URL reads as the real oslo.messaging reads it, and leads where kombu would go.
mod transport_urls;

use std::path::{Path, PathBuf};

use super::oslo::{fragments, values};
use super::settings::{brokers, inputs, options, transport_url};
use super::*;

/// A file below `tests/fixtures/config`.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/config")
        .join(name)
}

/// What the file of this content, alone, leads to on a machine called `machine`.
fn load_text(text: &str) -> Result<Settings, ConfigError> {
    let fragment = oslo::file::parse(Path::new("/etc/test.conf"), text.as_bytes())?;
    let inputs = inputs::Inputs::new(vec![fragment], "machine".to_owned());
    settings::settle(inputs, vec![])
}
