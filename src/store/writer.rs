//! The one task that writes. It remembers what should be on record, so that a file that comes back, or a new one, is made right.

mod command;
mod server;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use strangler_core::chain::chain;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::store::database::{Database, DatabaseError, State};
use crate::store::merge::Known;
use crate::store::sqlite::{Opened, move_aside};
pub(super) use crate::store::writer::command::{Command, Record};
pub(super) use crate::store::writer::server::{Arrived, FIRST_MAX, Server, attempt};
use crate::store::{
    AuditEntry, Change, Counters, Keep, StoreError, StoreHealth, StoreLimits, StoredDivergence, StoredPin, now_unix_ms,
};

/// Audit entries that wait for a file that failed; older ones go first.
const PENDING_AUDIT_MAX: usize = 10_000;
/// Divergences written in one transaction.
const BATCH_MAX: usize = 256;
/// Pins written in one transaction.
const PIN_BATCH_MAX: usize = 1_024;
/// Routes whose bytes are known by heart.
const ROUTES_MAX: usize = 20_000;
/// Bytes of divergences kept where there is no file.
const MEMORY_BYTES_MAX: u64 = 64 << 20;

/// Answers a question, or says that there is nobody to answer it.
macro_rules! read {
    ($writer:ident, $reply:expr, |$database:ident| $question:expr) => {{
        let found = match $writer.database.as_mut() {
            Some($database) => $question.await.map_err(|error| StoreError::from(&error)),
            None => Err($writer.unhealthy()),
        };
        let _ = $reply.send(found);
    }};
}

/// Asks the file only: what lies in memory is not what was stored before.
macro_rules! read_back {
    ($writer:ident, $reply:expr, |$database:ident| $question:expr) => {{
        let is_file = $writer.is_file;
        let found = match $writer.database.as_mut().filter(|_| is_file) {
            Some($database) => $question.await.map_err(|error| StoreError::from(&error)),
            None => Err($writer.unhealthy()),
        };
        let _ = $reply.send(found);
    }};
}

/// Writes what somebody has counted. What cannot be written stays with them.
macro_rules! keep {
    ($writer:ident, $reply:expr, |$database:ident| $question:expr) => {{
        let is_sound = $writer.is_file && $writer.health.borrow().healthy;
        let kept = match $writer.database.as_mut().filter(|_| is_sound) {
            Some($database) => $question.await,
            None => {
                let _ = $reply.send(Err($writer.unhealthy()));
                return;
            }
        };
        let answer = kept.map_err(|error| {
            $writer.fail(&error);
            $writer.unhealthy()
        });
        let _ = $reply.send(answer);
    }};
}

pub(super) struct Writer {
    database: Option<Database>,
    /// Whether it works on the file, to which it returns when that fails; else in memory.
    is_file: bool,
    /// Whether all that the file holds is known here.
    is_known: bool,
    /// Whether another process owns weights and kills: what this one knows of them must not go over what that one writes.
    is_handed: bool,
    path: PathBuf,
    limits: StoreLimits,
    health: watch::Sender<StoreHealth>,
    counters: Arc<Counters>,
    /// Where the store is a server: what it takes to get back to it.
    server: Option<Server>,
    /// It has answered during the start.
    arrived: Option<Arrived>,
    /// What should be on record.
    known: Known,
    /// What could not be written yet.
    pending_audit: VecDeque<AuditEntry>,
    /// Upper bound of the bytes of stored divergences; made exact by a sweep.
    divergence_bytes: u64,
    /// The same of single routes, and what each may have.
    route_bytes: BTreeMap<String, u64>,
}

impl Writer {
    pub(super) fn new(
        opened: Opened,
        path: PathBuf,
        limits: StoreLimits,
        health: watch::Sender<StoreHealth>,
        counters: Arc<Counters>,
    ) -> Writer {
        let mut pending_audit = VecDeque::new();
        if let Some(lost) = &opened.lost {
            pending_audit.push_back(AuditEntry {
                at_unix_ms: now_unix_ms(),
                who: "strangler".to_owned(),
                what: "state_lost".to_owned(),
                reason: lost.clone(),
                accepted: true,
                ..AuditEntry::default()
            });
        }
        Writer {
            is_file: opened.database.as_ref().is_some_and(Database::is_lasting),
            is_known: opened.is_known,
            is_handed: false,
            database: opened.database,
            path,
            limits,
            health,
            counters,
            server: None,
            arrived: None,
            known: opened.state.into(),
            pending_audit,
            divergence_bytes: 0,
            route_bytes: BTreeMap::new(),
        }
    }

