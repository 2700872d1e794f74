use std::fs;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use strangler_core::weight::Weight;

use super::super::last_good::{FILE_NAME, StartOutcome, start};
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn text(weight: &str) -> String {
    format!(
        "version: 1\nlegacy: http://127.0.0.1:1\nroutes:\n  - {{name: a, match: /a, extracted: http://127.0.0.1:2, weight: {weight}}}\n"
    )
}

struct Bench {
    dir: tempfile::TempDir,
    path: PathBuf,
    in_force: Arc<Mutex<Arc<RoutingTable>>>,
    said: Receiver<ConfigStatus>,
    reloading: Reloading,
}

impl Bench {
    fn at(dir: tempfile::TempDir, path: PathBuf) -> Bench {
        let (start, source, refused) = match start(&path, dir.path(), false) {
            StartOutcome::Fresh(start) => (start, Source::File, None),
            StartOutcome::FromLastGood { start, refused, .. } => (start, Source::LastGood, refused),
            StartOutcome::Refused { faults, .. } => panic!("{faults:?}"),
        };
        let in_force = Arc::new(Mutex::new(Arc::clone(&start.table)));
        let (say, said) = channel();
        let place = Arc::clone(&in_force);
        let reloader = Reloader {
            path: path.clone(),
            state_dir: Some(dir.path().to_owned()),
            put_in_force: Box::new(move |table, judge| {
                let mut current = place.lock().expect("unpoisoned");
                let verdict = judge(Running { table: &current, weight: &|_| None });
                if verdict == ReloadVerdict::Accept {
                    *current = Arc::clone(table);
                }
                verdict
            }),
            on_attempt: Box::new(move |status| {
                let _ = say.send(status.clone());
            }),
        };
        let status = first_status(&start, source, Vec::new());
        let reloading = reloader.spawn(start, status, refused.as_deref()).expect("a thread");
        assert!(reloading.watch_error.is_none(), "{:?}", reloading.watch_error);
        Bench { dir, path, in_force, said, reloading }
    }

    fn with(weight: &str) -> Bench {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("routes.yaml");
        fs::write(&path, text(weight)).expect("written");
        Bench::at(dir, path)
    }

    fn weight(&self) -> Weight {
        self.in_force.lock().expect("unpoisoned").routes()[0].weight
    }

    fn replace(&self, text: &str) {
        let beside = self.dir.path().join("routes.yaml.new");
        fs::write(&beside, text).expect("written");
        fs::rename(&beside, &self.path).expect("renamed");
    }

    /// The next attempt of that outcome. What an editor does halfway may be seen, too.
    fn wait_for(&self, outcome: AttemptOutcome) -> ConfigStatus {
        loop {
            let status = self.said.recv_timeout(PATIENCE).expect("an attempt in time");
            if status.last.outcome == outcome {
                return status;
            }
        }
    }
}

#[test]
fn a_renamed_file_is_seen_and_kept() {
    let bench = Bench::with("5%");
    bench.replace(&text("10%"));
    let status = bench.wait_for(AttemptOutcome::Accepted);
    assert_eq!(bench.weight().basis_points(), 1_000);
    assert_eq!(status.revision, Revision::of(text("10%").as_bytes()));
    assert_eq!(status.not_kept, None);
    assert_eq!(fs::read_to_string(bench.dir.path().join(FILE_NAME)).expect("kept"), text("10%"));
}

#[test]
fn a_file_written_in_place_is_seen() {
    let bench = Bench::with("5%");
    fs::write(&bench.path, text("10%")).expect("written");
    bench.wait_for(AttemptOutcome::Accepted);
    assert_eq!(bench.weight().basis_points(), 1_000);
}

#[test]
fn a_config_map_swap_is_seen() {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, weight) in [("..1", "5%"), ("..2", "10%")] {
        fs::create_dir(dir.path().join(name)).expect("made");
        fs::write(dir.path().join(name).join("routes.yaml"), text(weight)).expect("written");
    }
    let link = |to: &str, from: &str| {
        std::os::unix::fs::symlink(to, dir.path().join(from)).expect("linked");
    };
    link("..1", "..data");
    link("..data/routes.yaml", "routes.yaml");
    link("..2", "..data_tmp");
    let (from, to) = (dir.path().join("..data_tmp"), dir.path().join("..data"));
    let path = dir.path().join("routes.yaml");
    let bench = Bench::at(dir, path);
    fs::rename(from, to).expect("swapped");
    bench.wait_for(AttemptOutcome::Accepted);
    assert_eq!(bench.weight().basis_points(), 1_000);
}

#[test]
fn a_refused_file_changes_nothing_and_the_way_back_is_said() {
    let bench = Bench::with("5%");
    bench.replace("version: 1\nlegacy: [");
    let status = bench.wait_for(AttemptOutcome::Refused);
    assert_eq!(status.last.faults[0].span.line, 2);
    assert_eq!(status.revision, Revision::of(text("5%").as_bytes()));
    assert_eq!(bench.weight().basis_points(), 500);
    bench.replace(&text("5%"));
    bench.wait_for(AttemptOutcome::Unchanged);
    fs::remove_file(&bench.path).expect("removed");
    let status = bench.wait_for(AttemptOutcome::Refused);
    assert_eq!(status.last.faults[0].span.line, 0);
}

#[tokio::test]
async fn a_removal_waits_for_somebody_who_means_it() {
    let bench = Bench::with("5%");
    bench.replace("version: 1\nlegacy: http://127.0.0.1:1\n");
    let status = bench.wait_for(AttemptOutcome::RefusedRemoval);
    assert!(status.last.faults[0].message.contains("`a`"), "{:?}", status.last.faults);
    let handle = bench.reloading.handle();
    assert_eq!(handle.reload(false).await.expect("an answer").last.outcome, AttemptOutcome::RefusedRemoval);
    assert_eq!(handle.reload(true).await.expect("an answer").last.outcome, AttemptOutcome::Accepted);
    assert!(bench.in_force.lock().expect("unpoisoned").routes().is_empty());
    assert_eq!(handle.reload(false).await.expect("an answer").last.outcome, AttemptOutcome::Unchanged);
    drop(bench);
    assert_eq!(handle.reload(false).await.expect_err("stopped"), AskError::Stopped);
}

#[test]
fn a_start_from_the_last_good_text_recovers_when_the_file_does() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("routes.yaml");
    fs::write(&path, "nonsense").expect("written");
    keep(dir.path(), text("5%").as_bytes()).expect("kept");
    let bench = Bench::at(dir, path);
    assert_eq!(fs::read_to_string(bench.dir.path().join(FILE_NAME)).expect("kept"), text("5%"));
    bench.replace(&text("10%"));
    let status = bench.wait_for(AttemptOutcome::Accepted);
    assert!(!status.is_stale());
    assert_eq!(bench.weight().basis_points(), 1_000);
}

#[test]
fn a_file_that_was_missing_at_the_start_ends_the_alarm_when_it_comes_back_as_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("routes.yaml");
    keep(dir.path(), text("5%").as_bytes()).expect("kept");
    let bench = Bench::at(dir, path);
    bench.replace(&text("5%"));
    let status = bench.wait_for(AttemptOutcome::Unchanged);
    assert!(!status.is_stale());
}
