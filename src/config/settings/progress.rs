//! The daemon's own section, `[progress]`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::brokers::host_and_port;
use super::inputs::Inputs;
use super::{options, users};
use crate::config::ConfigError;
use crate::config::oslo::error::nearest;
use crate::config::oslo::values;

/// Shortest and longest pause between scans, in seconds. With a shorter pause the scans alone would load the node. With
/// a longer pause no scan might see a short migration.
const SCAN_INTERVALS: std::ops::RangeInclusive<f64> = 0.1..=3600.0;

/// Shortest and longest time limit of a driver's command, in seconds. Callers wait for a minute, which is the default
/// of `rpc_response_timeout`.
const DRIVER_TIMEOUTS: std::ops::RangeInclusive<f64> = 0.1..=60.0;

/// How the daemon works together with cinder-volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `sidecar`: beside a cinder-volume that consumes the same queues.
    Sidecar,
    /// `direct`: on the daemon's own topic only. A cinder-api with the extension in contrib/cinder-api calls it there.
    Direct,
    /// `standalone`: the only server of its topics.
    Standalone,
}

/// How a backend migrates. It decides where the daemon looks for progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MigrationMode {
    /// `auto`: host, then file, then driver.
    Auto,
    /// `HOST_BASED`: cinder-volume runs dd.
    HostBased,
    /// `FILE_BASED`: cinder-volume itself copies through open files.
    FileBased,
    /// `DRIVER_BASED`: the storage copies.
    DriverBased,
    /// Anything else, as written: progress is unknown.
    Other(String),
}

impl MigrationMode {
    /// The mode of this name, in capitals or not.
    pub fn named(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "auto" => Self::Auto,
            "host_based" => Self::HostBased,
            "file_based" => Self::FileBased,
            "driver_based" => Self::DriverBased,
            _ => Self::Other(name.to_owned()),
        }
    }
}

/// A command that reports the progress of a copy made by the storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// The program and its arguments. Source: `driver_command`.
    pub command: Vec<String>,
    /// The time limit of the command. Source: `driver_timeout`; default 5 s, 0.1 to 60.
    pub timeout: Duration,
}

/// `[progress]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Default sidecar.
    pub mode: Mode,
    /// Highest version of the RPC interface that is served, major and minor. Default 3.11.
    pub rpc_version: (u32, u32),
    /// How backends migrate that have no `migration_mode` of their own. Default auto.
    pub migration_mode: MigrationMode,
    /// The command for backends that have none of their own. Default none.
    pub driver: Option<Driver>,
    /// The answer when the progress is unknown, before cinder-api appends `%`. Default `NA`.
    pub unknown_progress: String,
    /// `x-priority` of the consumer of the server queue, above cinder-volume's 0. Default 10.
    pub consumer_priority: i32,
    /// Unacknowledged messages of the server queue at once, 1 to 1000. Default 64.
    pub prefetch: u16,
    /// Pause between two scans of the process table. Default 1 s, 0.1 to 3600.
    pub scan_interval: Duration,
    /// Where procfs is mounted. Default `/proc`.
    pub proc_root: PathBuf,
    /// Where sysfs is mounted. Default `/sys`.
    pub sys_root: PathBuf,
    /// Where the device nodes are. Default `/dev`.
    pub dev_root: PathBuf,
    /// Users whose dd counts besides root's and cinder's, by number. Default none.
    pub dd_users: BTreeSet<u32>,
    /// The file that keeps progress over a restart. `None` if the option is empty. Default
    /// `/run/cinder-progress/state.json`.
    pub state_file: Option<PathBuf>,
    /// The address at which metrics and health are served. `None` if the option is empty, which is the default.
    pub metrics_listen: Option<Listen>,
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Name or address; IPv6 without brackets.
    pub host: String,
    /// 0 for any free port.
    pub port: u16,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Reads the section.
pub(in crate::config) fn read(inputs: &Inputs) -> Result<Progress, ConfigError> {
    use options as o;
    let modes = &[
        ("sidecar", Mode::Sidecar),
        ("direct", Mode::Direct),
        ("standalone", Mode::Standalone),
    ];
    Ok(Progress {
        mode: inputs.read(&o::MODE, values::choice(modes))?,
        rpc_version: inputs.read(&o::RPC_VERSION, version)?,
        migration_mode: inputs.read(&o::MIGRATION_MODE, migration_mode)?,
        driver: driver(
            inputs.read(&o::DRIVER_COMMAND, values::command)?,
            inputs.read(&o::DRIVER_TIMEOUT, driver_timeout)?,
        ),
        unknown_progress: inputs.read(&o::UNKNOWN_PROGRESS, values::filled)?,
        consumer_priority: inputs.read(&o::CONSUMER_PRIORITY, values::integer(1..=i32::MAX))?,
        prefetch: inputs.read(&o::PREFETCH, values::integer(1..=1000))?,
        scan_interval: inputs.read(
            &o::SCAN_INTERVAL,
            values::fractional_seconds(SCAN_INTERVALS),
        )?,
        proc_root: inputs.read(&o::PROC_ROOT, values::absolute_path)?,
        sys_root: inputs.read(&o::SYS_ROOT, values::absolute_path)?,
        dev_root: inputs.read(&o::DEV_ROOT, values::absolute_path)?,
        dd_users: inputs.read(&o::DD_USERS, users::users)?,
        state_file: inputs.read(&o::STATE_FILE, values::optional_absolute_path)?,
        metrics_listen: inputs.read(&o::METRICS_LISTEN, listen)?,
    })
}

