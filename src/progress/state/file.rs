//! The state file: written whole under another name, then renamed.
//!
//! It lies under /run, which lasts as long as the processes it tells of, so nothing is synced to a disk.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::format::{Saved, VERSION};
use crate::progress::file_based::history::LONE_LIMIT;
use crate::progress::memory::copy_store::MEMORY_LIMIT;

/// The largest file that is read: a few times what the fullest memory comes to.
const SIZE_LIMIT: u64 = 16 * 1024 * 1024;

/// Reads what was remembered in the same `boot`; nothing if there is no file or it is of another boot.
///
/// # Errors
///
/// Why the file is of no use, for the log.
pub(in crate::progress) fn load(path: &Path, boot: &str) -> Result<Saved, String> {
    let nothing = || Saved::new(boot, Vec::new());
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(SIZE_LIMIT + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(nothing()),
        Err(error) => return Err(error.to_string()),
    }
    if bytes.len() as u64 > SIZE_LIMIT {
        return Err(format!("it is larger than {SIZE_LIMIT} bytes"));
    }
    let saved: Saved = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if saved.version != VERSION {
        return Err(format!(
            "it is of version {} and not {VERSION}",
            saved.version
        ));
    }
    if saved.records.len() > MEMORY_LIMIT || saved.files.len() > MEMORY_LIMIT + LONE_LIMIT {
        return Err(format!("it tells of more than {MEMORY_LIMIT} copies"));
    }
    Ok(if saved.boot == boot { saved } else { nothing() })
}

/// Writes `saved` in place of what was there; a reader finds the old text or the new, never half of one.
/// Returns its length in bytes, which is never more than [`load`] takes.
pub(in crate::progress) fn store(path: &Path, saved: Saved) -> io::Result<u64> {
    let text = within(SIZE_LIMIT, saved)?;
    let draft = draft(path);
    let mut file = match create(&draft) {
        // The daemon was not started by a service manager that makes the folder.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                DirBuilder::new().mode(0o755).create(folder)?;
            }
            create(&draft)?
        }
        outcome => outcome?,
    };
    file.write_all(&text)?;
    drop(file);
    fs::rename(&draft, path)?;
    Ok(text.len() as u64)
}

/// As text of at most `limit` bytes: the rest is left out, first copies that are over, then the older half.
fn within(limit: u64, mut saved: Saved) -> io::Result<Vec<u8>> {
    let all = saved.records.len() + saved.files.len();
    let mut text = serde_json::to_vec(&saved)?;
    while text.len() as u64 > limit && !(saved.records.is_empty() && saved.files.is_empty()) {
        let before = (saved.records.len(), saved.files.len());
        saved.records.retain(|record| !record.over);
        saved.files.retain(|copy| copy.end.is_none());
        if (saved.records.len(), saved.files.len()) == before {
            saved.records.drain(..before.0.div_ceil(2));
            saved.files.drain(..before.1.div_ceil(2));
        }
        text = serde_json::to_vec(&saved)?;
    }
    let kept = saved.records.len() + saved.files.len();
    if kept < all {
        tracing::warn!(
            kept,
            all,
            "the state file is full: a restart will forget the other copies"
        );
    }
    Ok(text)
}

/// Where the new text is written first: the same folder, or it could not be renamed in one step.
fn draft(path: &Path) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".new");
    path.with_file_name(name)
}

