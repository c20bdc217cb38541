//! The figures' place in docs/performance.md: between two markers, so that the prose around them stays.

use std::fs;
use std::path::PathBuf;

use crate::support::environment::repository;

/// docs/performance.md.
pub struct Document {
    path: PathBuf,
}

impl Document {
    /// Makes sure that it is there.
    pub fn open() -> Self {
        let path = repository().join("docs/performance.md");
        assert!(path.exists(), "{} is missing", path.display());
        Self { path }
    }

    /// Prints `figures` and puts them between the markers of `section`.
    pub fn write(&self, section: &str, figures: &str) {
        println!("\n{figures}");
        // Read anew each time: somebody may be writing prose meanwhile.
        let text = fs::read_to_string(&self.path).unwrap();
        let replaced = replaced(&text, section, figures);
        let text = replaced.unwrap_or_else(|| {
            panic!("{} has no place for {section:?}", self.path.display());
        });
        fs::write(&self.path, text).unwrap();
    }
}

fn replaced(text: &str, section: &str, figures: &str) -> Option<String> {
    let (before, rest) = text.split_once(&format!("<!-- measured: {section} -->\n"))?;
    let (_, after) = rest.split_once("<!-- end -->")?;
    Some(format!(
        "{before}<!-- measured: {section} -->\n{}\n<!-- end -->{after}",
        figures.trim_end()
    ))
}