/// Reads a `migration_mode`. Any name is accepted, except the empty one.
pub(in crate::config) fn migration_mode(text: &str) -> Result<MigrationMode, String> {
    values::filled(text).map(|name| MigrationMode::named(&name))
}

/// The driver of the backend whose section `[progress:<backend>]` is `group`. Options that are absent there are those
/// of `[progress]`.
pub(super) fn driver_of(inputs: &Inputs, group: &str) -> Result<Option<Driver>, ConfigError> {
    use options as o;
    let command = inputs.read_in(group, o::DRIVER_COMMAND.name, values::command)?;
    let timeout = inputs.read_in(group, o::DRIVER_TIMEOUT.name, driver_timeout)?;
    Ok(driver(
        match command {
            Some(command) => command,
            None => inputs.read(&o::DRIVER_COMMAND, values::command)?,
        },
        match timeout {
            Some(timeout) => timeout,
            None => inputs.read(&o::DRIVER_TIMEOUT, driver_timeout)?,
        },
    ))
}

fn driver(command: Vec<String>, timeout: Duration) -> Option<Driver> {
    (!command.is_empty()).then_some(Driver { command, timeout })
}

fn driver_timeout(text: &str) -> Result<Duration, String> {
    values::fractional_seconds(DRIVER_TIMEOUTS)(text)
}

/// Refuses unknown options in the daemon's own sections, and sections for unknown backends.
pub(super) fn refuse_unknown(
    inputs: &Inputs,
    backends: &[crate::config::Backend],
) -> Result<(), ConfigError> {
    let sections: Vec<String> = backends
        .iter()
        .filter_map(|backend| {
            backend
                .name
                .as_deref()
                .map(crate::config::oslo::fragments::normal_group)
        })
        .collect();

    for assignment in inputs.assignments() {
        let group = assignment.group.as_str();
        let known: Vec<&str> = if group == options::PROGRESS {
            let own = options::ALL
                .iter()
                .filter(|option| option.group == options::PROGRESS);
            own.map(|option| option.name).collect()
        } else if let Some(section) = group.strip_prefix(options::PROGRESS_OF_BACKEND) {
            if !sections.iter().any(|known| known == section) {
                return Err(ConfigError::UnknownBackend {
                    place: assignment.place(),
                    suggestion: nearest(section, sections.iter().map(String::as_str)),
                });
            }
            options::PER_BACKEND
                .iter()
                .map(|option| option.name)
                .collect()
        } else {
            continue;
        };
        if !known.contains(&assignment.option.as_str()) {
            return Err(ConfigError::UnknownOption {
                place: assignment.place(),
                suggestion: nearest(&assignment.option, known.into_iter()),
            });
        }
    }
    Ok(())
}

fn listen(text: &str) -> Result<Option<Listen>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    host_and_port(text)
        .ok()
        .and_then(|endpoint| {
            Some(Listen {
                host: endpoint.host?,
                port: endpoint.port?,
            })
        })
        .map(Some)
        .ok_or_else(|| "host:port, such as 127.0.0.1:9813 or [::1]:9813, or nothing".to_owned())
}

fn version(text: &str) -> Result<(u32, u32), String> {
    // `str::parse` accepts a sign.
    let number = |text: &str| text.parse().ok().filter(|_| !text.starts_with('+'));
    text.split_once('.')
        .and_then(|(major, minor)| Some((number(major)?, number(minor)?)))
        .ok_or_else(|| "major.minor, such as 3.11".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Listen, MigrationMode, listen, version};

    #[test]
    fn versions_are_two_numbers() {
        assert_eq!(version("3.11"), Ok((3, 11)));
        for text in ["3", "3.", "3.11.1", "v3.11", "+3.11", "3.+11", ""] {
            assert!(version(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_address_has_host_and_port() {
        for (text, shown) in [
            ("127.0.0.1:9813", "127.0.0.1:9813"),
            ("[::]:0", "[::]:0"),
            ("storage1:80", "storage1:80"),
        ] {
            let address: Option<Listen> = listen(text).unwrap();
            assert_eq!(address.unwrap().to_string(), shown);
        }
        assert_eq!(listen(""), Ok(None));
        for text in [
            "9813",
            ":9813",
            "::1",
            "host",
            "host:",
            "host:70000",
            "[::1]",
        ] {
            assert!(listen(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn modes_nobody_knows_are_kept() {
        assert_eq!(MigrationMode::named("Host_Based"), MigrationMode::HostBased);
        assert_eq!(
            MigrationMode::named("TAPE_BASED"),
            MigrationMode::Other("TAPE_BASED".to_owned())
        );
    }
}
