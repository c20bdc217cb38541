//! Faults of one node of a cluster of three, with and without the daemon, beside the real cinder-volume.

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable, LongString};
use tokio::time::{Instant, sleep};

use crate::cinder_volume::{settle, verdict};
use crate::row::Row;
use crate::support::broker::Broker;
use crate::support::cinder_volume::CinderVolume;
use crate::support::cluster::Cluster;
use crate::support::daemon::Daemon;
use crate::support::environment::Release;
use crate::support::load::{Load, publisher};
use crate::support::service::Service;
use crate::support::wait::{PATIENCE, until};

/// What befalls the node.
#[derive(Clone, Copy)]
pub enum Fault {
    /// SIGKILL, and started again.
    Killed,
    /// Stopped cleanly, and started again.
    Stopped,
    /// `rabbitmqctl stop_app` and `start_app`.
    AppStopped,
    /// SIGSTOP for [`HANG`].
    Hung,
}

/// Which node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Where the daemon takes operations in.
    Daemon,
    /// Where the leader of Q is.
    Server,
    /// Where the leader of T is.
    Topic,
    /// Where none of these is, nor any connection.
    Neither,
    /// All nodes, one after the other; cinder-volume may be connected to any.
    Each,
}

/// A row: its name, what happens where, and the pause between two operations.
pub type Trouble = (&'static str, Fault, Place, Duration);

const FAST: Duration = Duration::from_millis(10);
const A_SECOND: Duration = Duration::from_secs(1);

/// All of them.
pub const FAULTS: &[Trouble] = &[
    (
        "cluster, daemon's node killed",
        Fault::Killed,
        Place::Daemon,
        FAST,
    ),
    (
        "cluster, Q's node killed",
        Fault::Killed,
        Place::Server,
        FAST,
    ),
    (
        "cluster, T's node killed",
        Fault::Killed,
        Place::Topic,
        FAST,
    ),
    (
        "cluster, another node killed",
        Fault::Killed,
        Place::Neither,
        FAST,
    ),
    (
        "cluster, daemon's node stopped",
        Fault::Stopped,
        Place::Daemon,
        FAST,
    ),
    (
        "cluster, Q's node stopped",
        Fault::Stopped,
        Place::Server,
        FAST,
    ),
    (
        "cluster, T's node stopped",
        Fault::Stopped,
        Place::Topic,
        FAST,
    ),
    (
        "cluster, another node stopped",
        Fault::Stopped,
        Place::Neither,
        FAST,
    ),
    (
        "cluster, stop_app on daemon's node",
        Fault::AppStopped,
        Place::Daemon,
        FAST,
    ),
    (
        "cluster, stop_app on Q's node",
        Fault::AppStopped,
        Place::Server,
        FAST,
    ),
    (
        "cluster, stop_app on T's node",
        Fault::AppStopped,
        Place::Topic,
        FAST,
    ),
    (
        "cluster, stop_app on another node",
        Fault::AppStopped,
        Place::Neither,
        FAST,
    ),
    (
        "cluster, daemon's node silent for 20 s",
        Fault::Hung,
        Place::Daemon,
        FAST,
    ),
    (
        "cluster, Q's node silent for 20 s",
        Fault::Hung,
        Place::Server,
        FAST,
    ),
    (
        "cluster, T's node silent for 20 s",
        Fault::Hung,
        Place::Topic,
        FAST,
    ),
    (
        "cluster, another node silent for 20 s",
        Fault::Hung,
        Place::Neither,
        FAST,
    ),
    (
        "cluster, rolling restart",
        Fault::Stopped,
        Place::Each,
        FAST,
    ),
    (
        "cluster, each node killed",
        Fault::Killed,
        Place::Each,
        FAST,
    ),
    (
        "cluster, each node killed, an operation a second",
        Fault::Killed,
        Place::Each,
        A_SECOND,
    ),
];

/// How long a node is silent.
const HANG: Duration = Duration::from_secs(20);

/// How long a node is away that is killed or stopped, less what starting it takes.
const AWAY: Duration = Duration::from_secs(5);

/// Before a fault and after it.
const CALM: Duration = Duration::from_secs(8);

/// Comes back at once; notices a silent node as cinder-volume does where its operator has shortened the threshold.
const IMPATIENT: &str =
    "[oslo_messaging_rabbit]\nheartbeat_timeout_threshold = 10\nrabbit_retry_backoff = 0";

/// The queues of cinder-volume.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Quorum queues.
    Quorum,
    /// Durable classic queues, mirrored on all nodes by a policy: RabbitMQ had them until 3.13.
    Mirrored,
}

impl Kind {
    /// What clouds use on the version that is asked for.
    fn of_version() -> Self {
        match std::env::var("CINDER_PROGRESS_BROKER_VERSION") {
            Ok(version) if version.starts_with("4.") => Self::Quorum,
            _ => Self::Mirrored,
        }
    }

