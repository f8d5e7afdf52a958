//! The HTTP server itself: how many connections, for how long.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Extension;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Admin, history, recorded::Operator, router};

/// Connections at once; more wait in the kernel.
const CONNECTIONS: usize = 64;
/// For TLS, and for the head of a request.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// The whole life of a connection: a scraper comes back, a client that reads nothing is gone.
const CONNECTION_LIFE: Duration = Duration::from_mins(10);
/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The head of a request, headers and all.
const HEAD_BYTES: usize = 16 << 10;
/// What answers may take once the server has ended.
const FAREWELL: Duration = Duration::from_secs(2);

impl Admin {
    /// Serves until `stop`, then lets running answers end.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let admin = Arc::new(self);
        let router = router(&admin);
        let sampling = Arc::clone(&admin);
        let (places, tasks) = (Arc::new(Semaphore::new(CONNECTIONS)), TaskTracker::new());
        let end = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = end.cancelled() => {}
                () = sampling.sample() => {}
            }
        });
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&listener, &places) => accepted,
            };
            let Some((stream, peer, place)) = accepted else {
                continue;
            };
            let (admin, stop) = (Arc::clone(&admin), stop.clone());
            let router = router.clone().layer(Extension(Operator(peer)));
            // Ends with its client, its deadline or the server; the place goes with it.
            tasks.spawn(async move {
                match &admin.tls {
                    None => converse(stream, router, stop).await,
                    Some(tls) => match tls.accept_http(stream, HEAD_DEADLINE).await {
                        Ok(stream) => converse(stream, router, stop).await,
                        Err(error) => tracing::debug!(%error, "no admin connection"),
                    },
                }
                drop(place);
            });
        }
        tasks.close();
        let _ = timeout(FAREWELL, tasks.wait()).await;
    }
}

impl Admin {
    /// Keeps the history; never returns.
    async fn sample(&self) {
        let mut ticks = tokio::time::interval(history::PERIOD);
        loop {
            ticks.tick().await;
            let serving = self.serving();
            self.history.take(&serving.shared.registry, Instant::now());
        }
    }
}

/// A connection with its place among those that may be open at once.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, place)),
        Err(error) => {
            tracing::warn!(%error, "accept on the admin address failed");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: axum::Router,
    stop: CancellationToken,
) {
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_BYTES);
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let work = async {
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    if let Ok(Err(error)) = timeout(CONNECTION_LIFE, work).await {
        tracing::debug!(%error, "admin connection ended");
    }
}
