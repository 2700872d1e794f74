//! One copy: sent, and put beside the user's answer; or, of a write that must not be copied, what it wrote read back.

use std::time::Duration;

use http::Method;
use http::uri::PathAndQuery;
use strangler_core::observation::{Failure, Observation, Outcome};
use strangler_core::redact::noted;
use strangler_core::route::{BreakerPolicy, ComparePolicy, UnsafeShadow};
use strangler_core::shadow::{Manner, is_baseline_stale, trace_id, without_body};
use strangler_core::side::Side;
use tokio::sync::mpsc;

use crate::shadow::ask::{Bounds, Outgoing, TRACEPARENT, kept_bytes};
use crate::shadow::decode::{Decoded, decode};
use crate::shadow::gates::{Ask, Pass};
use crate::shadow::look::Look;
use crate::shadow::worker::{Pair, Work};
use crate::shadow::{Job, Shadow};
use crate::upstream::budget::Held;
use crate::upstream::chance;

/// How much longer than the route's deadline the user's answer is waited for.
const ANSWER_GRACE: Duration = Duration::from_secs(1);
/// Longest wait for the user's answer on a route without a deadline.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(60);

/// What came of a copy; label of `strangler_shadow_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyOutcome {
    /// Answered.
    Sent,
    /// Not sent: too many under way, or too fast.
    Dropped,
    /// Not answered in time.
    Timeout,
    /// No answer, or a broken one.
    Error,
    /// The user went away first.
    Cancelled,
    /// Not sent: those before it have failed too often.
    BreakerOpen,
}

impl CopyOutcome {
    /// As written in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            CopyOutcome::Sent => "sent",
            CopyOutcome::Dropped => "dropped",
            CopyOutcome::Timeout => "timeout",
            CopyOutcome::Error => "error",
            CopyOutcome::Cancelled => "cancelled",
            CopyOutcome::BreakerOpen => "breaker_open",
        }
    }

    pub(super) fn of(outcome: &Outcome) -> CopyOutcome {
        match outcome {
            Outcome::Answered(_) => CopyOutcome::Sent,
            Outcome::Failed(Failure::Timeout | Failure::ConnectTimeout) => CopyOutcome::Timeout,
            Outcome::Failed(Failure::Full) => CopyOutcome::Dropped,
            Outcome::Failed(_) => CopyOutcome::Error,
        }
    }
}

