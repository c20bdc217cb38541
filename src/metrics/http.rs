//! The HTTP server: two pages, with limits on what a client can use.
//!
//! Served by hyper, on the daemon's own runtime. One request a connection. Connections, headers and time are
//! limited, so slow or many clients take up places for some seconds and nothing else.

use std::convert::Infallible;
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::health::health;
use super::{Watched, text};
use crate::config::Listen;

/// Connections at once; one more is closed as soon as it is made.
const CONNECTIONS: usize = 16;

/// How long a request's head may take to come.
const HEAD: Duration = Duration::from_secs(2);

/// How long a connection may last in all.
const WHOLE: Duration = Duration::from_secs(10);

/// How long the page of metrics is served again: it is written no more often than this, however many ask.
const FRESH: Duration = Duration::from_secs(1);

/// How many bytes a request's head may have, hyper's least.
const HEAD_BYTES: usize = 8192;

/// How many headers.
const HEADERS: usize = 64;

/// The pause after an accept that failed, mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(500);

const PLAIN: &str = "text/plain; charset=utf-8";

/// Listens on `address`; returns the listener.
///
/// # Errors
///
/// The system's: the name is not known, or the address is not of this node or in use.
pub async fn bind(address: &Listen) -> io::Result<TcpListener> {
    let listener = TcpListener::bind((address.host.as_str(), address.port)).await?;
    info!(address = %listener.local_addr()?, "serving metrics");
    Ok(listener)
}

/// Serves `/metrics` and `/healthz` until `stop`.
pub async fn serve(listener: TcpListener, watched: Arc<Watched>, stop: CancellationToken) {
    let page = Arc::new(MetricsPage::default());
    // Dropped at the end, with all connections that are open.
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((_, peer)) if connections.len() >= CONNECTIONS => {
                warn!(%peer, "too many connections ask for metrics");
            }
            Ok((socket, peer)) => {
                connections.spawn(converse(
                    socket,
                    peer,
                    Arc::clone(&watched),
                    Arc::clone(&page),
                ));
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection for metrics");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(
    socket: TcpStream,
    peer: SocketAddr,
    watched: Arc<Watched>,
    metrics: Arc<MetricsPage>,
) {
    let (watched, metrics) = (&watched, &*metrics);
    let service = service_fn(async |request: Request<Incoming>| {
        Ok::<_, Infallible>(answer(&request, watched, metrics).await)
    });
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(socket), service);
    match tokio::time::timeout(WHOLE, conversation).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%peer, %error, "a request for metrics failed"),
        Err(_) => debug!(%peer, "a request for metrics took too long"),
    }
}

/// The page of metrics as it was last written.
#[derive(Default)]
struct MetricsPage {
    /// Locked while the page is written, so that all who ask meanwhile get the same one.
    last: tokio::sync::Mutex<Option<(Instant, Bytes)>>,
}

impl MetricsPage {
    /// The page if it was written less than [`FRESH`] ago; otherwise `write` makes a new one on another thread.
    async fn get<E>(
        &self,
        write: impl FnOnce() -> Result<String, E> + Send + 'static,
    ) -> Result<Bytes, String>
    where
        E: Display + Send + 'static,
    {
        let mut last = self.last.lock().await;
        if let Some((begun, page)) = &*last
            && begun.elapsed() < FRESH
        {
            return Ok(page.clone());
        }
        let begun = Instant::now();
        let written = tokio::task::spawn_blocking(write).await;
        let text = written.map_err(|broken| broken.to_string())?;
        let page = Bytes::from(text.map_err(|error| error.to_string())?);
        *last = Some((begun, page.clone()));
        Ok(page)
    }
}

async fn answer(
    request: &Request<Incoming>,
    watched: &Arc<Watched>,
    metrics: &MetricsPage,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let body = "only GET and HEAD\n".to_owned();
        let mut response = page(StatusCode::METHOD_NOT_ALLOWED, PLAIN, body);
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
        return response;
    }
    match request.uri().path() {
        "/metrics" => match metrics.get(writer(watched)).await {
            Ok(text) => page(StatusCode::OK, text::CONTENT_TYPE, text),
            Err(error) => {
                error!(%error, "cannot write the metrics");
                let body = format!("{error}\n");
                page(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, body)
            }
        },
        "/healthz" => match health(watched) {
            Ok(words) => page(StatusCode::OK, PLAIN, words + "\n"),
            Err(words) => page(StatusCode::SERVICE_UNAVAILABLE, PLAIN, words + "\n"),
        },
        _ => {
            let body = "there are /metrics and /healthz\n".to_owned();
            page(StatusCode::NOT_FOUND, PLAIN, body)
        }
    }
}

fn writer(watched: &Arc<Watched>) -> impl FnOnce() -> Result<String, prometheus::Error> + use<> {
    let watched = Arc::clone(watched);
    move || text::text(&watched)
}

fn page(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_page_is_written_on_another_thread_and_once_a_second_at_most() {
        let page = MetricsPage::default();
        let written = Arc::new(AtomicUsize::new(0));
        let here = thread::current().id();
        let get = || {
            let written = Arc::clone(&written);
            page.get(move || {
                assert_ne!(thread::current().id(), here);
                let number = written.fetch_add(1, Ordering::Relaxed);
                Ok::<_, Infallible>(number.to_string())
            })
        };
        for pages in join_all((0..50).map(|_| get())).await {
            assert_eq!(pages.unwrap(), "0");
        }
        tokio::time::advance(FRESH - Duration::from_millis(1)).await;
        assert_eq!(get().await.unwrap(), "0");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(get().await.unwrap(), "1");
    }

    #[tokio::test]
    async fn what_could_not_be_written_is_tried_again() {
        let page = MetricsPage::default();
        let failed = page.get(|| Err::<String, _>("torn")).await;
        assert_eq!(failed, Err("torn".to_owned()));
        let broken = page.get(|| -> Result<String, String> { panic!("torn") });
        assert!(broken.await.is_err());
        let good = page.get(|| Ok::<_, String>("good".to_owned())).await;
        assert_eq!(good.unwrap(), "good");
    }
}
