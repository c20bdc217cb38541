//! `transport_url`, parsed as oslo.messaging parses it.
//!
//! `rabbit://user:password@host:port,user:password@host:port/virtual_host?option=value`. This
//! differs from a URL: commas separate several hosts, each with its own credentials. The virtual host is what follows
//! the first slash, so the virtual host `/` is written `//`.

use percent_encoding::percent_decode_str;

use super::brokers::{Endpoint, host_and_port};
use crate::config::Secret;

/// The parts of a `transport_url`.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::config) struct TransportUrl {
    /// The text after the slash that ends the hosts. `None` without a slash.
    pub virtual_host: Option<String>,
    /// In the order written; empty for `rabbit://`.
    pub hosts: Vec<UrlHost>,
    /// Options that override `[oslo_messaging_rabbit]`. Options without a value are left out.
    pub query: Vec<(String, String)>,
}

/// One host of a `transport_url`.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::config) struct UrlHost {
    pub endpoint: Endpoint,
    pub username: Option<String>,
    pub password: Option<Secret>,
}

/// Parses `text`. The error is what would be right, and quotes nothing of `text`.
pub(in crate::config) fn parse(text: &str) -> Result<TransportUrl, String> {
    // Python's `urlsplit` drops these characters. So a URL may be continued on the next line of a file.
    let text: String = text
        .trim_start_matches(|c: char| c <= ' ')
        .chars()
        .filter(|c| !matches!(c, '\t' | '\r' | '\n'))
        .collect();

    // An empty URL counts as absent, as in Ocata. Then the older options count.
    let text = if text.is_empty() { "rabbit://" } else { &text };

    let (_, rest) = text
        .split_once(':')
        .filter(|(scheme, _)| is_rabbit(&scheme.to_ascii_lowercase()))
        .ok_or("a URL that starts with rabbit://")?;
    let rest = rest.split_once('#').map_or(rest, |(rest, _fragment)| rest);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (hosts, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", rest),
    };

    let hosts = hosts
        .split(',')
        .filter(|host| !host.is_empty())
        .enumerate()
        .map(|(index, host)| parse_host(host).map_err(|e| format!("{e} in host {}", index + 1)))
        .collect::<Result<_, _>>()?;

    Ok(TransportUrl {
        virtual_host: path.strip_prefix('/').map(decoded),
        hosts,
        query: parse_query(query),
    })
}

/// Whether `scheme` selects the rabbit driver with AMQP 0-9-1.
fn is_rabbit(scheme: &str) -> bool {
    matches!(
        scheme,
        "rabbit" | "kombu+rabbit" | "kombu+amqp" | "kombu+pyamqp"
    )
}

fn parse_host(text: &str) -> Result<UrlHost, String> {
    // The last `@` counts, because a user name may contain one.
    let (credentials, address) = match text.rsplit_once('@') {
        Some((credentials, address)) => (Some(credentials), address),
        None => (None, text),
    };
    let (username, password) = match credentials.map(|c| c.split_once(':').ok_or(c)) {
        None => (None, None),
        Some(Ok((username, password))) => (
            Some(decoded(username)),
            Some(Secret::new(decoded(password))),
        ),
        Some(Err(username)) => (Some(decoded(username)), None),
    };
    Ok(UrlHost {
        endpoint: host_and_port(address)?,
        username,
        password,
    })
}

/// The options of the query. The values of a repeated option are joined by commas, as in a list option.
fn parse_query(text: &str) -> Vec<(String, String)> {
    let mut options: Vec<(String, String)> = Vec::new();
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        if value.is_empty() {
            continue;
        }
        match options.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => {
                values.push(',');
                values.push_str(&value);
            }
            None => options.push((name.into_owned(), value.into_owned())),
        }
    }
    options
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}
