//! The HTTP server: two pages, and nothing that a client could do to the daemon.
//!
//! By hyper, which the ecosystem stands on and which runs on the runtime that is there already. One
//! request a connection; connections, headers and time are bounded, so a client that is slow, or one of
//! many, takes up a place for some seconds and nothing else.

use std::convert::Infallible;
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

/// How many bytes a request's head may have, hyper's least.
const HEAD_BYTES: usize = 8192;

/// How many headers.
const HEADERS: usize = 64;

/// After an accept that failed, mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(500);

const PLAIN: &str = "text/plain; charset=utf-8";

/// Listens on `address`; returns the one that came of it.
///
/// # Errors
///
/// The system's: the name is not known, the address is not here or in use.
pub async fn bind(address: &Listen) -> io::Result<TcpListener> {
    let listener = TcpListener::bind((address.host.as_str(), address.port)).await?;
    info!(address = %listener.local_addr()?, "serving metrics");
    Ok(listener)
}

/// Serves `/metrics` and `/healthz` until `stop`.
pub async fn serve(listener: TcpListener, watched: Arc<Watched>, stop: CancellationToken) {
    // Dropped at the end with all that are open.
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
                connections.spawn(converse(socket, peer, Arc::clone(&watched)));
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection for metrics");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(socket: TcpStream, peer: SocketAddr, watched: Arc<Watched>) {
    let service = service_fn(|request| {
        let response = answer(&request, &watched);
        async { Ok::<_, Infallible>(response) }
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

fn answer(request: &Request<Incoming>, watched: &Watched) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let body = "only GET and HEAD\n".to_owned();
        let mut response = page(StatusCode::METHOD_NOT_ALLOWED, PLAIN, body);
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
        return response;
    }
    match request.uri().path() {
        "/metrics" => match text::text(watched) {
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

fn page(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