/// Always a new file: one that a dead daemon left, or another user's link, is removed first.
fn create(draft: &Path) -> io::Result<File> {
    match fs::remove_file(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(draft)
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use proptest::prelude::*;
    use serde_json::Value;
    use tokio::time::Instant;

    use super::*;
    use crate::progress::device::Identity;
    use crate::progress::host_based::history::History;
    use crate::progress::host_based::operands::Purpose;
    use crate::progress::host_based::scan::{Begin, DdFacts, FoundDd, Scan};
    use crate::progress::proc::process::ProcessId;
    use crate::progress::tests::fake_host::Fake;

    fn empty() -> Saved {
        Saved::new("b", Vec::new())
    }

    #[test]
    fn what_was_stored_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/state.json");
        store(&path, empty()).unwrap();
        store(&path, empty()).unwrap();
        assert_eq!(load(&path, "b"), Ok(empty()));
        let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "no draft is left");
    }

    /// What dd and open files have in common was written down by two structures then.
    #[test]
    fn all_that_an_earlier_release_has_stored_is_loaded() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/state/version-1.json"
        );
        let saved = load(Path::new(path), "7d3e").unwrap();
        let now = serde_json::to_value(saved).unwrap();
        let then: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        for of in ["records", "files"] {
            let then = then[of].as_array().unwrap();
            let now = now[of].as_array().unwrap();
            assert_eq!(then.len(), now.len());
            for (then, now) in then.iter().zip(now) {
                for (key, value) in then.as_object().unwrap() {
                    let key = if key == "ended_at" { "ended" } else { key };
                    assert_eq!(now[key], *value, "{of}: {key}");
                }
            }
        }
        assert_eq!(now["volumes"], then["volumes"]);
    }

    #[test]
    fn no_file_and_another_boot_are_nothing_and_no_trouble() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        assert_eq!(load(&path, "b"), Ok(empty()));
        assert_eq!(load(&folder.path().join("no/state.json"), "b"), Ok(empty()));
        store(&path, Saved::new("earlier", Vec::new())).unwrap();
        assert_eq!(load(&path, "b"), Ok(empty()));
    }

    #[test]
    fn what_is_spoilt_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        for text in [
            "",
            "{",
            "[]",
            "\u{0}\u{0}",
            r#"{"version":2,"boot":"b","records":[]}"#,
        ] {
            fs::write(&path, text).unwrap();
            assert!(load(&path, "b").is_err(), "{text:?}");
        }
        File::create(&path)
            .unwrap()
            .set_len(SIZE_LIMIT + 1)
            .unwrap();
        assert!(load(&path, "b").unwrap_err().contains("larger"));
        assert!(load(folder.path(), "b").is_err());
    }

    #[test]
    fn a_link_in_the_place_of_the_draft_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let other = folder.path().join("other");
        fs::write(&other, "theirs").unwrap();
        std::os::unix::fs::symlink(&other, draft(&path)).unwrap();
        store(&path, empty()).unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "theirs");
        assert_eq!(load(&path, "b"), Ok(empty()));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(store(&folder.path().join("a/b/state.json"), empty()).is_err());
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(store(&folder.path().join("file/state.json"), empty()).is_err());
    }

    #[test]
    fn no_more_is_written_than_the_reader_takes_and_what_runs_is_kept_first() {
        let fake = Fake::new();
        let path = |number: u64| format!("/{number}/{}", "x".repeat(4000));
        let mut memory = History::default();
        let scan = |starts: Range<u64>, alive: u64| Scan {
            found: starts
                .map(|start| copy(&fake, start, &path(start)))
                .collect(),
            alive: [ProcessId {
                start: alive,
                pid: 7,
            }]
            .into(),
            ..Scan::default()
        };
        memory.take_in(scan(0..20, 3), Instant::now());
        let all = || Saved::new("b", memory.saved(&memory.ids()));
        let largest = serde_json::to_vec(&all()).unwrap().len() as u64;
        let read = |limit| -> Vec<u64> {
            let text = within(limit, all()).unwrap();
            assert!(text.len() as u64 <= limit);
            let saved: Saved = serde_json::from_slice(&text).unwrap();
            saved
                .records
                .iter()
                .map(|record| record.dd.id.start)
                .collect()
        };
        assert_eq!(read(largest).len(), 20);
        assert_eq!(read(largest - 1), [3]);
        assert!(read(largest / 40).is_empty());
    }

    fn copy(fake: &Fake, start: u64, path: &str) -> FoundDd {
        let dd = DdFacts {
            id: ProcessId { start, pid: 7 },
            purpose: Purpose::Copy,
            source: Identity::of(&fake.roots(), path),
            destination: Identity::of(&fake.roots(), "/b"),
            block: 512,
            bytes: None,
            begin: Begin::default(),
        };
        FoundDd {
            dd,
            written: None,
            at: Instant::now(),
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,80}") {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("state.json");
            fs::write(&path, text).unwrap();
            let _ = load(&path, "b");
        }
    }
}
