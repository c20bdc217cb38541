//! Second stage: the sources laid over one another. Each option has one text.

use super::options::{self, Opt};
use crate::config::oslo::fragments::{Assignment, Fragment};
use crate::config::oslo::substitution::substitute;
use crate::config::{ConfigError, Origin};

/// The longest text that all `$name` of one value may add, in bytes. Each value may refer twice to the next one, so the
/// length could double at each step.
const LONGEST_VALUE: usize = 64 * 1024;

/// How many options `$name` may lead through. A longer chain counts as a circle.
const MAX_REFERENCES: usize = 32;

/// All sources together.
pub(in crate::config) struct Inputs {
    /// The weakest first.
    layers: Vec<Fragment>,
    /// The host name of the machine, which is the default of `host`.
    machine: String,
}

impl Inputs {
    pub fn new(layers: Vec<Fragment>, machine: String) -> Self {
        Self { layers, machine }
    }

    /// Lays `fragment` over all other sources.
    pub fn overlay(&mut self, fragment: Fragment) {
        self.layers.push(fragment);
    }

    /// Every assignment of every source.
    pub fn assignments(&self) -> impl Iterator<Item = &Assignment> {
        self.layers.iter().flat_map(|layer| &layer.assignments)
    }

    /// The value of `option`, made by `convert`. The error of `convert` is what would be right.
    pub fn read<T>(
        &self,
        option: &Opt,
        convert: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        self.convert(&self.find(option), convert)
    }

    /// The same for an option of a section whose name depends on the backend. `None` if it is not set.
    pub fn read_in<T>(
        &self,
        group: &str,
        name: &str,
        convert: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        self.written(group, name)
            .map(|assignment| self.convert(assignment, convert))
            .transpose()
    }

    /// The error for a value of `option` that was converted but is not valid.
    pub fn mistake(&self, option: &Opt, expected: impl Into<String>) -> ConfigError {
        mistake(&self.find(option), expected)
    }

    /// Where the value of `option` was written.
    pub fn origin(&self, option: &Opt) -> Origin {
        self.find(option).origin
    }

    fn convert<T>(
        &self,
        assignment: &Assignment,
        convert: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let text = self.filled_in(assignment, 0)?;
        convert(&text).map_err(|expected| mistake(assignment, expected))
    }

    /// The assignment that counts, else the default. The strongest source counts. Within one source the present
    /// spelling counts before the older ones.
    fn find(&self, option: &Opt) -> Assignment {
        self.layers
            .iter()
            .rev()
            .find_map(|layer| {
                option
                    .names()
                    .find_map(|(group, name)| layer.last(group, name))
            })
            .cloned()
            .unwrap_or_else(|| Assignment {
                group: option.group.to_owned(),
                option: option.name.to_owned(),
                text: if option.names().eq(options::HOST.names()) {
                    self.machine.clone()
                } else {
                    option.default.to_owned()
                },
                origin: Origin::Default,
            })
    }

    fn written(&self, group: &str, name: &str) -> Option<&Assignment> {
        self.layers
            .iter()
            .rev()
            .find_map(|layer| layer.last(group, name))
    }

    /// The text of `assignment` with every `$name` substituted.
    fn filled_in(&self, assignment: &Assignment, depth: usize) -> Result<String, ConfigError> {
        if assignment.origin == Origin::TransportUrl {
            // `$name` was already substituted in the URL that the text comes from.
            return Ok(assignment.text.clone());
        }
        if depth > MAX_REFERENCES {
            return Err(mistake(
                assignment,
                "a value that does not lead back to itself",
            ));
        }
        let mut filled = 0;
        substitute(&assignment.text, |name| {
            let target = self.referred(&assignment.group, name).ok_or_else(|| {
                let which = if may_be_shown(assignment) {
                    format!("${name}")
                } else {
                    "each $name in it".to_owned()
                };
                mistake(
                    assignment,
                    format!(
                        "{which} to be the name of an option that is set (a plain $ is written $$)"
                    ),
                )
            })?;
            let text = self.filled_in(&target, depth + 1)?;
            filled += text.len();
            if filled > LONGEST_VALUE {
                return Err(mistake(assignment, "a value of a reasonable length"));
            }
            Ok(text)
        })
    }

    /// The assignment that `$name` refers to in section `group`: that of the same section, else that of `[DEFAULT]`.
    fn referred(&self, group: &str, name: &str) -> Option<Assignment> {
        let in_group = |group: &str, name: &str| {
            options::known(group, name)
                .map(|option| self.find(option))
                .or_else(|| self.written(group, name).cloned())
        };
        match name.split_once('.') {
            Some((group, name)) => in_group(group, name),
            None => in_group(group, name).or_else(|| in_group("DEFAULT", name)),
        }
    }
}

fn mistake(assignment: &Assignment, expected: impl Into<String>) -> ConfigError {
    ConfigError::Invalid {
        place: assignment.place(),
        value: may_be_shown(assignment).then(|| assignment.text.clone()),
        expected: expected.into(),
    }
}

/// Whether an error may quote the value. The value of an option that the daemon does not know may be a password. A
/// value from the query of `transport_url` may be a part of a password that contains an unescaped `?`.
fn may_be_shown(assignment: &Assignment) -> bool {
    assignment.origin != Origin::TransportUrl
        && (assignment.option == options::BACKEND_HOST
            || assignment.group.starts_with(options::PROGRESS_OF_BACKEND)
            || options::known(&assignment.group, &assignment.option)
                .is_some_and(|option| !option.secret))
}
