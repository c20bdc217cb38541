//! What the broker has under a service's names.

use serde_json::Value;

use super::broker::SharedBroker;
use super::service::Service;

/// What the daemon's own exclusive queues begin with, by which a second daemon is told.
const CLAIM: &str = "cinder-progress.";

/// Queues, exchanges and bindings with all their properties, one to a line.
#[derive(Debug, PartialEq)]
pub struct Listing {
    /// `rabbitmqctl list_queues`
    pub queues: Vec<String>,
    /// `rabbitmqctl list_exchanges`
    pub exchanges: Vec<String>,
    /// `rabbitmqctl list_bindings`
    pub bindings: Vec<String>,
}

impl Listing {
    /// All that the shared broker has now.
    pub async fn now() -> Self {
        let queues = "list_queues name type durable auto_delete exclusive arguments";
        let exchanges = "list_exchanges name type durable auto_delete internal arguments";
        let (queues, exchanges, bindings) =
            tokio::join!(rows(queues), rows(exchanges), rows("list_bindings"));
        Self {
            queues,
            exchanges,
            bindings,
        }
    }

    /// What bears the service's name, but for the daemon's own claim: `HOST` stands for its host, `UNIQUE` for what is random.
    pub fn of(&self, service: &Service) -> Self {
        let of = |rows: &[String]| {
            let mut rows: Vec<String> = rows
                .iter()
                .filter(|row| row.contains(&service.host) && !row.contains(CLAIM))
                .map(|row| without_uuids(&row.replace(&service.host, "HOST")))
                .collect();
            rows.sort();
            rows
        };
        Self {
            queues: of(&self.queues),
            exchanges: of(&self.exchanges),
            bindings: of(&self.bindings),
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.exchanges.is_empty() && self.bindings.is_empty()
    }
}

/// The names of the queues of the daemon's own topic: each has one that ends in what nobody had before.
pub async fn own_queues(service: &Service) -> Vec<String> {
    let begin = format!("{}_", service.own_topic());
    let names = SharedBroker::ctl(&["list_queues", "--silent", "name"]).await;
    let own = names.lines().filter(|name| name.starts_with(&begin));
    own.map(str::to_owned).collect()
}

async fn rows(command: &str) -> Vec<String> {
    let arguments = format!("--formatter json {command}");
    let printed = SharedBroker::ctl(&arguments.split(' ').collect::<Vec<_>>()).await;
    let mut rows: Vec<Value> = serde_json::from_str(&printed).unwrap();
    rows.iter_mut().for_each(sort_arguments);
    rows.iter().map(Value::to_string).collect()
}

/// They are a map, of which the broker keeps the order it was sent in.
fn sort_arguments(row: &mut Value) {
    if let Some(arguments) = row["arguments"].as_array_mut() {
        arguments.sort_by_key(Value::to_string);
    }
}

/// A private fanout queue ends in 32 hexadecimal digits.
fn without_uuids(row: &str) -> String {
    const MARK: &str = "_fanout_";
    let mut parts = row.split(MARK);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.chars().take_while(char::is_ascii_hexdigit).count();
        assert_eq!(digits, 32, "{row}");
        text = text + MARK + "UNIQUE" + &part[digits..];
    }
    text
}
