//! First stage: the assignments of each source, word for word and in their order.

use crate::config::{Location, Origin};

/// One assignment of one source.
///
/// The type has no `Debug`, because the text may be a password.
#[derive(Clone)]
pub(in crate::config) struct Assignment {
    /// Section, normalised by [`normal_group`].
    pub group: String,
    /// Option, as written.
    pub option: String,
    /// Value without its quotes, before any `$name` is substituted.
    pub text: String,
    pub origin: Origin,
}

impl Assignment {
    /// The place of the assignment, for an error.
    pub fn place(&self) -> Box<Location> {
        Box::new(Location {
            origin: self.origin.clone(),
            group: self.group.clone(),
            option: self.option.clone(),
        })
    }
}

/// All assignments of one source. The last assignment of an option counts.
#[derive(Clone, Default)]
pub(in crate::config) struct Fragment {
    pub assignments: Vec<Assignment>,
}

impl Fragment {
    /// The assignments of the environment: `OS_<GROUP>__<OPTION>`, all in capitals.
    ///
    /// The name of a group may contain a double underscore. So the variable is split at each of them. The wrong
    /// splits give options that nobody reads.
    pub fn from_environment(variables: &[(String, String)]) -> Self {
        let mut assignments = Vec::new();
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix("OS_") else {
                continue;
            };
            if name.to_uppercase() != *name {
                continue;
            }
            for (seam, _) in rest.match_indices("__") {
                let (group, option) = (&rest[..seam], &rest[seam + 2..]);
                assignments.push(Assignment {
                    group: normal_group(group),
                    option: option.to_lowercase(),
                    text: text.clone(),
                    origin: Origin::Environment(name.clone()),
                });
            }
        }
        Self { assignments }
    }

    /// The assignments of the command line, each as (group, option, value).
    pub fn from_command_line(overrides: &[(String, String, String)]) -> Self {
        let assignments = overrides
            .iter()
            .map(|(group, option, text)| Assignment {
                group: normal_group(group),
                option: option.clone(),
                text: text.clone(),
                origin: Origin::CommandLine,
            })
            .collect();
        Self { assignments }
    }

    /// The last assignment of `option` in `group`.
    pub fn last(&self, group: &str, option: &str) -> Option<&Assignment> {
        self.assignments
            .iter()
            .rev()
            .find(|a| a.group == group && a.option == option)
    }
}

/// The name by which oslo.config compares sections: lower case, except for `DEFAULT`, which is written in capitals.
pub(in crate::config) fn normal_group(group: &str) -> String {
    if group == "DEFAULT" {
        group.to_owned()
    } else {
        group.to_lowercase()
    }
}

#[cfg(test)]
mod tests {
    use super::Fragment;

    fn env(name: &str) -> Vec<(String, String)> {
        Fragment::from_environment(&[(name.to_owned(), "x".to_owned())])
            .assignments
            .into_iter()
            .map(|a| (a.group, a.option))
            .collect()
    }

    fn pair(group: &str, option: &str) -> (String, String) {
        (group.to_owned(), option.to_owned())
    }

    #[test]
    fn environment_names_are_taken_apart_as_oslo_puts_them_together() {
        assert_eq!(env("OS_DEFAULT__HOST"), [pair("DEFAULT", "host")]);
        assert_eq!(
            env("OS_OSLO_MESSAGING_RABBIT__SSL"),
            [pair("oslo_messaging_rabbit", "ssl")]
        );
        assert_eq!(
            env("OS_PROGRESS:LVM-1__MIGRATION_MODE"),
            [pair("progress:lvm-1", "migration_mode")]
        );
        assert!(env("OS_A__B__BACKEND_HOST").contains(&pair("a__b", "backend_host")));
    }

    #[test]
    fn other_variables_are_not_ours() {
        assert!(env("OS_AUTH_URL").is_empty());
        assert!(env("OS_default__host").is_empty());
        assert!(env("HOST").is_empty());
    }
}
