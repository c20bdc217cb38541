//! Every URL reads as the real oslo.messaging reads it, and leads where kombu would go.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Sample {
    url: String,
    expected: Option<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    virtual_host: Option<String>,
    hosts: Vec<Host>,
    query: BTreeMap<String, String>,
    /// `None` where the driver itself fails on a URL that was read well.
    reached: Option<Vec<Reached>>,
}

#[derive(Deserialize)]
struct Host {
    host: Option<String>,
    port: Option<u16>,
    username: Option<String>,
    password: Option<String>,
}

#[derive(Deserialize)]
struct Reached {
    host: String,
    port: u16,
    username: String,
    password: String,
    virtual_host: String,
}

fn entries() -> Vec<Sample> {
    let text = std::fs::read(fixture("transport_urls.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn reads_as_oslo_messaging_does() {
    for Sample { url, expected } in entries() {
        let found = transport_url::parse(&url);
        let Some(expected) = expected else {
            assert!(found.is_err(), "{url:?}: {found:?}");
            continue;
        };
        let found = found.unwrap_or_else(|error| panic!("{url:?}: {error}"));
        assert_eq!(found.virtual_host, expected.virtual_host, "{url:?}");
        assert_eq!(BTreeMap::from_iter(found.query), expected.query, "{url:?}");
        let hosts = expected
            .hosts
            .into_iter()
            .map(|host| transport_url::UrlHost {
                endpoint: brokers::Endpoint {
                    host: host.host,
                    port: host.port,
                },
                username: host.username,
                password: host.password.map(Secret::new),
            });
        assert_eq!(found.hosts, hosts.collect::<Vec<_>>(), "{url:?}");
    }
}

#[test]
fn leads_where_kombu_would_go() {
    for Sample { url, expected } in entries() {
        let Some(reached) = expected.and_then(|expected| expected.reached) else {
            continue;
        };
        let url_as_value = url.replace('$', "$$").replace('\n', "\n ");
        let settings = load_text(&format!("[DEFAULT]\ntransport_url = {url_as_value}\n"))
            .unwrap_or_else(|error| panic!("{url:?}: {error}"));
        for virtual_host in reached.iter().map(|host| &host.virtual_host) {
            assert_eq!(settings.brokers.virtual_host, *virtual_host, "{url:?}");
        }
        let hosts = reached.into_iter().map(|host| BrokerHost {
            host: host.host,
            port: host.port,
            username: host.username,
            password: Secret::new(host.password),
        });
        assert_eq!(settings.brokers.hosts, hosts.collect::<Vec<_>>(), "{url:?}");
    }
}
