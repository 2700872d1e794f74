//! The user's answer, kept on the side for a comparison: pieces by reference, bounded, told only when it is complete.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use strangler_core::observation::{Answer, Failure, Observation, Outcome};
use tokio::sync::oneshot;

use crate::upstream::budget::{ByteBudget, Held};

/// Waits for the user's answer; dropped without one, it tells the shadow that the user went away.
pub(crate) struct Tee {
    to: oneshot::Sender<Observation>,
    begun: Instant,
    kept_max: u64,
    budget: ByteBudget,
}

/// Sees the answer's body go by.
pub(crate) struct BodyTee {
    tee: Tee,
    first_byte: Duration,
    status: StatusCode,
    headers: HeaderMap,
    trailers: Option<Box<HeaderMap>>,
    pieces: Vec<Bytes>,
    kept: u64,
    seen: u64,
    is_truncated: bool,
    held: Held,
}

impl Tee {
    pub(crate) fn new(to: oneshot::Sender<Observation>, begun: Instant, kept_max: u64, budget: ByteBudget) -> Tee {
        Tee { to, begun, kept_max, budget }
    }

    /// The side that was asked failed; what the user gets instead is not its answer.
    /// `now`: when that was known; another side may have been asked since.
    pub(crate) fn failed(self, failure: Failure, now: Instant) {
        let took = now.saturating_duration_since(self.begun);
        // The shadow may have given the copy up.
        let _ = self.to.send(Observation { outcome: Outcome::Failed(failure), first_byte: took, total: took });
    }

    /// The head of the answer came.
    pub(crate) fn head(self, status: StatusCode, headers: &HeaderMap) -> BodyTee {
        BodyTee {
            first_byte: self.begun.elapsed(),
            status,
            // Nothing is compared: only that the answer has ended is worth telling.
            headers: if self.kept_max == 0 { HeaderMap::new() } else { headers.clone() },
            trailers: None,
            pieces: Vec::new(),
            kept: 0,
            seen: 0,
            is_truncated: false,
            held: self.budget.hold(0).unwrap_or_default(),
            tee: self,
        }
    }
}

impl BodyTee {
    pub(crate) fn piece(&mut self, piece: &Bytes) {
        let bytes = piece.len() as u64;
        self.seen += bytes;
        if self.is_truncated {
            return;
        }
        if self.tee.to.is_closed() {
            // The shadow has given the copy up: nothing is kept for nobody.
            self.pieces.clear();
            self.held = Held::default();
            self.is_truncated = true;
            return;
        }
        if self.kept + bytes > self.tee.kept_max || !self.held.grow(bytes) {
            self.is_truncated = true;
            return;
        }
        self.kept += bytes;
        self.pieces.push(piece.clone());
    }

    /// The trailers came.
    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        if self.tee.kept_max > 0 {
            self.trailers = Some(Box::new(trailers.clone()));
        }
    }

    /// The answer has ended well.
    pub(crate) fn complete(self) {
        let body = match <[Bytes; 1]>::try_from(self.pieces) {
            Ok([one]) => one,
            Err(pieces) => {
                let mut all = BytesMut::with_capacity(usize::try_from(self.kept).unwrap_or_default());
                for piece in &pieces {
                    all.extend_from_slice(piece);
                }
                all.freeze()
            }
        };
        let answer = Answer {
            status: self.status,
            headers: self.headers,
            trailers: self.trailers,
            body,
            body_bytes: self.seen,
            is_truncated: self.is_truncated,
        };
        let total = self.tee.begun.elapsed();
        let _ =
            self.tee.to.send(Observation { outcome: Outcome::Answered(answer), first_byte: self.first_byte, total });
    }

    /// The upstream broke off in its body.
    pub(crate) fn truncated(self) {
        self.tee.failed(Failure::Truncated, Instant::now());
    }
}
