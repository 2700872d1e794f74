//! What the writer is asked.

use strangler_core::audit::Verifier;
use strangler_core::coverage::Row;
use strangler_core::discovery::SavedEndpoint;
use strangler_core::ledger::Saved;
use strangler_core::name::RouteName;
use strangler_core::noise::ledger::SavedRoute;
use strangler_core::redact::accept::AcceptedKey;
use tokio::sync::oneshot;

use crate::store::{AuditEntry, Change, Keep, Listing, StoreError, StoredCause, StoredDivergence, StoredLedger};

pub(in crate::store) enum Command {
    Save {
        changes: Vec<Change>,
        audit: Vec<AuditEntry>,
        or_forget: bool,
        reply: Option<oneshot::Sender<Result<(), StoreError>>>,
    },
    Causes {
        listing: Listing,
        reply: oneshot::Sender<Result<Vec<StoredCause>, StoreError>>,
    },
    Divergence {
        id: String,
        reply: oneshot::Sender<Result<Option<StoredDivergence>, StoreError>>,
    },
    Cause {
        key: AcceptedKey,
        reply: oneshot::Sender<Result<Option<StoredCause>, StoreError>>,
    },
    Divergences {
        listing: Listing,
        reply: oneshot::Sender<Result<Vec<StoredDivergence>, StoreError>>,
    },
    Audit {
        listing: Listing,
        reply: oneshot::Sender<Result<Vec<AuditEntry>, StoreError>>,
    },
    AddCoverage {
        rows: Vec<Row>,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    Coverage {
        reply: oneshot::Sender<Result<Vec<Row>, StoreError>>,
    },
    FollowAudit {
        verifier: Verifier,
        after: u64,
        reply: oneshot::Sender<Result<(Verifier, u64, bool), StoreError>>,
    },
    SaveLedgers {
        ledgers: Vec<(RouteName, Saved)>,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    SaveVerdicts {
        routes: Vec<SavedRoute>,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    Verdicts {
        reply: oneshot::Sender<Result<Vec<SavedRoute>, StoreError>>,
    },
    SaveEndpoints {
        changed: Vec<SavedEndpoint>,
        gone: Vec<u64>,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    Endpoints {
        reply: oneshot::Sender<Result<Vec<SavedEndpoint>, StoreError>>,
    },
    Ledgers {
        reply: oneshot::Sender<Result<Vec<StoredLedger>, StoreError>>,
    },
    HandOver {
        reply: oneshot::Sender<()>,
    },
    Close {
        reply: oneshot::Sender<()>,
    },
}

pub(in crate::store) struct Record {
    pub(in crate::store) divergence: StoredDivergence,
    pub(in crate::store) keep: Keep,
}
