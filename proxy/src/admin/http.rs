//! HTTP/1.1 on one socket, within limits that keep whoever connects from taking more than a little.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::site::Site;

/// Accepts connections until `end`, and gives those that are open a moment to get their answer.
pub(super) async fn serve(listener: TcpListener, site: Arc<Site>, end: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        // Whoever finds no place waits in the kernel's queue.
        let next = async { (Arc::clone(&places).acquire_owned().await, listener.accept().await) };
        let (place, accepted) = tokio::select! {
            () = end.cancelled() => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (site, end) = (Arc::clone(&site), end.clone());
                connections.spawn(async move {
                    converse(stream, peer.ip(), site, end).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection over HTTP; trying again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

/// One connection, to its end.
async fn converse(stream: TcpStream, from: IpAddr, site: Arc<Site>, end: CancellationToken) {
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(site.answer(&request, from).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_LIMIT)
            .max_buf_size(MAX_HEADER_LEN)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                debug!(%error, "a connection over HTTP failed");
            }
            return;
        }
        () = end.cancelled() => {}
        () = sleep(LONGEST) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(LAST_ANSWER, connection).await;
}

/// Connections at a time, to each socket.
const MAX_CONNECTIONS: usize = 64;
/// Bytes of a request's head: the least that hyper takes, and more than a browser sends.
const MAX_HEADER_LEN: usize = 8 * 1024;
const MAX_HEADERS: usize = 64;
/// From the last answer to the end of the next request's head.
const HEADER_LIMIT: Duration = Duration::from_secs(10);
/// A connection that lasts this long gets one more answer and is closed, so that a client that does not read its answers
/// does not keep its place. Browsers and Prometheus connect again.
const LONGEST: Duration = Duration::from_secs(60);
const LAST_ANSWER: Duration = Duration::from_secs(1);
/// How long accepting stops when it fails, for want of file descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
