//! A network that fails on demand: a TCP proxy in front of the broker.
//!
//! It can fall silent in either direction without closing anything, be slow, cut all connections,
//! and hold everything at a chosen step of a transaction.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::frames::{Frames, Method, method};

/// Read at once at most.
const CHUNK: usize = 64 * 1024;

/// How one direction of all connections is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// As fast as it goes.
    Free,
    /// Nothing passes, nothing is closed.
    Stalled,
    /// Each piece comes so much later.
    Slow(Duration),
}

/// A moment in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The first word of it has not reached the broker.
    BeforePublish,
    /// All is published, nothing acknowledged.
    BeforeAck,
    /// All is said but the commit.
    BeforeCommit,
    /// The broker has got the commit.
    AfterCommit,
    /// The broker has carried it out; the client does not know.
    BeforeCommitOk,
    /// The client knows.
    AfterCommitOk,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Step; 6] = [
        Step::BeforePublish,
        Step::BeforeAck,
        Step::BeforeCommit,
        Step::AfterCommit,
        Step::BeforeCommitOk,
        Step::AfterCommitOk,
    ];

    fn method(self) -> Method {
        match self {
            Step::BeforePublish => Method::Publish,
            Step::BeforeAck => Method::Ack,
            Step::BeforeCommit | Step::AfterCommit => Method::Commit,
            Step::BeforeCommitOk | Step::AfterCommitOk => Method::CommitOk,
        }
    }

    /// Whether the frame itself still passes.
    fn is_after(self) -> bool {
        matches!(self, Step::AfterCommit | Step::AfterCommitOk)
    }
}

struct Trap {
    step: Step,
    then: Then,
    /// Methods of its kind that still pass.
    skip: usize,
    sprung: oneshot::Sender<()>,
}

/// What happens when a trap springs.
#[derive(Debug)]
enum Then {
    /// The connection is held in both directions.
    Hold,
    /// That frame is lost; all others pass.
    Lose,
    /// That frame and what follows wait for this.
    Wait(oneshot::Receiver<()>),
}

/// The proxy; connections end with it.
pub struct Proxy {
    port: u16,
    control: Arc<Control>,
    _listening: AbortOnDropHandle<()>,
}

struct Control {
    upstream: u16,
    to_broker: watch::Sender<Flow>,
    to_client: watch::Sender<Flow>,
    cut: Mutex<CancellationToken>,
    transactions_only: watch::Sender<bool>,
    trap: Mutex<Option<Trap>>,
}

impl Proxy {
    /// In front of the broker of this URL.
    pub async fn start(transport_url: &str) -> Self {
        let upstream = transport_url.trim_end_matches('/').rsplit(':').next();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let control = Arc::new(Control {
            upstream: upstream.unwrap().parse().unwrap(),
            to_broker: watch::Sender::new(Flow::Free),
            to_client: watch::Sender::new(Flow::Free),
            cut: Mutex::default(),
            transactions_only: watch::Sender::new(false),
            trap: Mutex::default(),
        });
        let listening = tokio::spawn(listen(listener, Arc::clone(&control)));
        Self {
            port,
            control,
            _listening: AbortOnDropHandle::new(listening),
        }
    }

    /// As oslo.messaging writes it.
    pub fn transport_url(&self) -> String {
        format!("rabbit://guest:guest@127.0.0.1:{}//", self.port)
    }

    /// Sets both directions.
    pub fn flow(&self, to_broker: Flow, to_client: Flow) {
        self.control.to_broker.send_replace(to_broker);
        self.control.to_client.send_replace(to_client);
    }

    /// Closes all connections; new ones are taken.
    pub fn cut(&self) {
        std::mem::take(&mut *self.control.cut.lock().unwrap()).cancel();
    }

    /// Whether all connections but those that work in transactions are closed, and new ones as well.
    pub fn transactions_only(&self, only: bool) {
        self.control.transactions_only.send_replace(only);
    }

    /// At `step` of a transaction, when `skip` methods of its kind have passed, the connection is
    /// held in both directions until it is cut. The receiver hears of it.
    pub fn hold_at(&self, step: Step, skip: usize) -> oneshot::Receiver<()> {
        self.set(step, skip, Then::Hold)
    }

