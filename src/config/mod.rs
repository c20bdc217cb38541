//! The settings room: what cinder's own files say, and the little that is the daemon's own.
//!
//! A storage node has a `cinder.conf` already, and everything that shapes queues and connections
//! must be the same on both sides, so the daemon reads that file, with the rules of oslo.config, and
//! an operator need write nothing twice. Three stages, each with a type of its own:
//!
//! 1. *fragments*: what one source said, word for word, with where it said it;
//! 2. *inputs*: all sources laid over one another, the strongest on top: defaults, files in order,
//!    environment, command line, and, as in oslo.messaging, the query string of `transport_url`;
//! 3. `Settings`: checked, in the types the other rooms work with.
//!
//! Options of cinder's that the daemon does not need are ignored, whatever they hold.

/// The services of cinder-volume on this node and the names of their queues.
mod backends;
/// Which brokers to connect to, and how.
mod brokers;
/// What can be wrong with the settings.
mod error;
/// First stage: what each source said.
mod fragments;
/// Second stage: the sources laid over one another.
mod inputs;
/// The settings of those who only look around on this node.
mod local;
/// Every option: name, older spellings, default.
mod options;
/// Where a value was written.
mod origin;
/// Where options were set.
mod origins;
/// oslo.config's file syntax.
mod oslo_file;
/// The section `[progress]`.
mod progress;
/// The section `[oslo_messaging_rabbit]`.
mod rabbit;
/// Passwords.
mod secret;
/// Third stage: checked settings.
mod settings;
/// Where settings come from.
mod sources;
/// `$name` inside a value.
mod substitution;
/// `transport_url`.
mod transport_url;
/// Users of this node.
mod users;
/// Texts into types.
mod values;

#[cfg(test)]
mod tests;

pub use backends::{Address, Backend};
pub use brokers::{BrokerHost, Brokers, Tls, TlsVersion};
pub use error::{ConfigError, Place};
pub use local::Local;
pub use origin::Origin;
pub use origins::Origins;
pub use progress::{Driver, Listen, MigrationMode, Mode, Progress};
pub use rabbit::{FailoverStrategy, LoginMethod, Rabbit};
pub use secret::Secret;
pub use settings::Settings;
pub use sources::Sources;
pub use users::user_number;

/// Reads all of `sources` and checks what they say.
///
/// Blocks on the file system; nothing is kept open, so that calling it again rereads everything.
///
/// # Errors
///
/// The first mistake found. Its text names the place, the option and what would be right, and no
/// secret.
pub fn load(sources: &Sources) -> Result<Settings, ConfigError> {
    let (settings, _) = load_with_origins(sources)?;
    Ok(settings)
}

/// The same, and where the options that matter most were set.
///
/// # Errors
///
/// As [`load`].
pub fn load_with_origins(sources: &Sources) -> Result<(Settings, Origins), ConfigError> {
    let (fragments, files) = sources.read()?;
    let machine = gethostname::gethostname().to_string_lossy().into_owned();
    let inputs = inputs::Inputs::new(fragments, machine);
    let origins = origins::read(&inputs);
    Ok((settings::settle(inputs, files)?, origins))
}

/// Reads of `sources` what it takes to look around on this node: no broker has to be known for that.
///
/// # Errors
///
/// As [`load`], of the few options that are looked at.
pub fn load_local(sources: &Sources) -> Result<Local, ConfigError> {
    let (fragments, _) = sources.read()?;
    local::settle(&inputs::Inputs::new(fragments, String::new()))
}
