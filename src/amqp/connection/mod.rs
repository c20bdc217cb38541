//! One open connection to one broker host, with time limits of its own.

use std::net::{Shutdown, TcpStream as StdTcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_compat::CompatExt;
use futures_util::{Stream, StreamExt};
use lapin::tcp::AsyncTcpStream;
use lapin::types::ReplyCode;
use lapin::uri::{
    AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism,
};
use lapin::{Channel, ConnectionProperties, ConnectionStatus, ErrorKind, Event};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use crate::config::{BrokerHost, Brokers, LoginMethod, Rabbit, Tls};
use crate::ticker;

/// How long to wait before the next try.
pub mod backoff;
/// The broker's certificate.
pub mod certificate;
/// Certificates and keys in PEM files.
mod pem;
/// The one loop that keeps a connection.
pub mod supervisor;
/// TLS to the broker.
pub mod tls;

use certificate::Peer;
use tls::TlsError;

/// A broker that has not finished the handshake by then counts as failed: lapin waits for
/// ever for a server that accepts and then says nothing.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long one of several addresses of a broker may take, so that an address that swallows packets
/// does not use up the time of the others.
const ADDRESS: Duration = Duration::from_secs(3);

/// How long a clean goodbye may take before the socket is shut.
const GOODBYE: Duration = Duration::from_secs(1);

/// How often the state of the connection is looked at, besides lapin's own notice of its end.
const PULSE: Duration = Duration::from_secs(1);

/// How many threads may read the files of TLS at once.
static READERS: Semaphore = Semaphore::const_new(4);

/// The frame size asked for, in bytes; RabbitMQ offers 128 KiB. lapin keeps 32 frames' worth of
/// buffer in each direction, and cinder's messages are a few KiB.
const FRAME_MAX: u32 = 16 * 1024;

/// AMQP's reply code for "nothing is wrong".
const REPLY_SUCCESS: ReplyCode = 200;

/// Why a connection could not be opened, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// No TCP connection, or no TLS over it.
    #[error("{0}")]
    Tcp(#[from] std::io::Error),
    /// The broker refused, or lapin did.
    #[error("{0}")]
    Amqp(#[from] lapin::Error),
    /// Nothing came back in time.
    #[error("the broker accepts connections but does not answer within {0:?}")]
    Silent(Duration),
    /// TLS was tried and failed, or should have been tried.
    #[error("{0}")]
    Handshake(String),
    /// The settings for TLS are invalid.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The broker has cancelled a consumer: its queue was deleted.
    #[error("the broker has cancelled a consumer: its queue was deleted")]
    Cancelled,
    /// The broker denies queues that do not survive it.
    #[error(
        "this broker denies transient queues, as RabbitMQ does from 4.3 on: set amqp_durable_queues or \
         rabbit_quorum_queue, and rabbit_transient_quorum_queue, in [oslo_messaging_rabbit], here and \
         in all other services"
    )]
    TransientDenied,
    /// The queues are missing here and other hosts are named.
    #[error("the queues are missing on this host for too long: trying another one")]
    Elsewhere,
    /// This user may not publish.
    #[error(
        "the user of transport_url may not write to the default exchange (amq.default): no answer \
         could be sent; give it the permissions that cinder-volume has"
    )]
    Forbidden,
    /// So many channels were opened on it that a new one is due.
    #[error("many channels were opened on this connection: starting with a new one")]
    Worn,
    /// It was open and is not any more.
    #[error("the connection has ended")]
    Ended,
}

/// One open connection.
///
/// Dropping it shuts the socket: nothing of the connection outlives its session.
pub struct Connection {
    inner: lapin::Connection,
    ended: CancellationToken,
    /// Channels opened so far.
    opened: AtomicUsize,
    blocked: Arc<AtomicBool>,
    plug: Plug,
    peer: Option<Peer>,
    _watch: AbortOnDropHandle<()>,
}

/// A handle that shuts the socket, whatever lapin's thread is waiting for.
struct Plug(Option<StdTcpStream>);

