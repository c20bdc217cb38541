//! Checks each broker, then the queues.

use std::time::Instant;

use super::queues;
use super::report::Report;
use crate::amqp::connection::{Connection, ConnectionError};
use crate::amqp::topology::{is_not_allowed, is_refused};
use crate::config::{BrokerHost, Settings};

/// Prints a line for each host of `transport_url`, and for each queue. The first host is asked for the queues, because
/// all hosts are one cluster.
pub(super) async fn report(report: &mut Report, settings: &Settings) {
    let mut first = None;
    for host in &settings.brokers.hosts {
        if let Some(connection) = connect(report, settings, host).await {
            match first {
                None => first = Some(connection),
                Some(_) => connection.close().await,
            }
        }
    }
    let Some(connection) = first else {
        report.fail(
            "queues",
            "not looked at: no broker accepted the login",
            "see the lines above",
        );
        return;
    };
    queues::report(report, settings, &connection).await;
    connection.close().await;
}

async fn connect(
    report: &mut Report,
    settings: &Settings,
    host: &BrokerHost,
) -> Option<Connection> {
    let label = format!("cinder-progress:{}:check", std::process::id());
    let name = format!("{}:{}", host.host, host.port);
    let begun = Instant::now();
    let opened = Connection::open(&settings.brokers, host, &settings.rabbit, &label).await;
    let connection = match opened {
        Ok(connection) => connection,
        Err(error) => {
            report.fail("broker", format!("{name}: {error}"), remedy(&error));
            return None;
        }
    };
    let took = begun.elapsed().as_millis();
    let user = &host.username;
    report.ok(
        "broker",
        format!("{name}: logged in as {user} after {took} ms"),
    );
    if let Some(peer) = connection.peer() {
        let (version, certificate) = (peer.version, &peer.certificate);
        let found = format!(
            "{name}: {version}, {certificate}, until {}",
            certificate.ends
        );
        let checked = |tls: &crate::config::Tls| (tls.verify, tls.verify_name);
        match settings.brokers.tls.as_ref().map(checked) {
            Some((true, true)) => report.ok("tls", found),
            Some((true, false)) => report.warn(
                "tls",
                found,
                "its name is not checked: ssl_enforce_hostname_verification is off",
            ),
            _ => report.warn(
                "tls",
                found,
                "it is not checked: anyone in between can read the password ([progress] tls_verify is off)",
            ),
        }
    }
    Some(connection)
}

/// The advice for a connection that failed.
fn remedy(error: &ConnectionError) -> &'static str {
    const LOGIN: &str = "check user and password in transport_url: rabbitmqctl authenticate_user";
    const VHOST: &str = "check the virtual host in transport_url and the user's permissions on it: \
                         rabbitmqctl list_vhosts, list_permissions";
    match error {
        ConnectionError::Amqp(error) if is_refused(error) => LOGIN,
        ConnectionError::Amqp(error) if is_not_allowed(error) => VHOST,
        ConnectionError::Amqp(_) => "look at the broker's log; a port for TLS needs ssl = true",
        ConnectionError::Silent(_) => {
            "the broker hangs, or something else listens there: look at its log and load"
        }
        ConnectionError::Tls(_) | ConnectionError::Handshake(_) => {
            "mend what [oslo_messaging_rabbit] ssl* says, or the query of transport_url"
        }
        _ => {
            "check host and port in transport_url, and that RabbitMQ runs there and no firewall is between"
        }
    }
}

#[cfg(test)]
mod tests {
    use lapin::ErrorKind;
    use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPHardError, AMQPSoftError};

    use super::*;

    #[test]
    fn the_advice_depends_on_the_code_of_the_broker() {
        let advice = |kind| {
            let error = AMQPError::new(kind, "".into());
            let error = lapin::Error::from(ErrorKind::ProtocolError(error));
            remedy(&ConnectionError::Amqp(error))
        };
        for (kind, word) in [
            (
                AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED),
                "password",
            ),
            (
                AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED),
                "virtual host",
            ),
            (AMQPErrorKind::Hard(AMQPHardError::FRAMEERROR), "ssl = true"),
        ] {
            assert!(advice(kind.clone()).contains(word), "{kind}");
        }
    }
}
