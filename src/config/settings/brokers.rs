//! Which brokers to connect to: from `transport_url`, else from Ocata's options for a single broker.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use super::inputs::Inputs;
use super::options;
use super::transport_url::{self, TransportUrl};
use crate::config::oslo::fragments::{Assignment, Fragment};
use crate::config::oslo::values;
use crate::config::{ConfigError, Origin, Secret};

/// The port of AMQP. oslo.messaging has the same default with TLS.
const DEFAULT_PORT: u16 = 5672;
/// The account of a fresh RabbitMQ. kombu takes it when none is named.
const GUEST: &str = "guest";

/// The brokers, all of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brokers {
    /// In the order written, at least one. Source: `transport_url`, or `rabbit_hosts`, or
    /// `rabbit_host` and `rabbit_port`; default `localhost:5672`.
    pub hosts: Vec<BrokerHost>,
    /// Default `/`. Source: the path of `transport_url`, or `rabbit_virtual_host`.
    pub virtual_host: String,
    /// How to encrypt; `None` for plain TCP. Source: `[oslo_messaging_rabbit] ssl`, default off.
    pub tls: Option<Tls>,
}

/// One broker and the account on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerHost {
    /// Name or address; IPv6 without brackets.
    pub host: String,
    /// Default 5672, also with TLS.
    pub port: u16,
    /// Default `guest`.
    pub username: String,
    /// Default `guest`.
    pub password: Secret,
}

/// The options `[oslo_messaging_rabbit] ssl*`, in force when `ssl` is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// PEM file of the authorities to trust; `None` for those of the system. Source: `ssl_ca_file`.
    pub ca_file: Option<TlsFile>,
    /// PEM file of the client's certificate. Source: `ssl_cert_file`.
    pub cert_file: Option<TlsFile>,
    /// PEM file of the certificate's key; never set without `cert_file`. Source: `ssl_key_file`.
    pub key_file: Option<TlsFile>,
    /// Source: `ssl_version`.
    pub version: TlsVersion,
    /// Whether the broker's certificate and name are checked. Source: `[progress] tls_verify`,
    /// default true, whatever Python makes of an empty `ssl_ca_file`.
    pub verify: bool,
    /// Whether the certificate has to bear the broker's name; counts where `verify` is true.
    /// Source: `ssl_enforce_hostname_verification`, default true.
    pub verify_name: bool,
}

/// A file that an option of TLS names. Two are equal when their paths are, wherever the options were set.
#[derive(Debug, Clone)]
pub struct TlsFile {
    /// The file.
    pub path: PathBuf,
    /// Where the option was set. Errors show it.
    pub origin: Origin,
}

impl PartialEq for TlsFile {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for TlsFile {}

impl fmt::Display for TlsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.origin)
    }
}

/// Which versions of TLS are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2 or newer: `ssl_version` empty (the default) or `SSLv23`, Python's name for "negotiate".
    Negotiated,
    /// 1.2 and no other: `TLSv1_2`.
    Tls12,
}

/// Host and port as an address names them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::config) struct Endpoint {
    pub host: Option<String>,
    pub port: Option<u16>,
}

