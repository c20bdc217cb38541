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

/// How oslo.config reads.
mod oslo;
/// What is made of it: checked settings.
mod settings;

#[cfg(test)]
mod tests;

pub use oslo::error::{ConfigError, Location};
pub use oslo::origin::Origin;
pub use oslo::sources::Sources;
pub use settings::Settings;
pub use settings::backends::{Address, Backend};
pub use settings::brokers::{BrokerHost, Brokers, Tls, TlsFile, TlsVersion};
pub use settings::node::Local;
pub use settings::origins::Origins;
pub use settings::progress::{Driver, Listen, MigrationMode, Mode, Progress};
pub use settings::rabbit::{FailoverStrategy, LoginMethod, Rabbit};
pub use settings::secret::Secret;
pub use settings::users::user_number;

use settings::inputs::Inputs;
use settings::{node, origins};

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
    let machine = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let inputs = Inputs::new(fragments, machine);
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
    node::settle(&Inputs::new(fragments, String::new()))
}
