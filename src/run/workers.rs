//! One thread and one runtime per core: a request lives and dies on the core that accepted it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::proxy::Worker;
use crate::proxy::listen::{Bound, run_core};
use crate::upstream::cork;

/// The threads of the data plane.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts one thread per core; `worker` makes each core's part inside its runtime.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be made.
    pub fn start(
        cores: usize,
        bound: Vec<Bound>,
        worker: impl Fn() -> Worker + Clone + Send + 'static,
        stop: &watch::Receiver<bool>,
        hurry: &watch::Receiver<bool>,
        drain: Duration,
    ) -> io::Result<Workers> {
        let mut by_core: Vec<Vec<(SocketAddr, TcpListener)>> = (0..cores).map(|_| Vec::new()).collect();
        for Bound { address, sockets } in bound {
            for (core, socket) in by_core.iter_mut().zip(sockets) {
                core.push((address, socket));
            }
        }
        let mut threads = Vec::with_capacity(cores);
        for (core, sockets) in by_core.into_iter().enumerate() {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().on_thread_park(cork::write_all).build()?;
            let (worker, stop, hurry) = (worker.clone(), stop.clone(), hurry.clone());
            let thread = std::thread::Builder::new().name(format!("core-{core}"));
            threads.push(thread.spawn(move || {
                cork::serve_thread();
                runtime.block_on(async move { run_core(Arc::new(worker()), sockets, stop, drain, hurry).await });
                cork::write_all();
                // A name that is still being looked up must not hold the end up.
                runtime.shutdown_background();
            })?);
        }
        Ok(Workers { threads })
    }

    /// Waits until every core has drained.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a core's thread panicked");
            }
        }
    }
}