/// Reads `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address.
pub(super) fn host_and_port(text: &str) -> Result<Endpoint, String> {
    let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
        let (host, rest) = bracketed
            .split_once(']')
            .ok_or("']' after the IPv6 address")?;
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err("nothing but ':' and a port after ']'".to_owned()),
        }
    } else {
        if text.contains(['[', ']']) {
            return Err("'[' before and ']' after the IPv6 address".to_owned());
        }
        match text.split_once(':') {
            // Two colons or more: an IPv6 address without a port.
            Some((_, rest)) if rest.contains(':') => (text, None),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    Ok(Endpoint {
        host: (!host.is_empty()).then(|| host.to_owned()),
        port: port.map(values::integer(0..=u16::MAX)).transpose().map_err(|expected| {
            format!("{expected} as port (':', '/', '?', '#' and '@' in a password are written %3A, %2F, %3F, %23, %40)")
        })?,
    })
}

/// Reads `transport_url`, lays its query over `inputs`, and returns the brokers.
pub(in crate::config) fn read(inputs: &mut Inputs) -> Result<Brokers, ConfigError> {
    let TransportUrl {
        virtual_host,
        hosts,
        query,
    } = inputs.read(&options::TRANSPORT_URL, transport_url::parse)?;
    inputs.overlay(from_query(query));

    let (option, virtual_host) = match virtual_host {
        Some(name) => (&options::TRANSPORT_URL, name),
        None => {
            let option = &options::RABBIT_VIRTUAL_HOST;
            (option, inputs.read(option, values::text)?)
        }
    };
    let virtual_host = super::nameable(as_kombu_reads_it(virtual_host))
        .map_err(|expected| inputs.mistake(option, format!("{expected}, as virtual host")))?;
    let hosts = if hosts.is_empty() {
        before_transport_url(inputs)?
    } else {
        hosts
            .into_iter()
            .map(|host| broker_host(host.endpoint, host.username, host.password))
            .collect()
    };
    Ok(Brokers {
        hosts,
        virtual_host,
        tls: read_tls(inputs)?,
    })
}

/// The strongest source: the query string of `transport_url` sets options of the rabbit driver.
fn from_query(query: Vec<(String, String)>) -> Fragment {
    let assignments = query
        .into_iter()
        .map(|(option, text)| Assignment {
            group: options::RABBIT.to_owned(),
            option,
            text,
            origin: Origin::TransportUrl,
        })
        .collect();
    Fragment { assignments }
}

/// The hosts for a `transport_url` without hosts: those of the options that came before it.
fn before_transport_url(inputs: &Inputs) -> Result<Vec<BrokerHost>, ConfigError> {
    let port = inputs.read(&options::RABBIT_PORT, values::integer(0..=u16::MAX))?;
    let username = inputs.read(&options::RABBIT_USERID, values::text)?;
    let password = Secret::new(inputs.read(&options::RABBIT_PASSWORD, values::text)?);
    let endpoints = inputs.read(&options::RABBIT_HOSTS, |text| {
        values::list(text)?
            .iter()
            .map(|address| host_and_port(address))
            .collect::<Result<Vec<Endpoint>, String>>()
    })?;
    if endpoints.is_empty() {
        return Err(inputs.mistake(&options::RABBIT_HOSTS, "host:port, ..."));
    }
    Ok(endpoints
        .into_iter()
        .map(|endpoint| {
            let endpoint = Endpoint {
                port: endpoint.port.or(Some(port)),
                ..endpoint
            };
            broker_host(endpoint, Some(username.clone()), Some(password.clone()))
        })
        .collect())
}

/// Adds kombu's defaults. An empty part counts as absent, and so does port 0.
fn broker_host(
    endpoint: Endpoint,
    username: Option<String>,
    password: Option<Secret>,
) -> BrokerHost {
    BrokerHost {
        host: endpoint.host.unwrap_or_else(|| "localhost".to_owned()),
        port: endpoint
            .port
            .filter(|port| *port != 0)
            .unwrap_or(DEFAULT_PORT),
        username: username
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| GUEST.to_owned()),
        password: password
            .filter(|password| !password.expose().is_empty())
            .unwrap_or_else(|| Secret::new(GUEST)),
    }
}

/// The name as kombu reads it. oslo.messaging passes the decoded name to kombu inside another URL. kombu decodes it
/// once more and takes an empty name for `/`.
fn as_kombu_reads_it(virtual_host: String) -> String {
    if virtual_host.is_empty() {
        "/".to_owned()
    } else {
        percent_decode_str(&virtual_host)
            .decode_utf8_lossy()
            .into_owned()
    }
}

fn read_tls(inputs: &Inputs) -> Result<Option<Tls>, ConfigError> {
    if !inputs.read(&options::SSL, values::boolean)? {
        return Ok(None);
    }
    let file = |option| {
        let path = inputs.read(option, values::optional_path)?;
        let origin = inputs.origin(option);
        Ok::<_, ConfigError>(path.map(|path| TlsFile { path, origin }))
    };
    let tls = Tls {
        ca_file: file(&options::SSL_CA_FILE)?,
        cert_file: file(&options::SSL_CERT_FILE)?,
        key_file: file(&options::SSL_KEY_FILE)?,
        version: inputs.read(&options::SSL_VERSION, tls_version)?,
        verify: inputs.read(&options::TLS_VERIFY, values::boolean)?,
        verify_name: inputs.read(&options::SSL_ENFORCE_HOSTNAME_VERIFICATION, values::boolean)?,
    };
    if tls.key_file.is_some() && tls.cert_file.is_none() {
        return Err(inputs.mistake(&options::SSL_KEY_FILE, "ssl_cert_file beside it"));
    }
    Ok(Some(tls))
}

fn tls_version(text: &str) -> Result<TlsVersion, String> {
    match text.to_ascii_lowercase().as_str() {
        "" | "sslv23" => Ok(TlsVersion::Negotiated),
        "tlsv1_2" => Ok(TlsVersion::Tls12),
        _ => Err("TLSv1_2, or nothing for the best both sides have; what is older than 1.2 is not spoken".to_owned()),
    }
}
