//! The users whose dd may be cinder's.
//!
//! Every user of the node can run a program called dd that names a volume, so its user has to be one that
//! cinder copies as: root through rootwrap and privsep, or cinder's own where a share is mounted so
//! (`nas_secure_file_operations`).

use std::collections::BTreeSet;

use rustix::process::geteuid;

use crate::config::user_number;

/// Cinder's user, by the name that every distribution gives it.
const CINDER: &str = "cinder";

/// The ids of the users whose dd counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Users(BTreeSet<u32>);

impl Users {
    /// Root, this process's user, `cinder` if it exists, and `others`.
    #[must_use]
    pub fn and(others: &BTreeSet<u32>) -> Self {
        let own = geteuid().as_raw();
        let mut users: BTreeSet<u32> = [0, own].into();
        users.extend(user_number(CINDER));
        users.extend(others);
        Self(users)
    }

    /// Whether a process with these users may be cinder's. Both the real and the effective user have to count: a user
    /// who may run one program as another user is not that user.
    pub(super) fn include(&self, uids: Uids) -> bool {
        self.0.contains(&uids.real) && self.0.contains(&uids.effective)
    }
}

impl Default for Users {
    fn default() -> Self {
        Self::and(&BTreeSet::new())
    }
}

/// Who a process runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Uids {
    /// Who started it.
    pub real: u32,
    /// Whose rights it has.
    pub effective: u32,
}

impl Uids {
    /// From the text of `/proc/<pid>/status`: real, effective, saved, of the file system (`proc_pid_status(5)`).
    /// The owner of the folder would not do: it is root for a process that makes itself undumpable.
    pub(super) fn parse(status: &str) -> Option<Self> {
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        let mut uids = line.split_whitespace().map(str::parse);
        Some(Self {
            real: uids.next()?.ok()?,
            effective: uids.next()?.ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_the_real_and_the_effective_user_count() {
        let users = Users(BTreeSet::from([0, 64061]));
        let include = |line: &str| Uids::parse(line).map(|uids| users.include(uids));
        assert_eq!(include("Name:\tdd\nUid:\t0\t0\t0\t0\n"), Some(true));
        assert_eq!(include("Uid:\t64061\t0\t0\t0\n"), Some(true));
        assert_eq!(include("Uid:\t1000\t0\t0\t0\n"), Some(false));
        assert_eq!(include("Uid:\t0\t1000\t0\t0\n"), Some(false));
        for odd in ["", "Name:\tdd\n", "Uid:\n", "Uid:\t0\n", "Uid:\t-1\t0\n"] {
            assert_eq!(include(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn root_and_who_looks_always_count() {
        let users = Users::and(&BTreeSet::from([42407]));
        for uid in [0, geteuid().as_raw(), 42407] {
            let uids = Uids {
                real: uid,
                effective: uid,
            };
            assert!(users.include(uids), "{uid}");
        }
    }
}