    /// Loses the answer to a commit, when `skip` of them have passed, and nothing else: the
    /// connection stays as lively as ever. The receiver hears of it.
    pub fn lose_commit_ok(&self, skip: usize) -> oneshot::Receiver<()> {
        self.set(Step::BeforeCommitOk, skip, Then::Lose)
    }

    /// Holds the next commit back. The receiver hears of it; the sender lets it go on.
    pub fn delay_commit(&self) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let (go, waits) = oneshot::channel();
        (self.set(Step::BeforeCommit, 0, Then::Wait(waits)), go)
    }

    fn set(&self, step: Step, skip: usize, then: Then) -> oneshot::Receiver<()> {
        let (sprung, hears) = oneshot::channel();
        *self.control.trap.lock().unwrap() = Some(Trap {
            step,
            then,
            skip,
            sprung,
        });
        hears
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

async fn listen(listener: TcpListener, control: Arc<Control>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(Arc::clone(&control).connect(client));
    }
}

impl Control {
    async fn connect(self: Arc<Self>, client: TcpStream) {
        let cut = self.cut.lock().unwrap().clone();
        let Ok(broker) = TcpStream::connect(("127.0.0.1", self.upstream)).await else {
            return;
        };
        for stream in [&client, &broker] {
            stream.set_nodelay(true).unwrap();
        }
        let (from_client, to_client) = client.into_split();
        let (from_broker, to_broker) = broker.into_split();
        let line = Line::default();
        tokio::select! {
            () = cut.cancelled() => {}
            () = self.is_unwanted(&line) => {}
            () = self.pump(from_client, to_broker, self.to_broker.subscribe(), &line) => {}
            () = self.pump(from_broker, to_client, self.to_client.subscribe(), &line) => {}
        }
    }

    /// Returns when only transactions are wanted and it is none.
    async fn is_unwanted(&self, line: &Line) {
        let mut transactions_only = self.transactions_only.subscribe();
        // The sender is here.
        let _ = transactions_only.wait_for(|only| *only).await;
        if line.transactional.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    /// Forwards until one side ends.
    async fn pump(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        mut flow: watch::Receiver<Flow>,
        line: &Line,
    ) {
        let mut chunk = vec![0; CHUNK];
        let mut frames = Frames::default();
        loop {
            let count = match from.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(count) => count,
            };
            frames.push(&chunk[..count]);
            let now = flow
                .wait_for(|flow| *flow != Flow::Stalled)
                .await
                .map(|flow| *flow);
            if let Ok(Flow::Slow(delay)) = now {
                sleep(delay).await;
            }
            while let Some(frame) = frames.next() {
                line.wait_while_held().await;
                let trap = self.springs(&frame, line);
                if let Some(trap) = trap {
                    if trap.step.is_after() {
                        let _ = to.write_all(&frame).await;
                    }
                    line.held.send_replace(matches!(trap.then, Then::Hold));
                    // Nobody listens any more when the test has failed.
                    let _ = trap.sprung.send(());
                    if let Then::Wait(go) = trap.then {
                        let _ = go.await;
                        if to.write_all(&frame).await.is_err() {
                            return;
                        }
                    }
                    line.wait_while_held().await;
                } else if to.write_all(&frame).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Whether this is the frame for which the trap was set; it springs once.
    fn springs(&self, frame: &[u8], line: &Line) -> Option<Trap> {
        let method = method(frame)?;
        if method == Method::Select {
            line.transactional.store(true, Ordering::Relaxed);
        }
        if !line.transactional.load(Ordering::Relaxed) {
            return None;
        }
        let mut trap = self.trap.lock().unwrap();
        match &mut *trap {
            Some(set) if set.step.method() == method && set.skip > 0 => {
                set.skip -= 1;
                None
            }
            Some(set) if set.step.method() == method => trap.take(),
            _ => None,
        }
    }
}

/// What both directions of one connection share.
#[derive(Default)]
struct Line {
    /// It works in transactions: the intake, not the replies.
    transactional: AtomicBool,
    /// The trap has sprung here.
    held: watch::Sender<bool>,
}

impl Line {
    async fn wait_while_held(&self) {
        // Fails only without a sender, and that is here.
        let _ = self.held.subscribe().wait_for(|held| !*held).await;
    }
}
