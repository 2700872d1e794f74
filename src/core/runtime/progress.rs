//! How far a rollout has come: what must outlive a restart, beside its evidence.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::name::RouteName;
use crate::route::{RolloutPolicy, Route, Step};
use crate::runtime::Note;
use crate::weight::Weight;

/// Where a rollout stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What users get. Owned here, not by the ladder: another ladder in the file moves nobody.
    pub weight: Weight,
    /// Whether it has entered a step. A rollout begins before its first step, at 0 %.
    pub is_begun: bool,
    /// Who or what brought it here.
    pub entered: Note,
    /// A person holds it there.
    pub held: Option<Note>,
    /// It was rolled back: nothing rises before `resume` or another release.
    pub latched: Option<Latch>,
    /// A person lets it enter this step.
    pub approved: Option<Approval>,
    /// The release that extracted runs, as far as that is told; its evidence is about this one.
    pub release: Option<Release>,
    /// How often a person has let it begin anew after a rollback. What was counted under another number counts no more.
    pub epoch: u64,
    /// Who has set it by hand since its step began, each once, the last [`HANDS_MAX`] of them.
    pub hands: Vec<Arc<str>>,
}

/// Most people that are remembered for `four_eyes`.
pub const HANDS_MAX: usize = 32;

/// Why a rollout does not rise again by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latch {
    /// Who or what rolled it back.
    pub note: Note,
    /// The release that it was rolled back from; another one lifts the latch.
    pub release: Option<Release>,
    /// The route of its journey that was to blame: another release of that one lifts the latch. `None`: itself.
    pub culprit: Option<RouteName>,
}

/// A person's word that a step may be entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The step.
    pub step: Step,
    /// Who, when and why.
    pub note: Note,
}

/// Longest name of a release, in bytes.
pub const RELEASE_BYTES_MAX: usize = 128;

/// A version of the extracted service, as it names itself: visible ASCII.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release(Arc<str>);

impl Release {
    /// `None`: empty, too long, or not visible ASCII.
    pub fn new(text: &str) -> Option<Release> {
        let is_visible = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        (is_visible && text.len() <= RELEASE_BYTES_MAX).then(|| Release(text.into()))
    }

    /// As it was named.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Progress {
    /// Before the first step.
    pub fn fresh(entered: Note) -> Progress {
        Progress {
            weight: Weight::NONE,
            is_begun: false,
            entered,
            held: None,
            latched: None,
            approved: None,
            release: None,
            epoch: 0,
            hands: Vec::new(),
        }
    }

    /// Set by hand by `by`, too.
    #[must_use]
    pub fn touched(mut self, by: &str) -> Progress {
        self.hands.retain(|known| **known != *by);
        if self.hands.len() >= HANDS_MAX {
            self.hands.remove(0);
        }
        self.hands.push(by.into());
        self
    }

    /// No longer latched; what was counted until then counts no more.
    #[must_use]
    pub fn unlatched(self) -> Progress {
        let epoch = self.epoch + u64::from(self.latched.is_some());
        Progress { latched: None, epoch, ..self }
    }

    /// Where the rollout of a route begins of which nothing is known.
    pub fn starting(route: &Route, entered: Note) -> Progress {
        let from = route.rollout.as_ref().map_or(Weight::NONE, |policy| policy.from);
        Progress { weight: from, is_begun: from > Weight::NONE, ..Progress::fresh(entered) }
    }

    /// That step, or where it stands if that is lower.
    pub fn at_most(&self, step: Option<Step>) -> Option<Step> {
        let own = if self.weight == Weight::NONE { Step::Shadow } else { Step::At(self.weight) };
        step.map(|step| step.min(own)).filter(|_| self.is_begun)
    }

    /// Whether that person has set it by hand since its step began; the name, if so.
    pub fn is_hand(&self, by: &str) -> Option<String> {
        let is_same = |known: &str| person(known) == person(by);
        let is_known = is_same(self.entered.by()) || self.hands.iter().any(|known| is_same(known));
        is_known.then(|| person(by).to_owned())
    }

    /// Of a route whose weight the file owned until now: the nearest step that is not above it.
    ///
    /// Where the extracted service owns the data nobody goes back for that: it begins at the weight itself, between two steps perhaps.
    pub fn taking_over(weight: Weight, policy: &RolloutPolicy, entered: Note) -> Progress {
        if policy.from > Weight::NONE {
            return Progress { weight, is_begun: true, ..Progress::fresh(entered) };
        }
        let step = policy.steps.iter().rfind(|step| step.weight() <= weight);
        let weight = step.map_or(Weight::NONE, |step| step.weight());
        Progress { weight, is_begun: step.is_some(), ..Progress::fresh(entered) }
    }

    /// The step it is at; `None`: before the first. A ladder that was edited has none of this weight: the nearest one below counts.
    pub fn step(&self, policy: &RolloutPolicy) -> Option<usize> {
        if !self.is_begun {
            return None;
        }
        policy.steps.iter().rposition(|step| step.weight() <= self.weight)
    }

