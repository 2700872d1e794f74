//! What binds hooks and queries to the rest: where they are sent from, and what they may not reach.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::hooks::Hooks;
use crate::hooks::queries::{Queries, Server};
use crate::live::Publish;
use crate::telemetry::metrics::Metrics;

/// How long the last messages may take at the end of the process.
const LAST_WORDS_MAX: Duration = Duration::from_secs(2);

/// Whom rollouts ask and tell.
#[derive(Clone, Debug)]
pub(super) struct Outside {
    pub(super) hooks: Hooks,
    pub(super) queries: Queries,
}

impl Outside {
    /// On the control plane's runtime: a handshake or a look-up there keeps no core of the data plane.
    pub(super) fn start(
        control: &Runtime,
        live: Arc<dyn Publish>,
        metrics: &Arc<Metrics>,
        server: Server,
        admin: SocketAddr,
        begun: Instant,
    ) -> Outside {
        let own = vec![admin];
        let queries = Queries::default();
        control.spawn(queries.clone().run(live, server, own.clone(), begun));
        Outside { hooks: Hooks::new(control.handle().clone(), Arc::clone(metrics), own), queries }
    }

    /// Lets what waits be told, for a moment.
    pub(super) async fn end(&self) {
        self.hooks.flush(LAST_WORDS_MAX).await;
    }
}
