//! The command line: one file per verb.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Settings, Sources};

/// A progress call, as cinder-api would make it.
mod call;
/// Whether all is as it has to be.
mod check;
/// Log lines: what is said, and what never is.
mod log;
/// The daemon.
mod serve;
/// The copies that run on this node.
mod status;

/// `EX_CONFIG` of `sysexits.h`: the settings are wrong.
const EX_CONFIG: u8 = 78;

/// Tells how far cinder-volume's migrations are, over RPC, beside cinder-volume.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Arguments {
    #[command(flatten)]
    settings: SettingsArguments,
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// Where settings come from.
#[derive(Debug, Args)]
struct SettingsArguments {
    /// A file to read settings from, instead of the default ones; may be given several times
    #[arg(long, value_name = "FILE", global = true)]
    config_file: Vec<PathBuf>,
    /// A folder of *.conf files to read settings from; may be given several times
    #[arg(long, value_name = "DIR", global = true)]
    config_dir: Vec<PathBuf>,
    /// More log lines
    #[arg(long, short, global = true)]
    debug: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Answer calls until told to stop (the default)
    Serve,
    /// Show the copies that run on this node; needs no broker
    Status(status::StatusArguments),
    /// Ask over the broker how far a volume is, as cinder-api would
    Call(call::CallArguments),
    /// Check settings, brokers, queues and what can be seen of processes; 0 when all is well
    Check,
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
            // Reads that hang in the kernel must not keep the process.
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
