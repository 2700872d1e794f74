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
        let mut threads = Vec::with_capacity(cores);
        for (core, rounds) in deal(bound, cores)?.into_iter().enumerate() {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().on_thread_park(cork::write_all).build()?;
            let (worker, stop, hurry) = (worker.clone(), stop.clone(), hurry.clone());
            let thread = std::thread::Builder::new().name(format!("core-{core}"));
            threads.push(thread.spawn(move || {
                cork::serve_thread();
                runtime.block_on(async move {
                    let worker = Arc::new(worker());
                    let mut others = tokio::task::JoinSet::new();
                    let mut rounds = rounds.into_iter();
                    let first = rounds.next().unwrap_or_default();
                    for sockets in rounds {
                        others.spawn(run_core(Arc::clone(&worker), sockets, stop.clone(), drain, hurry.clone()));
                    }
                    run_core(worker, first, stop, drain, hurry).await;
                    others.join_all().await;
                });
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

/// The sockets of one core in rounds, each with one socket of an address at most.
type Rounds = Vec<Vec<(SocketAddr, TcpListener)>>;

/// Gives every socket to a core, and every core a socket of every listener.
///
/// There is one for each core where they were bound by this process. Those of another process are as many as that one had cores: no
/// socket may be left alone, for clients wait in its queue, and a core without one shares another core's.
fn deal(bound: Vec<Bound>, cores: usize) -> io::Result<Vec<Rounds>> {
    let mut dealt: Vec<Rounds> = (0..cores).map(|_| vec![Vec::new()]).collect();
    for Bound { address, sockets } in bound {
        let shared: Vec<TcpListener> = (sockets.len()..cores)
            .filter_map(|core| sockets.get(core % sockets.len().max(1)))
            .map(TcpListener::try_clone)
            .collect::<io::Result<_>>()?;
        for (place, socket) in sockets.into_iter().chain(shared).enumerate() {
            let Some(rounds) = dealt.get_mut(place % cores.max(1)) else { continue };
            let round = place / cores.max(1);
            if rounds.len() <= round {
                rounds.resize_with(round + 1, Vec::new);
            }
            if let Some(sockets) = rounds.get_mut(round) {
                sockets.push((address, socket));
            }
        }
    }
    Ok(dealt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_socket_is_left_alone_and_no_core_without_one() {
        for (sockets, cores) in [(1, 1), (2, 2), (1, 4), (2, 5), (4, 1), (5, 2), (3, 4)] {
            let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
            let sockets: Vec<TcpListener> = (0..sockets).map(|_| bind()).collect();
            let mut left: Vec<SocketAddr> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
            let bound =
                || Bound { address: left[0], sockets: sockets.iter().map(|it| it.try_clone().unwrap()).collect() };
            let dealt = deal(vec![bound(), bound()], cores).unwrap();
            assert_eq!(dealt.len(), cores);
            for rounds in &dealt {
                assert!(rounds.iter().all(|round| round.len() == 2), "two listeners");
                left.retain(|at| !rounds.iter().flatten().any(|(_, socket)| socket.local_addr().unwrap() == *at));
            }
            assert_eq!(left, [], "{} sockets, {cores} cores", sockets.len());
        }
    }
}
