//! `transport_url`, taken apart as oslo.messaging takes it apart.
//!
//! `rabbit://user:password@host:port,user:password@host:port/virtual_host?option=value`. It is not
//! quite a URL: the commas make several hosts, each with credentials of its own, and the virtual
//! host is what follows the first slash, so that `/` itself is written `//`.

use percent_encoding::percent_decode_str;

use super::brokers::{Endpoint, host_and_port};
use crate::config::Secret;

/// A `transport_url` in its parts.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::config) struct TransportUrl {
    /// What follows the host list after a slash; `None` without a slash.
    pub virtual_host: Option<String>,
    /// In the order written; empty for `rabbit://`.
    pub hosts: Vec<UrlHost>,
    /// Options that override `[oslo_messaging_rabbit]`; those without a value are left out.
    pub query: Vec<(String, String)>,
}

/// One host of a `transport_url`.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::config) struct UrlHost {
    pub endpoint: Endpoint,
    pub username: Option<String>,
    pub password: Option<Secret>,
}

/// Takes `text` apart, or says what would be right, without quoting any of it.
pub(in crate::config) fn parse(text: &str) -> Result<TransportUrl, String> {
    // Python's URL reader drops these, which is what makes a URL on continued lines work.
    let text: String = text
        .trim_start_matches(|c: char| c <= ' ')
        .chars()
        .filter(|c| !matches!(c, '\t' | '\r' | '\n'))
        .collect();

    // As absent: what Ocata made of it, where the older options then count.
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

/// The spellings by which the rabbit driver can be chosen and then really speaks AMQP 0-9-1.
fn is_rabbit(scheme: &str) -> bool {
    matches!(
        scheme,
        "rabbit" | "kombu+rabbit" | "kombu+amqp" | "kombu+pyamqp"
    )
}

fn parse_host(text: &str) -> Result<UrlHost, String> {
    // The last `@` counts: some user names hold one.
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

/// The query's options; a repeated one is joined by commas, as a list option wants it.
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
