//! Each broker by itself, then the queues, by passive look-ups alone.

use std::time::{Duration, Instant};

use super::report::Report;
use crate::amqp::connection::{Connection, ConnectionError};
use crate::amqp::handover::BACKLOG;
use crate::amqp::look::{Seen, look};
use crate::amqp::topology::{Names, Standing, is_not_allowed, is_refused};
use crate::config::{BrokerHost, Mode, Settings};

/// How long looking at the queues of one backend may take.
const LOOK: Duration = Duration::from_secs(10);

/// A line for each host of `transport_url`, and for each queue as the first host knows it: they are
/// one cluster.
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
            "not looked at: no broker lets us in",
            "see the lines above",
        );
        return;
    };
    for backend in &settings.backends {
        let names = Names::of(&settings.control_exchange, &backend.address);
        let looked = tokio::time::timeout(LOOK, look(&connection, &names)).await;
        match looked {
            Ok(Ok(seen)) => queues(report, settings.progress.mode, &names, &seen),
            Ok(Err(error)) => report.fail(
                "queues",
                format!("{}: {error}", names.topic),
                "give the user of transport_url the permissions that cinder-volume has",
            ),
            Err(_) => report.fail(
                "queues",
                format!("{}: the broker does not tell within {LOOK:?}", names.topic),
                "look at the broker: rabbitmqctl list_queues, rabbitmq-diagnostics check_alarms",
            ),
        }
    }
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

/// What to do about a connection that did not come about.
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

fn queues(report: &mut Report, mode: Mode, names: &Names, seen: &Seen) {
    match mode {
        Mode::Sidecar => {
            topic_queue(report, &names.topic, seen.topic);
            server_queue(report, &names.server, seen);
        }
        Mode::Standalone => {
            for (queue, standing) in [(&names.topic, seen.topic), (&names.server, seen.server)] {
                alone(report, queue, standing, seen.daemon);
            }
        }
    }
    if seen.daemon {
        report.ok(
            "daemon",
            format!("a cinder-progress serves {}", names.server),
        );
    } else {
        report.fail(
            "daemon",
            format!("no cinder-progress serves {}", names.server),
            "start it on this node: systemctl start cinder-progress, or cinder-progress serve",
        );
    }
}

/// T, beside cinder-volume.
fn topic_queue(report: &mut Report, queue: &str, standing: Option<Standing>) {
    let Some(standing) = standing else {
        missing(report, queue);
        return;
    };
    let found = said(queue, standing);
    if standing.consumers == 0 {
        report.fail(
            "queue",
            found,
            "cinder-volume is not consuming: start it, see its log",
        );
    } else if standing.ready > BACKLOG {
        report.warn(
            "queue",
            found,
            "cinder-volume does not keep up: cinder-progress stands aside meanwhile",
        );
    } else {
        report.ok("queue", found);
    }
}

/// Q, beside cinder-volume.
fn server_queue(report: &mut Report, queue: &str, seen: &Seen) {
    let Some(standing) = seen.server else {
        missing(report, queue);
        return;
    };
    let found = said(queue, standing);
    let expected = 1 + u32::from(seen.daemon);
    if standing.consumers > expected {
        report.warn(
            "queue",
            found,
            "more than this node's services consume it: does another node have the same host and backend?",
        );
    } else if standing.consumers == expected {
        report.ok("queue", found);
    } else if standing.consumers == 0 {
        report.fail(
            "queue",
            found,
            "nobody takes volume operations: start cinder-volume",
        );
    } else {
        report.warn(
            "queue",
            found,
            "cinder-progress stands aside at this moment, or cinder-volume has lost the queue: see their logs",
        );
    }
}

/// Either queue, where there is no cinder-volume.
fn alone(report: &mut Report, queue: &str, standing: Option<Standing>, daemon: bool) {
    match standing {
        None if daemon => report.fail(
            "queue",
            format!("{queue} is missing"),
            "somebody has deleted it: restart cinder-progress, which declares it",
        ),
        None => report.ok(
            "queue",
            format!("{queue}: not there yet, the daemon declares it"),
        ),
        Some(standing) if standing.consumers > u32::from(daemon) => report.fail(
            "queue",
            said(queue, standing),
            "somebody else consumes it, as a cinder-volume would: set [progress] mode = sidecar",
        ),
        Some(standing) => report.ok("queue", said(queue, standing)),
    }
}

fn missing(report: &mut Report, queue: &str) {
    report.fail(
        "queue",
        format!("{queue} is missing"),
        "cinder-volume declares it: start it, and compare host, enabled_backends, backend_host, \
         control_exchange and the virtual host with what it has",
    );
}

fn said(queue: &str, standing: Standing) -> String {
    let Standing { ready, consumers } = standing;
    let s = if consumers == 1 { "" } else { "s" };
    let wait = if ready == 1 {
        "message waits"
    } else {
        "messages wait"
    };
    format!("{queue}: {consumers} consumer{s}, {ready} {wait}")
}
