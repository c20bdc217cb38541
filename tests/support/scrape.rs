//! What the daemon shows over HTTP.

use std::collections::{BTreeMap, BTreeSet};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::daemon::Daemon;
use super::wait::{in_time, until};

/// What makes the daemon serve metrics on a port of its own; to be put in `[progress]`.
pub const METRICS: &str = "metrics_listen = 127.0.0.1:0";

/// A page: status and body.
pub type Page = (u16, String);

/// Where a daemon that was started with [`METRICS`] serves them.
pub async fn address(daemon: &Daemon) -> String {
    let line = daemon.wait_for_log("serving metrics").await;
    line.rsplit_once("address=").unwrap().1.trim().to_owned()
}

/// Gets one page.
pub async fn get(address: &str, path: &str) -> Page {
    let response = exchange(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"),
    )
    .await;
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// Sends `request` and returns all that comes back until the connection is closed.
pub async fn exchange(address: &str, request: &str) -> String {
    in_time("an answer by HTTP", async {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        socket.read_to_string(&mut response).await.unwrap();
        response
    })
    .await
}

/// The series of one scrape by name and labels, such as `a_total` or `b{c="d"}`.
#[derive(Debug)]
pub struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// Scrapes, and checks what every scrape must be.
    pub async fn of(address: &str) -> Self {
        let (status, text) = get(address, "/metrics").await;
        assert_eq!(status, 200, "{text}");
        Self::parse(&text)
    }

    /// Each series is told once, and after the help and the type of its family.
    pub fn parse(text: &str) -> Self {
        let mut series = BTreeMap::new();
        let mut family = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, family, "no help before {line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split(' ').next().unwrap();
            } else {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(name.starts_with(family), "{line} belongs to {family}");
                let before = series.insert(name.to_owned(), value.parse().unwrap());
                assert_eq!(before, None, "{name} is told twice");
            }
        }
        Self(series)
    }

    /// The value of a series that must be there.
    pub fn value(&self, series: &str) -> f64 {
        self.find(series)
            .unwrap_or_else(|| panic!("no {series} in {self:#?}"))
    }

    /// The value of a series, if it is there.
    pub fn find(&self, series: &str) -> Option<f64> {
        self.0.get(series).copied()
    }

    /// All names, without labels.
    pub fn names(&self) -> BTreeSet<&str> {
        let names = self.0.keys();
        names.filter_map(|name| name.split('{').next()).collect()
    }

    /// The first series whose name with labels contains all of `parts`.
    pub fn with(&self, parts: &[&str]) -> Option<f64> {
        let mut all = self.0.iter();
        all.find(|(name, _)| parts.iter().all(|part| name.contains(part)))
            .map(|(_, value)| *value)
    }
}

/// Scrapes until a series has at least this value.
pub async fn until_at_least(address: &str, series: &str, value: f64) -> Scrape {
    until(&format!("{series} is at least {value}"), async || {
        let scrape = Scrape::of(address).await;
        (scrape.find(series)? >= value).then_some(scrape)
    })
    .await
}
