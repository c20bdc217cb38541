//! Where settings come from, and the files among that, read.

use std::io;
use std::path::{Path, PathBuf};

use super::file;
use super::fragments::Fragment;
use crate::config::ConfigError;

/// What is read when the command line names nothing; later wins, and what is absent is skipped.
const CINDER: &str = "/etc/cinder/cinder.conf";
const CINDER_DIR: &str = "/etc/cinder/cinder.conf.d";
const OWN: &str = "/etc/cinder-progress/cinder-progress.conf";

/// Where settings come from, the weakest first. `Default` is the default files and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// `--config-file`, in order. Naming any file or folder replaces all of the default search
    /// path: `/etc/cinder/cinder.conf`, `/etc/cinder/cinder.conf.d/*.conf`,
    /// `/etc/cinder-progress/cinder-progress.conf`.
    pub config_files: Vec<PathBuf>,
    /// `--config-dir`, in order: of each folder all `*.conf`, sorted by name, after the files.
    pub config_dirs: Vec<PathBuf>,
    /// Environment as (name, value); `OS_<GROUP>__<OPTION>` is looked at.
    pub environment: Vec<(String, String)>,
    /// Command line as (group, option, value); above everything but the query of `transport_url`.
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

    /// Every file there is to read, the weakest first.
    fn files(&self) -> Result<Vec<PathBuf>, ConfigError> {
        if self.config_files.is_empty() && self.config_dirs.is_empty() {
            let mut files = vec![PathBuf::from(CINDER)];
            files.extend(absent_is_none(conf_files(Path::new(CINDER_DIR)))?.unwrap_or_default());
            files.push(PathBuf::from(OWN));
            return Ok(files);
        }
        let mut files = self.config_files.clone();
        for dir in &self.config_dirs {
            files.extend(conf_files(dir)?);
        }
        Ok(files)
    }

    /// What the files and the other sources say, the weakest first, and the files that were read.
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

/// The `*.conf` of `dir`, sorted; hidden ones are left out as a shell leaves them out.
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