impl Drop for Plug {
    fn drop(&mut self) {
        if let Some(socket) = &self.0 {
            // Fails only when the peer has shut it already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Connection {
    /// Connects to `host`, logs in and opens the virtual host, all within ten seconds.
    ///
    /// `label` is the `connection_name` that `rabbitmqctl list_connections client_properties`
    /// shows.
    ///
    /// # Errors
    ///
    /// What the system or the broker said, or [`ConnectionError::Silent`].
    pub async fn open(
        brokers: &Brokers,
        host: &BrokerHost,
        rabbit: &Rabbit,
        label: &str,
    ) -> Result<Self, ConnectionError> {
        let deadline = tokio::time::Instant::now() + HANDSHAKE;
        let silent = |_| ConnectionError::Silent(HANDSHAKE);
        let (tls, verifier) = match brokers.tls.clone() {
            Some(tls) => {
                let files = tls::files(&tls);
                let connector = in_time(deadline, files, move || tls::connector(&tls));
                let (connector, verifier) = connector.await??;
                (Some(connector), Some(verifier))
            }
            None => (None, None),
        };
        let since = Instant::now();
        let socket = tokio::time::timeout_at(deadline, reach(&host.host, host.port))
            .await
            .map_err(silent)??;
        let elapsed = since.elapsed();
        debug!(connection = %label, host = %host.host, tls = tls.is_some(), ?elapsed, "reached");
        // A hand-over is a dialogue of small frames: waiting to fill a packet would cost each
        // of them up to 40 ms.
        socket.set_nodelay(true)?;
        let socket = socket.into_std()?;
        let mut plug = Plug(Some(socket.try_clone()?));

        let uri = uri(brokers, host, rabbit);
        let properties = ConnectionProperties::default()
            .with_connection_name(label.into())
            .with_client_property("product".into(), env!("CARGO_PKG_NAME").into())
            .with_client_property("product_version".into(), env!("CARGO_PKG_VERSION").into());
        let runtime = lapin::runtime::default_runtime()?;
        let opening = lapin::Connection::connector(
            uri,
            runtime,
            // Called once: the supervisor does the retries.
            async move |uri: AMQPUri, _runtime| {
                let socket = socket.try_clone()?;
                let stream = AsyncTcpStream::Plain(TcpStream::from_std(socket)?.compat());
                match &tls {
                    None => Ok(stream),
                    Some(tls) => Ok(stream.into_rustls(tls, &uri.authority.host).await?),
                }
            },
            properties,
        );
        // On time-out the plug is dropped, which ends lapin's thread too.
        let opened = tokio::time::timeout_at(deadline, opening)
            .await
            .map_err(silent)?;
        let peer = verifier.and_then(|verifier| verifier.seen());
        let inner = opened.map_err(|error| in_words(error, brokers.tls.as_ref(), peer.as_ref()))?;

        debug!(connection = %label, elapsed = ?since.elapsed(), "logged in");

        let ended = CancellationToken::new();
        let blocked = Arc::new(AtomicBool::new(false));
        let watch = tokio::spawn(watch(
            inner.events_listener(),
            inner.status().clone(),
            label.to_owned(),
            ended.clone(),
            Arc::clone(&blocked),
        ));
        Ok(Self {
            inner,
            ended,
            opened: AtomicUsize::new(0),
            blocked,
            plug: Plug(plug.0.take()),
            peer,
            _watch: AbortOnDropHandle::new(watch),
        })
    }

    /// Opens a channel.
    ///
    /// # Errors
    ///
    /// When the connection is not open any more.
    pub async fn channel(&self) -> Result<Channel, ConnectionError> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        tokio::select! {
            channel = self.inner.create_channel() => Ok(channel?),
            () = self.ended() => Err(ConnectionError::Ended),
        }
    }

    /// Whether so many channels have been opened that a new connection is due.
    ///
    /// lapin gives the number of a channel that the broker has closed to a new channel later, and takes the old error
    /// for the new channel's. Looking for a missing queue closes a channel, so a connection wears out.
    #[must_use]
    pub fn is_worn(&self) -> bool {
        let most = usize::from(self.inner.configuration().channel_max());
        // Numbers are given out in turn. The rest is for code that opens a channel before it looks here.
        self.opened.load(Ordering::Relaxed) > most - most / 8
    }

    /// Returns when the connection has ended, for whatever reason.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Is cancelled when the connection has ended.
    #[must_use]
    pub fn end(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.is_cancelled() || !self.inner.status().connected()
    }

    /// The peer of the TLS handshake; `None` without TLS.
    #[must_use]
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// Whether the broker has stopped reading from us because it is short of memory or disk.
    #[must_use]
    pub fn blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    /// The flag behind [`Connection::blocked`], for a watcher that outlives the connection.
    #[must_use]
    pub fn alarm(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.blocked)
    }

    /// Whether the broker reads nothing from this connection, as it is short of memory or disk.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    /// Says goodbye, or gives up after a second.
    pub async fn close(self) {
        let goodbye = self.inner.close(REPLY_SUCCESS, "bye".into());
        // Whatever comes of it, the socket is shut next.
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
        drop(self.plug);
    }
}