impl Shadow {
    /// Makes a copy to its end; cancelled when the user goes away while it is under way. `looks`: the way back to this core, for what
    /// is to be asked again.
    pub(super) async fn copy(&self, mut job: Job, pass: &Pass, looks: mpsc::Sender<Look>) {
        if job.manner == Manner::VerifyRead {
            return Box::pin(self.read_back(job, looks)).await;
        }
        let (Some(upstream), Some(bounds)) = (self.upstream(&job, job.target), Bounds::of(&job)) else {
            // Taken out by a reload in between.
            return self.count(&job.route, CopyOutcome::Dropped);
        };
        let Some(leave) = pass.gate().leave(breaker_of(&job), job.target, self.now()) else {
            return self.count(&job.route, CopyOutcome::BreakerOpen);
        };
        let policy = job.route.compare.clone();
        let kept = policy.as_ref().and_then(|policy| self.keep_request(&job, policy));
        let trace_of_user = job.headers.get(TRACEPARENT).cloned();
        let request_headers = policy.as_ref().map(|_| noted(&job.headers)).unwrap_or_default();
        let sample = policy.as_ref().filter(|policy| kept.is_some() && self.is_sampled(&job, pass, policy));
        let again = sample.and_then(|_| {
            let leave = pass.gate().leave(breaker_of(&job), Side::Legacy, self.now())?;
            Some((self.upstream(&job, Side::Legacy)?, leave))
        });
        let mut held = self.budget.hold(0).unwrap_or_default();
        let mut held_again = self.budget.hold(0).unwrap_or_default();
        let legacy_again = again.as_ref().map(|_| Outgoing::of(&mut job, Side::Legacy, true));
        let target = job.target;
        let outgoing = Outgoing::of(&mut job, target, kept.is_some());
        let mut user = None;
        let (copied, second) = {
            let copying = outgoing.observe(&upstream, bounds, &mut held);
            let asking = async {
                match legacy_again.zip(again.as_ref()) {
                    Some((again, (legacy, _))) => Some(again.observe(legacy, bounds, &mut held_again).await),
                    None => None,
                }
            };
            // Which of the two goes first is drawn: what changes with time must not always be to one side's cost.
            let mut both = std::pin::pin!(async {
                if chance::next_u64().is_multiple_of(2) {
                    tokio::join!(copying, asking)
                } else {
                    let (second, copied) = tokio::join!(asking, copying);
                    (copied, second)
                }
            });
            tokio::select! {
                // Looked at first: once the user is gone, nothing more is to be sent.
                biased;
                answered = &mut job.answer => match answered {
                    Ok(seen) => {
                        user = Some(self.keep(seen));
                        both.as_mut().await
                    }
                    Err(_) => return self.count(&job.route, CopyOutcome::Cancelled),
                },
                both = &mut both => both,
            }
        };
        self.count(&job.route, CopyOutcome::of(&copied.outcome));
        pass.gate().note(job.target, leave, &copied.outcome, self.now());
        if let (Some(second), Some((_, leave))) = (&second, &again) {
            pass.gate().note(Side::Legacy, *leave, &second.outcome, self.now());
        }
        let Some(policy) = policy else { return };
        let user = match user {
            Some(user) => user,
            None => self.answer(&mut job).await,
        };
        let Some(Kept { seen: user, held: user_held }) = user else { return };
        let trace_id = trace_of_user.as_ref().and_then(trace_id).map(str::to_owned);
        let looks = kept.is_some().then_some(looks);
        let held = [held, user_held, held_again, kept.unwrap_or_default()];
        self.hand_over(Work::Pair(Box::new(Pair {
            job,
            policy,
            request_headers,
            trace_id,
            user,
            copied,
            second,
            looks,
            is_read_back: false,
            held,
        })));
    }

    /// Waits for the user's answer; `None`: it did not come, or there is no room.
    async fn answer(&self, job: &mut Job) -> Option<Kept> {
        let patience = job.route.deadline.map_or(ANSWER_WAIT_MAX, |deadline| deadline + ANSWER_GRACE);
        let answered = tokio::time::timeout(patience, &mut job.answer).await;
        answered.ok().and_then(Result::ok).and_then(|seen| self.keep(seen))
    }

    /// Counts the bytes of a request that may be asked again; `None`: it may not, or there is no room.
    fn keep_request(&self, job: &Job, policy: &ComparePolicy) -> Option<Held> {
        let is_wanted = job.may_repeat && policy.looks.looks_again();
        if !is_wanted || is_baseline_stale(&job.route, job.answered_by) {
            return None;
        }
        self.budget.hold(kept_bytes(&job.headers, &job.body))
    }

    /// Whether legacy is asked a second time before anything is known.
    fn is_sampled(&self, job: &Job, pass: &Pass, policy: &ComparePolicy) -> bool {
        let (gate, draw) = (pass.gate(), chance::next_u64());
        policy.looks.a_a
            && gate.is_drawn(&job.method, policy.looks.sample, draw)
            && gate.may_ask(policy.looks.max_rps, 1, Ask::Sample, self.now())
    }

