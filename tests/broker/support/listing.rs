//! What the broker has under a service's names.

use serde_json::Value;

use super::broker::SharedBroker;
use super::service::Service;

/// Queues, exchanges and bindings whose names contain the service's host, with all their properties.
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
    /// Lists them as they are now: `HOST` stands for the host, `UNIQUE` for what is random.
    pub async fn of(service: &Service) -> Self {
        let (queues, exchanges, bindings) = tokio::join!(
            rows(
                service,
                &[
                    "list_queues",
                    "name",
                    "type",
                    "durable",
                    "auto_delete",
                    "exclusive",
                    "arguments",
                ],
            ),
            rows(
                service,
                &[
                    "list_exchanges",
                    "name",
                    "type",
                    "durable",
                    "auto_delete",
                    "internal",
                    "arguments",
                ],
            ),
            rows(service, &["list_bindings"]),
        );
        Self {
            queues,
            exchanges,
            bindings,
        }
    }
}

async fn rows(service: &Service, command: &[&str]) -> Vec<String> {
    let printed = SharedBroker::ctl(&[&["--formatter", "json"], command].concat()).await;
    let rows: Vec<Value> = serde_json::from_str(&printed).unwrap();
    let mut rows: Vec<String> = rows
        .iter()
        .map(|row| row.to_string().replace(&service.host, "HOST"))
        .filter(|row| row.contains("HOST"))
        .map(|row| without_uuids(&row))
        .collect();
    rows.sort();
    rows
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
