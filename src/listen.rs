//! Accepts connections and answers on them, within bounds.
//!
//! `axum::serve` has no bounds: whoever opens connections and says nothing, or says it letter by letter, holds a descriptor
//! and memory of ours for as long as they please. Here the head of a request must be there in time, which also ends
//! connections that are kept alive and idle, and beyond so many connections the next wait in the system's queue. How a body
//! may come is seen to where bodies are read.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long the head of a request may take from the moment we could read it.
const HEAD: Duration = Duration::from_secs(30);
/// How long to wait when the system has no descriptor for a connection.
const SHORTAGE: Duration = Duration::from_secs(1);

/// How many and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Connections at once.
    pub(crate) connections: usize,
    /// How long the head of a request may take.
    pub(crate) head: Duration,
    /// How long those who are being answered may take once we are to stop.
    pub(crate) end: Duration,
}

impl Bounds {
    /// With the usual time for a head.
    pub(crate) fn new(connections: usize, end: Duration) -> Self {
        Self { connections, head: HEAD, end }
    }
}

/// Answers until `stop`, and then those who are being answered, for as long as the bounds say.
pub(crate) async fn serve(listener: TcpListener, routes: Router, bounds: Bounds, stop: CancellationToken) {
    let answering = answering(bounds.head);
    // Once for all: a router without its state would be made whole for every request.
    let service = TowerToHyperService::new(routes.with_state(()));
    let (places, ending) = (Places::new(bounds.connections), GracefulShutdown::new());
    let mut connections = JoinSet::new();
    loop {
        let (connection, place) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let answered = ending.watch(answering.serve_connection(TokioIo::new(connection), service.clone()));
        connections.spawn(async move {
            if let Err(error) = answered.await {
                tracing::debug!(%error, "a connection broke off");
            }
            drop(place);
        });
        // Those that have ended are kept no longer than until the next comes.
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    if tokio::time::timeout(bounds.end, ending.shutdown()).await.is_err() {
        tracing::warn!("some requests were cut off");
    }
    connections.abort_all();
}

fn answering(head: Duration) -> http1::Builder {
    let mut answering = http1::Builder::new();
    answering.timer(TokioTimer::new()).header_read_timeout(head).keep_alive(true);
    answering
}

/// Room for connections.
struct Places {
    free: Arc<Semaphore>,
    all: usize,
}

impl Places {
    fn new(all: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(all)), all }
    }

    async fn take(&self) -> OwnedSemaphorePermit {
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return place;
        }
        tracing::warn!(connections = self.all, "no more connections are taken until one ends; see max_connections");
        Arc::clone(&self.free).acquire_owned().await.expect("the semaphore is never closed")
    }
}

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, places: &Places) -> (TcpStream, OwnedSemaphorePermit) {
    let place = places.take().await;
    loop {
        match listener.accept().await {
            Ok((connection, _)) => {
                if let Err(error) = connection.set_nodelay(true) {
                    tracing::debug!(%error, "a connection keeps its delay");
                }
                return (connection, place);
            }
            Err(error) if is_of_the_connection(&error) => tracing::debug!(%error, "a connection was gone at once"),
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted");
                tokio::time::sleep(SHORTAGE).await;
            }
        }
    }
}

fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    struct Served {
        address: SocketAddr,
        stop: CancellationToken,
        serving: JoinHandle<()>,
    }

    async fn served(routes: Router, bounds: Bounds) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let serving = tokio::spawn(serve(listener, routes, bounds, stop.clone()));
        Served { address, stop, serving }
    }

    fn counting(count: &Arc<AtomicUsize>) -> Router {
        let count = Arc::clone(count);
        Router::new().route("/", get(async move || (count.fetch_add(1, Ordering::SeqCst) + 1).to_string()))
    }

    async fn answer(connection: &mut TcpStream) -> String {
        let mut read = [0; 1024];
        let length = timeout(PATIENCE, connection.read(&mut read)).await.unwrap().unwrap();
        String::from_utf8_lossy(&read[..length]).into_owned()
    }

    #[tokio::test]
    async fn whoever_never_ends_a_head_is_hung_up_on() {
        let bounds = Bounds { head: Duration::from_millis(50), ..Bounds::new(10, PATIENCE) };
        let served = served(Router::new(), bounds).await;
        for said in ["", "GET / HTTP/1.1\r\nx: "] {
            let mut connection = TcpStream::connect(served.address).await.unwrap();
            connection.write_all(said.as_bytes()).await.unwrap();
            let mut told = Vec::new();
            timeout(PATIENCE, connection.read_to_end(&mut told)).await.unwrap().ok();
            assert!(!told.starts_with(b"HTTP/1.1 2"), "{said:?}");
        }
    }

    #[tokio::test]
    async fn beyond_the_most_connections_the_next_waits_for_a_place() {
        let count = Arc::default();
        let served = served(counting(&count), Bounds::new(1, PATIENCE)).await;
        let mut first = TcpStream::connect(served.address).await.unwrap();
        first.write_all(GET).await.unwrap();
        assert!(answer(&mut first).await.ends_with("\r\n1"));
        let mut second = TcpStream::connect(served.address).await.unwrap();
        second.write_all(GET).await.unwrap();

        first.write_all(GET).await.unwrap();
        assert!(answer(&mut first).await.ends_with("\r\n2"), "the connection is kept, and the second has to wait");
        drop(first);
        assert!(answer(&mut second).await.ends_with("\r\n3"));
    }

    #[tokio::test]
    async fn whoever_is_being_answered_gets_the_answer_before_the_end() {
        let (asked, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (asking, going) = (Arc::clone(&asked), Arc::clone(&go));
        let routes = Router::new().route(
            "/",
            get(async move || {
                asking.notify_one();
                going.notified().await;
                "late"
            }),
        );
        let served = served(routes, Bounds::new(10, PATIENCE)).await;
        let mut idle = TcpStream::connect(served.address).await.unwrap();
        let mut connection = TcpStream::connect(served.address).await.unwrap();
        connection.write_all(GET).await.unwrap();
        asked.notified().await;

        served.stop.cancel();
        assert_eq!(answer(&mut idle).await, "", "an idle connection ends at once");
        go.notify_one();

        assert!(answer(&mut connection).await.ends_with("late"));
        timeout(PATIENCE, served.serving).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn whoever_takes_too_long_at_the_end_is_cut_off() {
        let asked = Arc::new(Notify::new());
        let asking = Arc::clone(&asked);
        let routes = Router::new().route(
            "/",
            get(async move || {
                asking.notify_one();
                std::future::pending::<()>().await;
            }),
        );
        let served = served(routes, Bounds::new(10, Duration::ZERO)).await;
        let mut connection = TcpStream::connect(served.address).await.unwrap();
        connection.write_all(GET).await.unwrap();
        asked.notified().await;

        served.stop.cancel();

        assert_eq!(answer(&mut connection).await, "");
        timeout(PATIENCE, served.serving).await.unwrap().unwrap();
    }
}