    /// After a write: reads what it wrote from both sides.
    async fn read_back(&self, mut job: Job, looks: mpsc::Sender<Look>) {
        let (Some(policy), Some(bounds)) = (job.route.compare.clone(), Bounds::of(&job)) else { return };
        let Some(Kept { seen, held: _held }) = self.answer(&mut job).await else {
            return self.count(&job.route, CopyOutcome::Cancelled);
        };
        let Some(path) = read_path(&job, &seen, policy.body_bytes_max) else {
            // A write that failed, or that says nothing of where it can be read.
            tracing::debug!(route = %job.route.name, "a write cannot be read back");
            return self.metrics.count_comparison(job.route.name.as_str(), "not_comparable");
        };
        if !job.route.data.is_read_back_alike(job.answered_by) {
            return self.metrics.count_comparison(job.route.name.as_str(), "not_comparable");
        }
        drop(seen);
        without_body(&mut job.headers);
        job.method = Method::GET;
        job.body = bytes::Bytes::new();
        (job.path_and_query, job.rewritten) = (path, None);
        // A read like any other from here on.
        (job.manner, job.may_repeat) = (Manner::Plain, true);
        let kept = self.keep_request(&job, &policy);
        tokio::time::sleep(policy.settle).await;
        let trace_id = job.headers.get(TRACEPARENT).and_then(trace_id).map(str::to_owned);
        let request_headers = noted(&job.headers);
        let Some([(legacy, held_legacy), (extracted, held_extracted)]) = self.ask_both(&mut job, bounds).await else {
            return self.count(&job.route, CopyOutcome::Dropped);
        };
        let (user, copied) = match job.answered_by {
            Side::Legacy => (legacy, extracted),
            Side::Extracted => (extracted, legacy),
        };
        self.count(&job.route, CopyOutcome::of(&copied.outcome));
        let looks = kept.is_some().then_some(looks);
        let held = [held_legacy, held_extracted, Held::default(), kept.unwrap_or_default()];
        // What was written had its time; what the caller has written since is something else.
        let (second, is_read_back) = (None, true);
        self.hand_over(Work::Pair(Box::new(Pair {
            job,
            policy,
            request_headers,
            trace_id,
            user,
            copied,
            second,
            looks,
            is_read_back,
            held,
        })));
    }

    /// Asks both sides at one moment: legacy, then extracted. `None`: one of them is gone, or left alone.
    pub(super) async fn ask_both(&self, job: &mut Job, bounds: Bounds) -> Option<[(Observation, Held); 2]> {
        let legacy = self.asking(job, Side::Legacy, bounds)?;
        let extracted = self.asking(job, Side::Extracted, bounds)?;
        Some(if chance::next_u64().is_multiple_of(2) {
            tokio::join!(legacy, extracted).into()
        } else {
            let (extracted, legacy) = tokio::join!(extracted, legacy);
            [legacy, extracted]
        })
    }

    /// One request to one side; `None`: it is gone, or its breaker is open.
    pub(super) fn asking<'s>(
        &'s self,
        job: &mut Job,
        side: Side,
        bounds: Bounds,
    ) -> Option<impl Future<Output = (Observation, Held)> + use<'s>> {
        let upstream = self.upstream(job, side)?;
        let gate = self.gates.gate(&job.route.name);
        let leave = gate.leave(breaker_of(job), side, self.now())?;
        let outgoing = Outgoing::of(job, side, true);
        let mut held = self.budget.hold(0).unwrap_or_default();
        Some(async move {
            let seen = outgoing.observe(&upstream, bounds, &mut held).await;
            gate.note(side, leave, &seen.outcome, self.now());
            (seen, held)
        })
    }

    /// Counts the bytes of the user's answer, which has to wait for the copy's; `None`: no room.
    fn keep(&self, seen: Observation) -> Option<Kept> {
        let bytes = match &seen.outcome {
            Outcome::Answered(answer) => answer.body.len() as u64,
            Outcome::Failed(_) => 0,
        };
        let held = self.budget.hold(bytes);
        if held.is_none() {
            self.metrics.count_queue_dropped("comparisons");
        }
        Some(Kept { seen, held: held? })
    }
}

fn breaker_of(job: &Job) -> Option<BreakerPolicy> {
    job.route.shadow.as_ref()?.breaker
}

/// The user's answer, its bytes counted.
struct Kept {
    seen: Observation,
    held: Held,
}

/// Where what was written can be read.
fn read_path(job: &Job, seen: &Observation, bytes_max: u64) -> Option<PathAndQuery> {
    let Some(UnsafeShadow::VerifyRead(template)) = job.route.shadow.as_ref().map(|shadow| &shadow.unsafe_requests)
    else {
        return None;
    };
    let Outcome::Answered(answer) = &seen.outcome else { return None };
    let body = match decode(answer, bytes_max) {
        Decoded::Whole(body) if answer.status.is_success() => body,
        Decoded::Whole(_) | Decoded::Beginning(_) | Decoded::Unreadable(_) => return None,
    };
    template.fill(&serde_json::from_slice(&body).ok()?)?.parse().ok()
}
