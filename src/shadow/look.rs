//! A second look at a pair that differed: both sides asked once more, and legacy twice, so that what lags and what is noise is known.

use std::collections::BTreeSet;
use std::sync::Arc;

use strangler_core::compare::ComparisonResult;
use strangler_core::noise::{FieldKey, Tag};
use strangler_core::observation::Observation;
use strangler_core::redact::Divergence;
use strangler_core::route::ComparePolicy;
use strangler_core::side::Side;

use crate::shadow::ask::Bounds;
use crate::shadow::gates::LookPass;
use crate::shadow::worker::Work;
use crate::shadow::{Job, Shadow, Sink};
use crate::telemetry::metrics::Metrics;
use crate::upstream::budget::Held;

/// A pair that differed and is to be looked at again.
pub(crate) struct Look {
    /// The request, with its headers.
    pub(crate) job: Job,
    pub(crate) policy: Arc<ComparePolicy>,
    /// What differed, as in the record.
    pub(crate) found: Vec<FieldKey>,
    pub(crate) unfinished: Unfinished,
    /// The bytes of the request.
    pub(crate) held: Held,
    pub(crate) pass: LookPass,
}

/// What a second look saw.
pub(crate) struct Looked {
    pub(crate) look: Look,
    /// Legacy and extracted, each time that both were asked.
    pub(crate) rounds: Vec<[Observation; 2]>,
    /// Two answers of legacy, given at one moment.
    pub(crate) a_a: Option<[Observation; 2]>,
    pub(crate) _held: Vec<Held>,
}

/// A record that waits for what a second look makes of it. However that ends, the record is kept: dropped, it is unconfirmed.
pub(crate) struct Unfinished {
    record: Option<Box<Divergence>>,
    result: ComparisonResult,
    policy: Arc<ComparePolicy>,
    metrics: Arc<Metrics>,
    sink: Sink,
}

impl Unfinished {
    pub(crate) fn new(
        record: Divergence,
        result: ComparisonResult,
        policy: Arc<ComparePolicy>,
        metrics: Arc<Metrics>,
        sink: Sink,
    ) -> Unfinished {
        Unfinished { record: Some(Box::new(record)), result, policy, metrics, sink }
    }

    /// Nobody was to look again.
    pub(crate) fn untagged(mut self) {
        self.keep(None);
    }

    /// Known by now. `found` are the record's differences in their order, `a_a` what differs between two answers of legacy.
    pub(crate) fn tagged(mut self, tag: Tag, found: &[FieldKey], a_a: Option<&BTreeSet<FieldKey>>) {
        if let (Some(record), Some(a_a)) = (&mut self.record, a_a) {
            for (difference, key) in record.differences.iter_mut().zip(found) {
                difference.noise = a_a.contains(key);
            }
        }
        self.keep(Some(tag));
    }

    fn keep(&mut self, tag: Option<Tag>) {
        let Some(mut record) = self.record.take() else { return };
        let result = match tag {
            Some(tag @ (Tag::Noise | Tag::Transient)) => tag.as_str(),
            Some(Tag::Confirmed | Tag::Unconfirmed) | None => self.result.as_str(),
        };
        self.metrics.count_comparison(&record.route, result);
        if let Some(tag) = tag {
            self.metrics.count_second_look(&record.route, tag.as_str());
            record.tag = Some(tag.as_str().to_owned());
        }
        if !(self.sink)(&record, &self.policy) {
            self.metrics.count_queue_dropped("divergences");
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.keep(Some(Tag::Unconfirmed));
    }
}

impl Shadow {
    /// Looks again. What does not come of it leaves the record as it is.
    pub(super) async fn look(&self, mut look: Look) {
        let Some(bounds) = Bounds::of(&look.job) else { return };
        let policy = look.policy.looks;
        let (mut rounds, mut a_a, mut kept) = (Vec::new(), None, Vec::new());
        for round in 0..policy.recheck_times {
            tokio::time::sleep(policy.recheck_delay).await;
            let job = &mut look.job;
            let again = if round == 0 && policy.a_a { self.asking(job, Side::Legacy, bounds) } else { None };
            let again = async {
                match again {
                    Some(again) => Some(again.await),
                    None => None,
                }
            };
            let (both, again) = tokio::join!(self.ask_both(job, bounds), again);
            // A side is gone or left alone: nothing can be said.
            let Some([(legacy, held_legacy), (extracted, held_extracted)]) = both else {
                tracing::debug!(route = %look.job.route.name, "a second look has nobody to ask");
                return;
            };
            kept.extend([held_legacy, held_extracted]);
            if let Some((again, held)) = again {
                a_a = Some([legacy.clone(), again]);
                kept.push(held);
            }
            rounds.push([legacy, extracted]);
        }
        if policy.recheck_times == 0 {
            let (job, side) = (&mut look.job, Side::Legacy);
            let Some((first, second)) = self.asking(job, side, bounds).zip(self.asking(job, side, bounds)) else {
                return;
            };
            let ((first, held_first), (second, held_second)) = tokio::join!(first, second);
            a_a = Some([first, second]);
            kept.extend([held_first, held_second]);
        }
        self.hand_over(Work::Looked(Box::new(Looked { look, rounds, a_a, _held: kept })));
    }
}
