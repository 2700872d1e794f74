//! Many requests over kept connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A kept connection.
pub(crate) struct Client {
    sender: SendRequest<Empty<Bytes>>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Client { sender }
    }

    /// Status and body.
    pub(crate) async fn get(&mut self, target: &str, user: &str) -> Result<(u16, Bytes), hyper::Error> {
        self.sender.ready().await?;
        let request = Request::builder().uri(target).header("host", "shop").header("x-user-id", user);
        let response = self.sender.send_request(request.body(Empty::new()).unwrap()).await?;
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}

/// A steady load in the background.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    /// `connections` clients, each asking for `target` as soon as it has been answered. `fits` says whether an answer is a good one.
    pub(crate) fn start(
        address: SocketAddr,
        target: &'static str,
        connections: usize,
        fits: fn(u16, &[u8]) -> bool,
    ) -> Load {
        let (stop, done, failed) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let tasks = (0..connections).map(|number| {
            let (stop, done, failed) = (Arc::clone(&stop), Arc::clone(&done), Arc::clone(&failed));
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                let user = format!("user-{number}");
                while !stop.load(Ordering::Relaxed) {
                    match client.get(target, &user).await {
                        Ok((status, body)) if fits(status, &body) => drop(done.fetch_add(1, Ordering::Relaxed)),
                        answer => {
                            eprintln!("a request failed: {answer:?}");
                            failed.fetch_add(1, Ordering::Relaxed);
                            client = Client::connect(address).await;
                        }
                    }
                    // Room for the proxy on a small machine.
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            })
        });
        let tasks = tasks.collect();
        Load { stop, done, failed, tasks }
    }

    /// Good requests so far.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Ends it; answers good and failed requests.
    pub(crate) async fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        (self.done.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}
