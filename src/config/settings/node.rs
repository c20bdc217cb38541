//! The settings of commands that only look at this node.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::inputs::Inputs;
use super::{options, users};
use crate::config::ConfigError;
use crate::config::oslo::values;

/// The settings that commands without a broker need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// The name of a volume, with `%s` once. Source: `[DEFAULT] volume_name_template`.
    pub volume_name_template: String,
    /// Where procfs is mounted. Source: `[progress] proc_root`.
    pub proc_root: PathBuf,
    /// Where sysfs is mounted. Source: `[progress] sys_root`.
    pub sys_root: PathBuf,
    /// Where the device nodes are. Source: `[progress] dev_root`.
    pub dev_root: PathBuf,
    /// The file in which the daemon saves copies. Source: `[progress] state_file`.
    pub state_file: Option<PathBuf>,
    /// Users whose dd counts besides root's and cinder's. Source: `[progress] dd_users`.
    pub dd_users: BTreeSet<u32>,
}

/// Checks only the options that these commands need.
pub(in crate::config) fn settle(inputs: &Inputs) -> Result<Local, ConfigError> {
    use options as o;
    Ok(Local {
        volume_name_template: inputs.read(&o::VOLUME_NAME_TEMPLATE, super::name_template)?,
        proc_root: inputs.read(&o::PROC_ROOT, values::absolute_path)?,
        sys_root: inputs.read(&o::SYS_ROOT, values::absolute_path)?,
        dev_root: inputs.read(&o::DEV_ROOT, values::absolute_path)?,
        state_file: inputs.read(&o::STATE_FILE, values::optional_absolute_path)?,
        dd_users: inputs.read(&o::DD_USERS, users::users)?,
    })
}