    /// On a server, which has answered or not yet. `known` is in force.
    pub(super) fn on_server(
        server: Server,
        known: Known,
        arrived: Option<Arrived>,
        limits: StoreLimits,
        health: watch::Sender<StoreHealth>,
        counters: Arc<Counters>,
    ) -> Writer {
        let path = server.url_file.clone();
        let opened = Opened::new(None, None, true, State::default());
        let writer = Writer::new(opened, path, limits, health, counters);
        Writer { is_file: true, server: Some(server), known, arrived, ..writer }
    }

    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut records: mpsc::Receiver<Record>,
        mut pins: mpsc::Receiver<StoredPin>,
    ) {
        self.begin().await;
        let every = |period| {
            let mut ticks = interval_at(Instant::now() + period, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let (mut probe, mut sweep) = (every(self.limits.probe_every), every(self.limits.sweep_every));
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut pin_batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(Command::Close { reply }) => {
                        self.drain(&mut commands, &mut records, &mut pins).await;
                        self.close().await;
                        let _ = reply.send(());
                        return;
                    }
                    Some(command) => self.obey(command).await,
                    None => {
                        self.drain(&mut commands, &mut records, &mut pins).await;
                        return self.close().await;
                    }
                },
                count = pins.recv_many(&mut pin_batch, PIN_BATCH_MAX), if !pins.is_closed() || !pins.is_empty() => {
                    if count > 0 {
                        self.write_pins(&mut pin_batch).await;
                    }
                }
                arrived = server::arrival(&mut self.server) => self.arrive(arrived).await,
                _ = probe.tick() => self.probe().await,
                _ = sweep.tick() => self.sweep().await,
                count = records.recv_many(&mut batch, BATCH_MAX), if !records.is_closed() || !records.is_empty() => {
                    if count > 0 {
                        self.write(&mut batch).await;
                    }
                }
            }
        }
    }

    /// A memory that was read from a file that cannot be written; a new file after a corrupt one; old rows of a file.
    async fn begin(&mut self) {
        if let Some(arrived) = self.arrived.take() {
            return self.arrive(Ok(arrived)).await;
        }
        if self.server.is_some() {
            return;
        }
        let (changes, audit) = (self.known.all(), Vec::from(std::mem::take(&mut self.pending_audit)));
        if let Some(database) = self.database.as_mut() {
            let is_needed = !self.is_file || !audit.is_empty();
            let saved = if is_needed { database.save_all(&changes, &audit).await } else { Ok(()) };
            if let Err(error) = &saved {
                self.fail(error);
            }
            if saved.is_err() || !self.is_file {
                self.remember(audit);
            }
        }
        self.sweep().await;
    }

    async fn drain(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        records: &mut mpsc::Receiver<Record>,
        pins: &mut mpsc::Receiver<StoredPin>,
    ) {
        commands.close();
        records.close();
        pins.close();
        let mut pin_batch = Vec::new();
        while pins.recv_many(&mut pin_batch, PIN_BATCH_MAX).await > 0 {
            self.write_pins(&mut pin_batch).await;
        }
        while let Some(command) = commands.recv().await {
            self.obey(command).await;
        }
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while records.recv_many(&mut batch, BATCH_MAX).await > 0 {
            self.write(&mut batch).await;
        }
    }

    async fn close(&mut self) {
        if let Some(server) = self.server.take() {
            server.close().await;
        }
        if let Some(database) = self.database.take() {
            database.close().await;
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Save { changes, audit, or_forget: false, reply } => {
                let saved = self.save(changes, audit).await;
                if let Some(reply) = reply {
                    let _ = reply.send(saved);
                }
            }
            Command::Save { changes, audit, or_forget: true, reply } => {
                let saved = self.save_or_forget(changes, audit).await;
                if let Some(reply) = reply {
                    let _ = reply.send(saved);
                }
            }
            Command::Divergence { id, reply } => read!(self, reply, |database| database.divergence(&id)),
            Command::Cause { key, reply } => read!(self, reply, |database| database.cause(&key)),
            Command::Divergences { listing, reply } => read!(self, reply, |database| database.divergences(&listing)),
            Command::Causes { listing, reply } => read!(self, reply, |database| database.causes(&listing)),
            Command::Audit { listing, reply } => read!(self, reply, |database| database.audit(&listing)),
            Command::AddCoverage { rows, reply } => keep!(self, reply, |database| database.add_coverage(&rows)),
            Command::Coverage { reply } => read_back!(self, reply, |database| database.coverage()),
            Command::FollowAudit { mut verifier, after, reply } => {
                let unhealthy = self.unhealthy();
                let found = match self.database.as_mut() {
                    Some(database) => match database.follow_audit(&mut verifier, after).await {
                        Ok((last, is_more)) => Ok((verifier, last, is_more)),
                        Err(error) => Err(StoreError::from(&error)),
                    },
                    None => Err(unhealthy),
                };
                let _ = reply.send(found);
            }
            // From a hand-over on, these are another process's.
            Command::SaveLedgers { reply, .. } if self.is_handed => drop(reply.send(Err(self.unhealthy()))),
            Command::SaveVerdicts { reply, .. } | Command::SaveEndpoints { reply, .. } if self.is_handed => {
                drop(reply.send(Err(self.unhealthy())));
            }
            Command::SaveLedgers { ledgers, reply } => keep!(self, reply, |database| database.save_ledgers(&ledgers)),
            Command::Ledgers { reply } => read_back!(self, reply, |database| database.ledgers()),
            Command::SaveVerdicts { routes, reply } => keep!(self, reply, |database| database.save_verdicts(&routes)),
            Command::SaveEndpoints { changed, gone, reply } => {
                keep!(self, reply, |database| database.save_endpoints(&changed, &gone));
            }
            Command::Endpoints { reply } => read_back!(self, reply, |database| database.endpoints()),
            Command::Verdicts { reply } => read_back!(self, reply, |database| database.verdicts()),
            Command::HandOver { reply } => {
                self.is_handed = true;
                let _ = reply.send(());
            }
            Command::Close { reply } => drop(reply),
        }
    }

    /// What cannot be written is not remembered either: it will not be in force.
    async fn save_or_forget(&mut self, changes: Vec<Change>, audit: Vec<AuditEntry>) -> Result<(), StoreError> {
        let changes = self.own(changes);
        let is_sound = self.is_file && self.health.borrow().healthy;
        let Some(database) = self.database.as_mut().filter(|_| is_sound) else {
            return Err(self.unhealthy());
        };
        if let Err(error) = database.save(&changes, &audit).await {
            self.fail(&error);
            return Err(self.unhealthy());
        }
        self.note(&changes);
        self.keep_local(&changes).await;
        Ok(())
    }

    /// None, once another process writes them.
    fn own(&self, changes: Vec<Change>) -> Vec<Change> {
        if self.is_handed { Vec::new() } else { changes }
    }

    fn note(&mut self, changes: &[Change]) {
        changes.iter().cloned().for_each(|change| self.known.note(change));
    }

    /// What cannot be written is remembered: it is in force, and is written once the file is sound.
    async fn save(&mut self, changes: Vec<Change>, audit: Vec<AuditEntry>) -> Result<(), StoreError> {
        let changes = self.own(changes);
        self.note(&changes);
        self.keep_local_first(&changes).await;
        let is_healthy = self.health.borrow().healthy;
        let is_file = self.is_file;
        let result = match self.database.as_mut() {
            // A file that failed is tried again by the probe, not by everyone who asks: each try may take seconds.
            Some(database) if is_healthy || !is_file => database.save(&changes, &audit).await,
            _ => {
                self.counters.changes_unsaved.fetch_add(changes.len() as u64, Ordering::Relaxed);
                self.remember(audit);
                return Err(self.not_written());
            }
        };
        if let Err(error) = result {
            self.counters.changes_unsaved.fetch_add(changes.len() as u64, Ordering::Relaxed);
            self.remember(audit);
            self.fail(&error);
            return Err(self.not_written());
        }
        if is_file {
            self.acknowledged(&changes).await;
            return Ok(());
        }
        self.counters.changes_unsaved.fetch_add(changes.len() as u64, Ordering::Relaxed);
        self.remember(audit);
        Err(self.not_written())
    }

    async fn write(&mut self, batch: &mut Vec<Record>) {
        let records: Vec<(StoredDivergence, Keep)> = batch.drain(..).map(|one| (one.divergence, one.keep)).collect();
        let bytes: usize = records.iter().map(|(one, _)| one.json.len()).sum();
        self.counters.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let is_healthy = self.health.borrow().healthy;
        let result = match self.database.as_mut() {
            Some(database) if is_healthy || !self.is_file => database.save_divergences(&records).await,
            _ => {
                self.counters.divergences_dropped.fetch_add(records.len() as u64, Ordering::Relaxed);
                return;
            }
        };
        if let Err(error) = result {
            self.counters.divergences_dropped.fetch_add(records.len() as u64, Ordering::Relaxed);
            self.fail(&error);
            return;
        }
        self.divergence_bytes = self.divergence_bytes.saturating_add(bytes as u64);
        self.bound_routes(&records).await;
        if self.divergence_bytes > self.divergence_bytes_max() {
            self.sweep().await;
        }
    }

    /// Takes out the oldest of routes that have more than they may. How much a route has is asked when it comes up first.
    async fn bound_routes(&mut self, records: &[(StoredDivergence, Keep)]) {
        if self.route_bytes.len() > ROUTES_MAX {
            self.route_bytes.clear();
        }
        let mut most: BTreeMap<&str, u64> = BTreeMap::new();
        for (one, keep) in records {
            most.insert(&one.route, keep.route_bytes_max);
            if let Some(bytes) = self.route_bytes.get_mut(&one.route) {
                *bytes = bytes.saturating_add(one.json.len() as u64);
            }
        }
        for (route, most) in most {
            if self.route_bytes.get(route).is_some_and(|bytes| *bytes <= most) {
                continue;
            }
            let Some(database) = self.database.as_mut() else { return };
            // Below the bound by a tenth, or every batch at the bound would sweep.
            match database.sweep_route(route, most, most - most / 10).await {
                Ok(bytes) => drop(self.route_bytes.insert(route.to_owned(), bytes)),
                Err(error) => return self.fail(&error),
            }
        }
    }

    /// What cannot be written is in force all the same, until the process ends.
    async fn write_pins(&mut self, batch: &mut Vec<StoredPin>) {
        let is_healthy = self.health.borrow().healthy;
        let result = match self.database.as_mut() {
            Some(database) if is_healthy => database.save_pins(batch).await,
            _ => {
                self.count_unsaved(batch.len());
                Ok(())
            }
        };
        if let Err(error) = result {
            self.count_unsaved(batch.len());
            self.fail(&error);
        }
        batch.clear();
    }

    fn count_unsaved(&self, pins: usize) {
        self.counters.pins_unsaved.fetch_add(pins as u64, Ordering::Relaxed);
    }

    fn divergence_bytes_max(&self) -> u64 {
        if self.is_file {
            self.limits.divergence_bytes_max
        } else {
            self.limits.divergence_bytes_max.min(MEMORY_BYTES_MAX)
        }
    }

    async fn sweep(&mut self) {
        let is_healthy = self.health.borrow().healthy;
        let bytes_max = self.divergence_bytes_max();
        // Below the bound by a tenth, or every batch at the bound would sweep.
        let bytes_kept = if self.divergence_bytes > bytes_max { bytes_max - bytes_max / 10 } else { bytes_max };
        let Some(database) = self.database.as_mut().filter(|_| is_healthy || !self.is_file) else {
            return;
        };
        if self.server.is_some() {
            // Others write there, too.
            self.route_bytes.clear();
        }
        match database.sweep(self.limits.divergences_per_route_max, bytes_kept, self.limits.audit_rows_max).await {
            Ok(bytes) => {
                self.divergence_bytes = bytes;
                let mut swept = database.sweep_pins(self.limits.pins_max).await;
                if swept.is_ok() {
                    swept = database.sweep_coverage().await;
                }
                if let Err(error) = swept {
                    self.fail(&error);
                }
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Finds out whether the file is there and can be written, and brings it up to date when it can again.
    async fn probe(&mut self) {
        // A file that failed is mended by the process that owns it.
        if self.is_handed {
            return;
        }
        if self.server.is_some() {
            return self.probe_server().await;
        }
        if !self.is_file {
            return self.leave_memory().await;
        }
        let is_there = self.database.as_ref().is_some_and(|database| database.is_still_at(&self.path));
        if !is_there {
            self.set_health(Some(format!("{} was deleted or replaced", self.path.display())));
            return self.reopen().await;
        }
        if !self.health.borrow().healthy && self.recover().await.is_err_and(|error| error.is_corrupt()) {
            let _ = move_aside(&self.path);
            self.reopen().await;
        }
    }

    /// What began in memory moves into the file once that can be written; but never over a state that was not read at start.
    async fn leave_memory(&mut self) {
        if !self.is_known && self.path.exists() {
            return;
        }
        let state_dir = self.path.parent().map(Path::to_path_buf).unwrap_or_default();
        if let Ok(database) = Database::reopen(&state_dir, &self.path).await {
            // Divergences kept in memory end here; what was moved, and the audit, goes over.
            (self.is_file, self.is_known) = (true, true);
            if let Some(memory) = self.database.replace(database) {
                memory.close().await;
            }
            let _ = self.recover().await;
        }
    }

    async fn reopen(&mut self) {
        // Closed first: SQLite takes its log away by name when it closes, and must not take that of the new file.
        self.close().await;
        let state_dir = self.path.parent().map(Path::to_path_buf).unwrap_or_default();
        match Database::reopen(&state_dir, &self.path).await {
            Ok(database) => {
                self.database = Some(database);
                let _ = self.recover().await;
            }
            Err(error) => self.fail(&error),
        }
    }

    async fn recover(&mut self) -> Result<(), DatabaseError> {
        let changes = self.known.all();
        let audit = Vec::from(std::mem::take(&mut self.pending_audit));
        let Some(database) = self.database.as_mut() else {
            self.remember(audit);
            return Ok(());
        };
        let saved = database.save_all(&changes, &audit).await;
        match &saved {
            Ok(()) => self.set_health(None),
            Err(error) => {
                self.remember(audit);
                self.fail(error);
            }
        }
        saved
    }

    fn remember(&mut self, audit: Vec<AuditEntry>) {
        self.pending_audit.extend(audit);
        let excess = self.pending_audit.len().saturating_sub(PENDING_AUDIT_MAX);
        self.pending_audit.drain(..excess);
    }

    fn fail(&mut self, error: &DatabaseError) {
        if self.server.is_some() {
            // What a server has half answered is of no use, and the next one may be another.
            self.database = None;
        }
        self.set_health(Some(format!("{}: {}", self.path.display(), chain(&error))));
    }

    fn set_health(&self, why: Option<String>) {
        self.health.send_if_modified(|health| {
            let is_changed = health.healthy != why.is_none();
            match &why {
                Some(why) if is_changed => {
                    tracing::error!(why, "the store failed; changes are kept in memory until it is back");
                }
                None if is_changed => tracing::info!("the store is healthy again, and up to date"),
                _ => {}
            }
            let is_changed = is_changed || health.why != why;
            health.healthy = why.is_none();
            health.why = why;
            is_changed
        });
    }

    /// Of what is in force: it may be kept all the same.
    fn not_written(&self) -> StoreError {
        let is_kept = self.server.as_ref().is_some_and(|server| server.local.is_some());
        if is_kept { StoreError::Behind(self.why()) } else { self.unhealthy() }
    }

    fn unhealthy(&self) -> StoreError {
        StoreError::Unhealthy(self.why())
    }

    fn why(&self) -> String {
        self.health.borrow().why.clone().unwrap_or_else(|| "no file".to_owned())
    }
}