    /// As the daemon is told, and the queues that RabbitMQ 4.3 wants.
    fn options(self) -> Vec<String> {
        let queues: &[&str] = match self {
            Self::Quorum => &["rabbit_quorum_queue", "rabbit_transient_quorum_queue"],
            Self::Mirrored => &["amqp_durable_queues"],
        };
        let mut options = vec!["heartbeat_timeout_threshold=10".to_owned()];
        options.extend(queues.iter().map(|queue| format!("{queue}=true")));
        let conf = |option| {
            [
                "--conf".to_owned(),
                format!("oslo_messaging_rabbit.{option}"),
            ]
        };
        options.into_iter().flat_map(conf).collect()
    }
}

/// Starts the nodes for the rows.
pub async fn start() -> Cluster {
    let cluster = Cluster::start().await;
    if Kind::of_version() == Kind::Mirrored {
        let definition = r#"{"ha-mode": "all", "ha-sync-mode": "automatic"}"#;
        let set = ["set_policy", "mirrored", "^cinder-volume", definition];
        cluster.of_queues.ctl(&set).await;
    }
    cluster
}

/// Makes it.
pub async fn row(cluster: &Cluster, trouble: Trouble, beside: bool) -> Row {
    let (name, fault, place, pause) = trouble;
    let service = Service::unique();
    let daemon = beside.then(|| {
        let url = cluster.transport_url();
        Daemon::start_with(&url, &service, "", IMPATIENT)
    });
    // It tries the hosts in an order of its own.
    let of_daemon = match &daemon {
        Some(daemon) => place_of(cluster, daemon).await,
        None => 0,
    };
    let nodes = cluster.nodes();
    let [faulty, healthy] = [1, 2].map(|step| nodes[(of_daemon + step) % nodes.len()]);
    let leader = |is_faulty| if is_faulty { faulty } else { healthy };
    let (topic, server) = (service.topic(), service.server_queue());
    declare(leader(place == Place::Topic), &topic).await;
    declare(leader(place == Place::Server), &server).await;

    let url = match place {
        Place::Each => cluster.transport_url(),
        _ => healthy.transport_url(),
    };
    let options = Kind::of_version().options();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let server = CinderVolume::start_with(Release::Latest, &url, &service, &options).await;
    if let Some(daemon) = &daemon {
        daemon.wait_for_log("serving beside").await;
    }
    let load = Load::start(&healthy.amqp_uri(), &service, pause);
    sleep(CALM).await;
    let befallen = match place {
        Place::Each => vec![nodes[of_daemon], faulty, healthy],
        Place::Daemon => vec![nodes[of_daemon]],
        _ => vec![faulty],
    };
    for node in befallen {
        suffer(node, fault).await;
        sleep(CALM).await;
        load.wait_for_more(1).await;
    }
    let sent = load.finish().await;
    settle(&server).await;
    // A queue may be longer without its node than what is new stays away.
    let deadline = Instant::now() + PATIENCE;
    while !verdict(&sent, &server.executed()).lost.is_empty() && Instant::now() < deadline {
        settle(&server).await;
    }
    let verdict = verdict(&sent, &server.executed());
    let is_odd = !verdict.lost.is_empty() || verdict.longest_delay > AWAY;
    if let (Some(daemon), true) = (&daemon, is_odd) {
        let columns = [
            "list_queues",
            "name",
            "messages_ready",
            "messages_unacknowledged",
        ];
        eprintln!("{}\n{}", healthy.ctl(&columns).await, daemon.log());
    }
    Row::compared(name, beside, verdict)
}

/// The node to which the daemon's intake is connected.
async fn place_of(cluster: &Cluster, daemon: &Daemon) -> usize {
    let nodes = cluster.nodes();
    until("the daemon is connected", async || {
        let log = daemon.log();
        let mut lines = log.lines();
        let line = lines.find(|line| line.contains("connected") && line.contains(":intake"))?;
        nodes.iter().position(|node| line.contains(&node.address()))
    })
    .await
}

/// Declares it as cinder-volume would, so that its leader is on that node.
async fn declare(node: &Broker, queue: &str) {
    let (_connection, channel) = publisher(&node.amqp_uri()).await.unwrap();
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let mut arguments = FieldTable::default();
    if Kind::of_version() == Kind::Quorum {
        let quorum = AMQPValue::LongString(LongString::from("quorum"));
        arguments.insert("x-queue-type".into(), quorum);
    }
    let declared = channel.queue_declare(queue.into(), durable, arguments);
    declared.await.unwrap();
}

async fn suffer(node: &Broker, fault: Fault) {
    match fault {
        Fault::Killed => {
            node.kill().await;
            sleep(AWAY).await;
            node.start_again().await;
        }
        Fault::Stopped => {
            node.stop().await;
            sleep(AWAY).await;
            node.start_again().await;
        }
        Fault::AppStopped => {
            node.ctl(&["stop_app"]).await;
            sleep(AWAY).await;
            node.ctl(&["start_app"]).await;
        }
        Fault::Hung => {
            node.signal("STOP").await;
            sleep(HANG).await;
            node.signal("CONT").await;
        }
    }
}
