//! The sources of settings. Reads the files among them.

use std::io;
use std::path::{Path, PathBuf};

use super::file;
use super::fragments::Fragment;
use super::search::default_places;
use crate::config::ConfigError;

/// The daemon's own file. Without files on the command line it is read after cinder-volume's, if it exists.
const OWN: &str = "/etc/cinder-progress/cinder-progress.conf";

/// The sources of settings, the weakest first. `Default` has the default files and no other source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// `--config-file`, in order. A file or folder named here replaces all default files: those that cinder-volume
    /// finds by itself, and `/etc/cinder-progress/cinder-progress.conf`.
    pub config_files: Vec<PathBuf>,
    /// `--config-dir`, in order. All `*.conf` of a folder are read, sorted by name, after the files.
    pub config_dirs: Vec<PathBuf>,
    /// Environment as (name, value). Only variables named `OS_<GROUP>__<OPTION>` count.
    pub environment: Vec<(String, String)>,
    /// Command line as (group, option, value). Only the query of `transport_url` is stronger.
    pub overrides: Vec<(String, String, String)>,
}

impl Sources {
    /// The default files and the environment of this process.
    pub fn from_environment() -> Self {
        Self {
            environment: std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
            ..Self::default()
        }
    }

    /// The files to read, the weakest first.
    fn files(&self) -> Result<Vec<PathBuf>, ConfigError> {
        if self.config_files.is_empty() && self.config_dirs.is_empty() {
            let found = default_places(Path::new("/"));
            let mut files = found.files;
            for folder in &found.folders {
                files.extend(absent_is_none(conf_files(folder))?.unwrap_or_default());
            }
            files.push(PathBuf::from(OWN));
            return Ok(files);
        }
        let mut files = self.config_files.clone();
        for dir in &self.config_dirs {
            files.extend(conf_files(dir)?);
        }
        Ok(files)
    }

    /// The assignments of all sources, the weakest first, and the files that were read.
    pub(in crate::config) fn read(&self) -> Result<(Vec<Fragment>, Vec<PathBuf>), ConfigError> {
        let must_exist = !self.config_files.is_empty() || !self.config_dirs.is_empty();
        let mut fragments = Vec::new();
        let mut read = Vec::new();
        for path in self.files()? {
            let bytes = std::fs::read(&path).map_err(|source| ConfigError::Unreadable {
                path: path.clone(),
                source,
            });
            let bytes = if must_exist {
                Some(bytes?)
            } else {
                absent_is_none(bytes)?
            };
            if let Some(bytes) = bytes {
                fragments.push(file::parse(&path, &bytes)?);
                read.push(path);
            }
        }
        fragments.push(Fragment::from_environment(&self.environment));
        fragments.push(Fragment::from_command_line(&self.overrides));
        Ok((fragments, read))
    }
}

/// The `*.conf` of `dir`, sorted. Hidden files are left out, as a shell's `*` leaves them out.
fn conf_files(dir: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let listed = std::fs::read_dir(dir).and_then(|entries| {
        entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()
    });
    let mut files = listed.map_err(|source| ConfigError::Unreadable {
        path: dir.to_owned(),
        source,
    })?;
    files.retain(|path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.ends_with(".conf") && !name.starts_with('.'))
    });
    files.sort();
    Ok(files)
}

fn absent_is_none<T>(result: Result<T, ConfigError>) -> Result<Option<T>, ConfigError> {
    match result {
        Err(ConfigError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        other => other.map(Some),
    }
}