    /// The step that comes next; `None`: it is at the top.
    pub fn next_step(&self, policy: &RolloutPolicy) -> Option<Step> {
        policy.steps.get(self.step(policy).map_or(0, |step| step + 1)).copied()
    }

    /// At another step, from now on.
    pub fn entering(&self, step: Step, note: Note) -> Progress {
        Progress {
            weight: step.weight(),
            is_begun: true,
            entered: note,
            approved: None,
            hands: Vec::new(),
            ..self.clone()
        }
    }

    /// Where what was known of it is lost: where the file lets it begin, and kept there until a person lets it rise again.
    pub fn lost(route: &Route, entered: Note) -> Progress {
        let latched = Some(Latch { note: entered.clone(), release: None, culprit: None });
        Progress { latched, ..Progress::starting(route, entered) }
    }

    /// Of a service that turns out to run `release`. It stays where it stands, and no approval is about what answers now.
    ///
    /// A rollback is over once *another* release answers. One that was rolled back before its release was known may be this very one.
    pub fn naming(&self, release: Release, entered: Note) -> Progress {
        let is_other =
            |latch: &Latch| latch.culprit.is_none() && latch.release.as_ref().is_some_and(|before| *before != release);
        let latched = self.latched.clone().filter(|latch| !is_other(latch));
        let latched = latched.map(|latch| Latch { release: Some(release.clone()), ..latch });
        Progress { release: Some(release), latched, approved: None, entered, ..self.clone() }
    }

    /// Sent back, and kept from rising. `culprit`: the route of its journey for which that is done; `None`: itself.
    pub fn rolled_back(&self, to: Option<Step>, note: Note, culprit: Option<RouteName>) -> Progress {
        let latched = Some(Latch { note: note.clone(), release: self.release.clone(), culprit });
        Progress {
            weight: to.map_or(Weight::NONE, Step::weight),
            is_begun: to.is_some(),
            entered: note,
            latched,
            approved: None,
            hands: Vec::new(),
            ..self.clone()
        }
    }
}

/// Who somebody is, wherever they asked from: `ann (api, 10.0.0.1)` is `ann`. Whoever gives no name is one and the same.
fn person(by: &str) -> &str {
    let name = by.split(" (").next().unwrap_or(by);
    if name.starts_with("api, ") { "api" } else { name }
}

/// As it is stored.
#[derive(Serialize, Deserialize)]
struct Written {
    weight: String,
    is_begun: bool,
    entered: WrittenNote,
    held: Option<WrittenNote>,
    latched: Option<(WrittenNote, Option<String>)>,
    approved: Option<(String, WrittenNote)>,
    release: Option<String>,
    #[serde(default)]
    culprit: Option<String>,
    #[serde(default)]
    epoch: u64,
    #[serde(default)]
    hands: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct WrittenNote {
    by: String,
    at_unix_ms: u64,
    reason: String,
}

impl WrittenNote {
    fn of(note: &Note) -> WrittenNote {
        WrittenNote { by: note.by().to_owned(), at_unix_ms: note.at_unix_ms(), reason: note.reason().to_owned() }
    }

    fn read(&self) -> Option<Note> {
        Note::new(&self.by, self.at_unix_ms, &self.reason).ok()
    }
}

impl Progress {
    /// As it is stored.
    pub fn to_json(&self) -> String {
        let release = |release: &Option<Release>| release.as_ref().map(|release| release.as_str().to_owned());
        let written = Written {
            weight: self.weight.to_string(),
            is_begun: self.is_begun,
            entered: WrittenNote::of(&self.entered),
            held: self.held.as_ref().map(WrittenNote::of),
            latched: self.latched.as_ref().map(|latch| (WrittenNote::of(&latch.note), release(&latch.release))),
            approved: self.approved.as_ref().map(|one| (one.step.to_string(), WrittenNote::of(&one.note))),
            release: release(&self.release),
            culprit: self.latched.as_ref().and_then(|latch| Some(latch.culprit.as_ref()?.as_str().to_owned())),
            epoch: self.epoch,
            hands: self.hands.iter().map(|by| by.as_ref().to_owned()).collect(),
        };
        // Texts, numbers and flags: there is nothing in it that cannot be written.
        serde_json::to_string(&written).unwrap_or_default()
    }

