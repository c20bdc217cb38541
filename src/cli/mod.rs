//! The command line: one file per verb.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Settings, Sources};

/// A progress call, as cinder-api would make it.
mod call;
/// Checks settings, brokers, queues and `/proc`.
mod check;
/// Log lines: their format and limits.
mod log;
/// The daemon.
mod serve;
/// The copies that run on this node.
mod status;

/// `EX_CONFIG` of `sysexits.h`: the settings are wrong.
const EX_CONFIG: u8 = 78;

/// The exit statuses of each verb and an example, below its `--help` and in its man page.
mod words {
    pub(super) const PROGRAM: &str = "\
Example:
  cinder-progress status --watch

Exit status:
  0   done
  1   failed; the reason is on standard error
  2   a mistake on the command line
  78  a mistake in the settings; file, line and option are on standard error";

    pub(super) const STATUS: &str = "\
Example:
  cinder-progress status --watch

On a terminal the copies are a table as wide as the terminal; otherwise each
copy is one line. The last line is the state of this node's daemon: serving,
standing aside and why, or not running. The daemon writes that line to a file
beside [progress] state_file, which only root and the daemon's user may read.

Exit status:
  0   the copies are shown, or none runs
  1   the processes of this node cannot be read
  2   a mistake on the command line
  78  a mistake in the settings";

    pub(super) const CHECK: &str = "\
Example:
  cinder-progress check

It can be run at any time: it consumes nothing and leaves nothing on the broker.

Exit status:
  0   nothing fails
  1   something fails; each line that fails says what to do
  2   a mistake on the command line
  78  a mistake in the settings: the daemon would not start with them";

    pub(super) const CALL: &str = "\
Example:
  cinder-progress call --host node1@lvm --volume-id 5c2e6a1e-8f0b-4f43-9d0a-1c5f5a3f7b11 --size 100

Exit status:
  0   the answer is on standard output
  1   there is no answer; the reason is on standard error
  2   a mistake on the command line
  78  a mistake in the settings";

    pub(super) const SERVE: &str = "\
Example:
  cinder-progress serve --config-file /etc/kolla/cinder-volume/cinder.conf

SIGTERM and SIGINT end the daemon within five seconds. SIGHUP makes it read
its settings again.

Exit status:
  0   ended by a signal
  1   the daemon cannot go on; the service manager starts it again
  2   a mistake on the command line
  78  a mistake in the settings: a restart does not help";
}

/// Reports the progress of cinder-volume's migrations, over RPC, beside cinder-volume.
#[derive(Debug, Parser)]
#[command(version, about, after_help = words::PROGRAM)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    settings: SettingsArguments,
}

/// Where settings come from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings")]
struct SettingsArguments {
    /// A file of settings, instead of the default files; may be given several times
    #[arg(long, value_name = "FILE", global = true)]
    config_file: Vec<PathBuf>,
    /// A folder of *.conf files of settings, instead of the default files; may be given several times
    #[arg(long, value_name = "DIR", global = true)]
    config_dir: Vec<PathBuf>,
    /// Log more lines
    #[arg(long, short, global = true)]
    debug: bool,
}

/// The verbs, in the order in which an operator needs them.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the copies that run on this node and the state of its daemon; needs no broker
    #[command(after_help = words::STATUS)]
    Status(status::StatusArguments),
    /// Check settings, brokers, queues and what may be read of processes
    #[command(after_help = words::CHECK)]
    Check,
    /// Ask over the broker for the progress of a volume, as cinder-api would
    #[command(after_help = words::CALL)]
    Call(call::CallArguments),
    /// Answer calls until told to stop (the default)
    #[command(after_help = words::SERVE)]
    Serve,
}

impl SettingsArguments {
    fn sources(&self) -> Sources {
        let mut overrides = Vec::new();
        if self.debug {
            overrides.push(("DEFAULT".to_owned(), "debug".to_owned(), "true".to_owned()));
        }
        Sources {
            config_files: self.config_file.clone(),
            config_dirs: self.config_dir.clone(),
            overrides,
            ..Sources::from_environment()
        }
    }
}

/// Runs the verb. Errors go to stderr, one cause a line.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    let sources = arguments.settings.sources();
    match &arguments.verb {
        None | Some(Verb::Serve) => {
            with_settings(&sources, |settings| serve::serve(sources.clone(), settings))
        }
        Some(Verb::Status(wanted)) => status::status(&sources, wanted),
        Some(Verb::Check) => check::check(&sources),
        Some(Verb::Call(wanted)) => {
            with_settings(&sources, |settings| call::call(&settings, wanted))
        }
    }
}

fn with_settings(sources: &Sources, verb: impl FnOnce(Settings) -> ExitCode) -> ExitCode {
    match crate::config::load(sources) {
        Ok(settings) => verb(settings),
        Err(error) => {
            complain(&error);
            ExitCode::from(EX_CONFIG)
        }
    }
}

/// Runs a verb that talks to a broker and ends by itself.
fn run_to_end(work: impl Future<Output = ExitCode>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let end = runtime.block_on(work);
            // A read that hangs in the kernel must not keep the process from ending.
            runtime.shutdown_background();
            end
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Prints an error and its causes.
fn complain(error: &dyn std::error::Error) {
    eprintln!("cinder-progress: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_verb_has_an_example_that_can_be_typed_and_its_exit_statuses() {
        let mut program = Arguments::command();
        program.build();
        let helps = std::iter::once(program.clone())
            .chain(program.get_subcommands().cloned())
            .filter(|command| command.get_name() != "help");
        for mut command in helps {
            let name = command.get_name().to_owned();
            let help = command.render_help().to_string();
            let (_, rest) = help.split_once("Example:\n").expect(&name);
            let example = rest.lines().next().unwrap().trim();
            let words = example.split_whitespace();
            assert!(Arguments::try_parse_from(words).is_ok(), "{example}");
            let verb = format!("cinder-progress {name}");
            assert!(
                name == "cinder-progress" || example.starts_with(&verb),
                "{example}"
            );
            assert!(rest.contains("Exit status:\n  0 "), "{rest}");
            for line in help
                .lines()
                .filter(|line| line.starts_with("  cinder-progress"))
            {
                assert!(line.len() < 110, "{line}");
            }
        }
    }
}