/// The error of an attempt; where TLS is to blame, in the words of the options.
fn in_words(error: lapin::Error, tls: Option<&Tls>, peer: Option<&Peer>) -> ConnectionError {
    if let Some(refused) = peer.and_then(|peer| peer.refused.clone()) {
        return ConnectionError::Handshake(refused);
    }
    let cause = match error.kind() {
        ErrorKind::ParsingError(_) => {
            return ConnectionError::Handshake(
                "what answers at that port does not speak AMQP; a port for TLS needs ssl = true"
                    .to_owned(),
            );
        }
        ErrorKind::IOError(error) => error.get_ref().and_then(|e| e.downcast_ref()),
        _ => None,
    };
    let met = peer.is_some();
    let meaning = |(tls, cause)| tls::meaning(cause, tls, met);
    if let Some(meaning) = tls.zip(cause).and_then(meaning) {
        return ConnectionError::Handshake(meaning);
    }
    // The last message of a peer that hangs up, such as an alert of TLS, may be lost.
    match error.kind() {
        ErrorKind::IOError(_) | ErrorKind::InvalidConnectionState(_) => {
            ConnectionError::Handshake(match tls {
                Some(tls) if met => format!("{error}; {}", tls::another_client(tls)),
                Some(tls) => format!(
                    "{error}; {}; or {}",
                    tls::nothing_in_common(),
                    tls::another_client(tls)
                ),
                None => format!("{error}; a port for TLS would need ssl = true"),
            })
        }
        _ => error.into(),
    }
}

/// The first address of `host` that takes a connection.
async fn reach(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let mut cause = std::io::Error::other("the name has no address");
    for address in tokio::net::lookup_host((host, port)).await? {
        debug!(%host, %address, "trying an address");
        match tokio::time::timeout(ADDRESS, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) => cause = error,
            Err(_) => cause = std::io::ErrorKind::TimedOut.into(),
        }
    }
    Err(cause)
}

/// Reads files, among them the system's whole store of authorities, on another thread, because their file system may
/// hang. A thread that hangs is left behind and keeps its place among [`READERS`].
async fn in_time<T: Send + 'static>(
    deadline: tokio::time::Instant,
    files: String,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ConnectionError> {
    let reading = async {
        // The semaphore is never closed; were it, there would be no limit and no harm.
        let place = READERS.acquire().await;
        tokio::task::spawn_blocking(move || {
            let read = work();
            drop(place);
            read
        })
        .await
    };
    match tokio::time::timeout_at(deadline, reading).await {
        Ok(read) => Ok(read.map_err(std::io::Error::other)?),
        Err(_) => Err(TlsError::Slow(files).into()),
    }
}

/// Tells of the connection's end and of the broker's alarms.
async fn watch(
    mut events: impl Stream<Item = Event> + Unpin,
    status: ConnectionStatus,
    connection: String,
    ended: CancellationToken,
    blocked: Arc<AtomicBool>,
) {
    // lapin shares one queue of events among all listeners and drops none: it is taken once
    // and drained for as long as the connection lives.
    while status.connected() {
        let event = tokio::select! {
            () = ticker::tick(PULSE) => continue,
            event = events.next() => event,
        };
        match event {
            Some(Event::ConnectionBlocked(reason)) => {
                blocked.store(true, Ordering::Relaxed);
                warn!(%connection, %reason, "the broker is short of resources: publishing waits");
            }
            Some(Event::ConnectionUnblocked) => {
                blocked.store(false, Ordering::Relaxed);
                info!(%connection, "the broker takes messages again");
            }
            // An error may have ended the connection or only a channel: the status tells.
            Some(_) => {}
            None => break,
        }
    }
    ended.cancel();
}

fn uri(brokers: &Brokers, host: &BrokerHost, rabbit: &Rabbit) -> AMQPUri {
    let heartbeat = rabbit.heartbeat_timeout_threshold.as_secs();
    AMQPUri {
        scheme: if brokers.tls.is_some() {
            AMQPScheme::AMQPS
        } else {
            AMQPScheme::AMQP
        },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: host.username.clone(),
                password: host.password.expose().to_owned(),
            },
            host: host.host.clone(),
            port: host.port,
        },
        vhost: brokers.virtual_host.clone(),
        query: AMQPQueryString {
            frame_max: Some(FRAME_MAX),
            heartbeat: Some(u16::try_from(heartbeat).unwrap_or(u16::MAX)),
            auth_mechanism: Some(match rabbit.rabbit_login_method {
                LoginMethod::AmqPlain => SASLMechanism::AMQPlain,
                LoginMethod::Plain => SASLMechanism::Plain,
                LoginMethod::External => SASLMechanism::External,
            }),
            ..AMQPQueryString::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn files_whose_file_system_hangs_cost_no_more_than_the_time_of_a_connection() {
        let (let_go, hangs) = mpsc::channel::<()>();
        let deadline = tokio::time::Instant::now() + Duration::from_millis(50);
        let files = "ssl_ca_file = /mnt/ca.pem".to_owned();
        let read = in_time(deadline, files, move || hangs.recv()).await;
        let said = read.unwrap_err().to_string();
        assert_eq!(
            said,
            "ssl_ca_file = /mnt/ca.pem cannot be read in time: is the file system there?"
        );
        // Those that are read meanwhile have places left.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        assert!(matches!(
            in_time(deadline, String::new(), || 7).await,
            Ok(7)
        ));
        drop(let_go);
    }
}
