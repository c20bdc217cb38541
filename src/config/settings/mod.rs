//! Third stage: checked settings, in the types that the other rooms work with.

use std::path::PathBuf;
use std::time::Duration;

use super::ConfigError;
use super::oslo::values;

/// The services of cinder-volume on this node and the names of their queues.
pub(super) mod backends;
/// Which brokers to connect to, and how.
pub(super) mod brokers;
/// Second stage: the sources laid over one another.
pub(super) mod inputs;
/// The settings of commands that only look at this node.
pub(super) mod node;
/// Every option: name, older spellings, default.
pub(super) mod options;
/// Where options were set.
pub(super) mod origins;
/// The section `[progress]`.
pub(super) mod progress;
/// The section `[oslo_messaging_rabbit]`.
pub(super) mod rabbit;
/// Passwords.
pub(super) mod secret;
/// `transport_url`.
pub(super) mod transport_url;
/// Users of this node.
pub(super) mod users;

use backends::{Backend, LONGEST_NAME};
use brokers::Brokers;
use inputs::Inputs;
use progress::Progress;
use rabbit::Rabbit;

/// Longest time to wait for an answer, in seconds: a day. No caller of cinder's waits as long.
const LONGEST_WAIT: u64 = 24 * 3600;

/// All settings of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The files that were read, the weakest first.
    pub files: Vec<PathBuf>,
    /// The node's name in cinder. Source: `[DEFAULT] host`; default the machine's host name.
    pub host: String,
    /// The topic exchange. Source: `[DEFAULT] control_exchange`; default `openstack`.
    pub control_exchange: String,
    /// Whether to log more. Source: `[DEFAULT] debug`; default false.
    pub debug: bool,
    /// The name of a volume on its backend, with `%s` once in the place of the id. Source: `[DEFAULT]
    /// volume_name_template`; default `volume-%s`.
    pub volume_name_template: String,
    /// Whether `oslo_rpc_server_ping` is answered. Source: `[DEFAULT] rpc_ping_enabled`; default
    /// false.
    pub rpc_ping_enabled: bool,
    /// How long `call` waits for an answer. Source: `[DEFAULT] rpc_response_timeout`; default 60 s.
    pub rpc_response_timeout: Duration,
    /// The brokers.
    pub brokers: Brokers,
    /// The cluster that cinder-volume belongs to, if to any. Source: `[DEFAULT] cluster`.
    pub cluster: Option<String>,
    /// The arguments of queues, and how connections are kept.
    pub rabbit: Rabbit,
    /// The services of cinder-volume on this node, at least one. Source: `[DEFAULT]
    /// enabled_backends` and the sections it names.
    pub backends: Vec<Backend>,
    /// The daemon's own section.
    pub progress: Progress,
}

/// Checks `inputs`, read from `files`.
pub(super) fn settle(mut inputs: Inputs, files: Vec<PathBuf>) -> Result<Settings, ConfigError> {
    // First, because the query of transport_url is the strongest source of all options that follow.
    let brokers = brokers::read(&mut inputs)?;
    let inputs = inputs;

    if !inputs
        .read(&options::CONFIG_SOURCE, values::list)?
        .is_empty()
    {
        return Err(inputs.mistake(
            &options::CONFIG_SOURCE,
            "nothing, because what other sources hold is not read here: write transport_url, host and whatever else \
             cinder-volume gets from there into /etc/cinder-progress/cinder-progress.conf, and 'config_source =' with \
             nothing after it",
        ));
    }
    let host = inputs.read(&options::HOST, values::filled)?;
    let progress = progress::read(&inputs)?;
    let backends = backends::read(&inputs, &host, &progress)?;
    progress::refuse_unknown(&inputs, &backends)?;
    Ok(Settings {
        files,
        host,
        control_exchange: inputs.read(&options::CONTROL_EXCHANGE, |text| {
            nameable(values::filled(text)?)
        })?,
        debug: inputs.read(&options::DEBUG, values::boolean)?,
        volume_name_template: inputs.read(&options::VOLUME_NAME_TEMPLATE, name_template)?,
        rpc_ping_enabled: inputs.read(&options::RPC_PING_ENABLED, values::boolean)?,
        rpc_response_timeout: inputs.read(
            &options::RPC_RESPONSE_TIMEOUT,
            values::seconds(1..=LONGEST_WAIT),
        )?,
        brokers,
        cluster: Some(
            inputs
                .read(&options::CLUSTER, values::text)?
                .trim()
                .to_owned(),
        )
        .filter(|cluster| !cluster.is_empty()),
        rabbit: rabbit::read(&inputs)?,
        backends,
        progress,
    })
}

/// A name that fits into AMQP.
pub(super) fn nameable(name: String) -> Result<String, String> {
    if name.len() <= LONGEST_NAME {
        Ok(name)
    } else {
        Err(format!(
            "a name of at most {LONGEST_NAME} bytes, as AMQP has it"
        ))
    }
}

/// A template into which Python's `%` can put one id.
pub(super) fn name_template(text: &str) -> Result<String, String> {
    if text.matches('%').count() == 1 && text.contains("%s") {
        Ok(text.to_owned())
    } else {
        Err("a name with %s once, in the place of the volume's id, and no other %".to_owned())
    }
}