    /// As it was stored; `None`: this is none.
    pub fn from_json(text: &str) -> Option<Progress> {
        let written: Written = serde_json::from_str(text).ok()?;
        let release = |text: &Option<String>| match text {
            None => Some(None),
            Some(text) => Release::new(text).map(Some),
        };
        let culprit = match &written.culprit {
            None => None,
            Some(name) => Some(name.parse().ok()?),
        };
        let latched = match &written.latched {
            None => None,
            Some((note, from)) => Some(Latch { note: note.read()?, release: release(from)?, culprit }),
        };
        let approved = match &written.approved {
            None => None,
            Some((step, note)) => Some(Approval { step: step.parse().ok()?, note: note.read()? }),
        };
        let held = match &written.held {
            None => None,
            Some(note) => Some(note.read()?),
        };
        Some(Progress {
            weight: written.weight.parse().ok()?,
            is_begun: written.is_begun,
            entered: written.entered.read()?,
            held,
            latched,
            approved,
            release: release(&written.release)?,
            epoch: written.epoch,
            hands: written.hands.iter().take(HANDS_MAX).map(|by| by.as_str().into()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::judge::Gates;
    use crate::route::RollBackTo;

    fn note() -> Note {
        Note::new("test", 1, "because").unwrap()
    }

    fn policy(steps: &[&str]) -> RolloutPolicy {
        RolloutPolicy {
            steps: steps.iter().map(|step| step.parse().unwrap()).collect(),
            at_least: Duration::ZERO,
            warmup: Duration::ZERO,
            min_requests: 0,
            gates: Gates::by_default(),
            roll_back_to: RollBackTo::Shadow,
            approve: Arc::new([]),
            four_eyes: false,
            window: None,
            freeze: Arc::new([]),
            needs: Arc::new([]),
            journey: None,
            is_compared: true,
            from: Weight::NONE,
            bake: None,
            hooks: Arc::new([]),
        }
    }

    #[test]
    fn a_weight_of_the_file_becomes_the_nearest_step_that_is_not_above_it() {
        for (weight, steps, expect) in [
            ("25%", &["shadow", "1%", "10%", "50%"][..], Some("10%")),
            ("10%", &["shadow", "10%"], Some("10%")),
            ("0%", &["shadow", "10%"], Some("shadow")),
            ("0%", &["1%", "10%"], None),
            ("0.5%", &["1%", "10%"], None),
            ("100%", &["1%", "50%"], Some("50%")),
        ] {
            let policy = policy(steps);
            let progress = Progress::taking_over(weight.parse().unwrap(), &policy, note());
            let step = progress.step(&policy).map(|step| policy.steps[step].to_string());
            assert_eq!(step.as_deref(), expect, "{weight} {steps:?}");
        }
    }

    #[test]
    fn the_ladder_is_climbed_from_before_its_first_step_to_its_top() {
        let policy = policy(&["shadow", "1%", "100%"]);
        let mut progress = Progress::fresh(note());
        let mut climbed = Vec::new();
        while let Some(step) = progress.next_step(&policy) {
            climbed.push(step.to_string());
            progress = progress.entering(step, note());
        }
        assert_eq!(climbed, ["shadow", "1%", "100%"]);
        assert_eq!(progress.weight, Weight::ALL);
    }

    #[test]
    fn a_ladder_that_was_edited_moves_nobody() {
        let progress = Progress::fresh(note()).entering("10%".parse().unwrap(), note());
        let edited = policy(&["shadow", "5%", "20%"]);
        assert_eq!(progress.weight.to_string(), "10%");
        assert_eq!(progress.step(&edited).map(|step| edited.steps[step].to_string()).as_deref(), Some("5%"));
        assert_eq!(progress.next_step(&edited).map(|step| step.to_string()).as_deref(), Some("20%"));
    }

    #[test]
    fn another_release_ends_a_rollback_and_learning_the_name_of_the_same_one_does_not() {
        let release = |name: &str| Release::new(name).unwrap();
        let unnamed = Progress::fresh(note()).rolled_back(Some(Step::Shadow), note(), None);
        let named = unnamed.naming(release("1.0"), note());
        assert!(named.latched.is_some(), "it may be the one that was rolled back");
        assert!(named.naming(release("1.0"), note()).latched.is_some());
        assert!(named.naming(release("1.1"), note()).latched.is_none());
        assert!(Progress::lost(&crate::samples::route("a", "/a"), note()).latched.is_some());
    }

    #[test]
    fn what_is_stored_is_what_is_read() {
        let fresh = Progress::fresh(note());
        let full = Progress {
            held: Some(note()),
            approved: Some(Approval { step: "50%".parse().unwrap(), note: note() }),
            release: Release::new("1.2"),
            epoch: 3,
            ..fresh
                .entering("10%".parse().unwrap(), note())
                .rolled_back(Some(Step::Shadow), note(), Some("b".parse().unwrap()))
                .touched("ann")
        };
        for progress in [fresh, full] {
            assert_eq!(Progress::from_json(&progress.to_json()), Some(progress));
        }
        assert_eq!(Progress::from_json("{}"), None);
        let before = r#"{"weight":"5%","is_begun":true,"entered":{"by":"a","at_unix_ms":1,"reason":"b"},"held":null,"latched":null,"approved":null,"release":null}"#;
        assert_eq!(
            Progress::from_json(before).map(|read| (read.epoch, read.hands.len())),
            Some((0, 0)),
            "of an older version"
        );
    }

    #[test]
    fn a_release_is_a_short_visible_name() {
        assert_eq!(Release::new("1.2.3+abc").map(|release| release.to_string()).as_deref(), Some("1.2.3+abc"));
        for bad in ["", "a b", "ä", "a\n"] {
            assert_eq!(Release::new(bad), None, "{bad:?}");
        }
        assert_eq!(Release::new(&"x".repeat(RELEASE_BYTES_MAX + 1)), None);
    }
}
