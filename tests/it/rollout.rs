//! Rollouts: weights that move by what was proven, and by people.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use serde_json::Value;

use crate::support::backend::Backend;
use crate::support::proxy::{Plan, Proxy, strangler};

/// Longest wait for something that takes seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn answer(status: u16) -> Response<Bytes> {
    Response::builder().status(status).body(Bytes::from_static(b"{}")).unwrap()
}

/// A service that fails while it is told to.
pub(crate) async fn service(is_failing: Arc<AtomicBool>) -> Backend {
    Backend::with(move |_| answer(if is_failing.load(Ordering::SeqCst) { 500 } else { 200 })).await
}

pub(crate) fn plan(legacy: &Backend, extracted: &Backend, rollout: &str) -> Plan {
    let text = format!(
        "version: 1\nlegacy: {}\njourneys: {{users: {{sticky_on: ['header:x-user-id'], lease: 0s}}}}\nroutes:\n  - {{name: cart, match: 'GET /cart/{{id}}', extracted: {}, journey: users, breaker: never, rollout: {rollout}}}\n",
        legacy.url(),
        extracted.url()
    );
    Plan::file(&text).argument("--trusted-proxies=127.0.0.0/8")
}

/// Many users, each from an address of its own: one address proves only so much in a minute.
pub(crate) struct Users(AtomicU64);

impl Users {
    pub(crate) fn new() -> Users {
        Users(AtomicU64::new(1))
    }

    pub(crate) async fn ask(&self, proxy: &Proxy, count: u64) -> u64 {
        let mut good = 0;
        for _ in 0..count {
            let user = self.0.fetch_add(1, Ordering::SeqCst);
            let address = format!("10.{}.{}.{}", user >> 16 & 255, user >> 8 & 255, user & 255);
            let name = format!("user-{user}");
            let headers = [("x-user-id", name.as_str()), ("x-forwarded-for", address.as_str())];
            let answer = proxy.send(Method::GET, "/cart/7", &headers, "").await;
            good += u64::from(answer.status == 200);
        }
        good
    }
}

pub(crate) async fn route(proxy: &Proxy) -> Value {
    serde_json::from_str(&proxy.admin(Method::GET, "/api/v1/routes/cart", "").await.body).unwrap()
}

/// Lets users come until the weight in force is this one. How many of them there were, and how many were answered well.
pub(crate) async fn climb(proxy: &Proxy, users: &Users, weight: &str) -> (u64, u64) {
    let begun = std::time::Instant::now();
    let (mut all, mut good) = (0, 0);
    loop {
        good += users.ask(proxy, 50).await;
        all += 50;
        let now = route(proxy).await;
        if now["weight_in_force"] == weight {
            return (all, good);
        }
        assert!(begun.elapsed() < PATIENCE, "still {now:#}");
    }
}

pub(crate) fn cli(proxy: &Proxy, arguments: &[&str]) -> (bool, String) {
    let mut command = strangler();
    let admin = format!("http://{}", proxy.admin);
    let output =
        command.args(arguments).args(["--admin", &admin, "--state-dir"]).arg(proxy.state_dir()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// The same state under a new process: the one before had no time for anything.
async fn killed_and_started(mut proxy: Proxy, routes: &str) -> Proxy {
    proxy.signal("KILL");
    proxy.wait();
    let plan = Plan::file(routes).argument("--trusted-proxies=127.0.0.0/8");
    copy_dir(&proxy.state_dir(), &plan.state_dir());
    plan.start().await
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Waits until people are told this.
pub(crate) async fn status_says(proxy: &Proxy, words: &str) {
    let begun = std::time::Instant::now();
    loop {
        let (_, said) = cli(proxy, &["status"]);
        if said.contains(words) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{words} is not in\n{said}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub(crate) const QUICK: &str = "{steps: [10%, 50%, 100%], step: {at_least: 1s, warmup: 0s, min_requests: 5}, gates: {errors: {worse_by: 50pp}, latency: never}}";

#[tokio::test]
async fn a_sound_service_climbs_its_ladder_by_itself() {
    let (legacy, extracted) = (service(Arc::default()).await, service(Arc::default()).await);
    let proxy = plan(&legacy, &extracted, QUICK).start().await;
    let users = Users::new();
    for weight in ["10%", "50%", "100%"] {
        let (all, good) = climb(&proxy, &users, weight).await;
        assert_eq!(all, good);
    }
    assert_eq!(
        proxy.count("strangler_rollout_transitions_total{action=\"rise\",actor=\"rollout\",route=\"cart\"}").await,
        3
    );
    status_says(&proxy, "it is at its last step").await;
}

#[tokio::test]
async fn a_service_that_fails_is_sent_back_and_no_user_sees_it() {
    let is_failing = Arc::<AtomicBool>::default();
    let (legacy, extracted) = (service(Arc::default()).await, service(Arc::clone(&is_failing)).await);
    let proxy = plan(&legacy, &extracted, QUICK).start().await;
    let users = Users::new();
    climb(&proxy, &users, "50%").await;
    is_failing.store(true, Ordering::SeqCst);
    let (all, good) = climb(&proxy, &users, "0%").await;
    assert_eq!(all, good, "legacy answers for the service");
    status_says(&proxy, "waits for `resume`, or another release: it was rolled back").await;
    // Sound again, it stays where it is until a person lets it go on.
    is_failing.store(false, Ordering::SeqCst);
    users.ask(&proxy, 100).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(route(&proxy).await["weight_in_force"], "0%");
    let (is_well, said) = cli(&proxy, &["resume", "cart", "--reason", "fixed"]);
    assert!(is_well, "{said}");
    climb(&proxy, &users, "10%").await;
}

#[tokio::test]
async fn people_hold_approve_and_roll_back() {
    let (legacy, extracted) = (service(Arc::default()).await, service(Arc::default()).await);
    let approving = QUICK.replace("{steps", "{approve: [50%], steps");
    let proxy = plan(&legacy, &extracted, &approving).start().await;
    let users = Users::new();
    climb(&proxy, &users, "10%").await;
    users.ask(&proxy, 100).await;
    status_says(&proxy, "waits for a person's approval of 50%").await;
    let (is_well, said) = cli(&proxy, &["weight", "cart", "50%", "--reason", "now"]);
    assert!(!is_well && said.contains("the rollout of `cart` moves its weight"), "{said}");
    let (is_well, said) = cli(&proxy, &["approve", "cart", "--step", "100%", "--reason", "looked at it"]);
    assert!(!is_well && said.contains("the next step is 50%"), "{said}");
    let (is_well, said) = cli(&proxy, &["approve", "cart", "--reason", "looked at it"]);
    assert!(is_well, "{said}");
    climb(&proxy, &users, "50%").await;
    let (is_well, said) = cli(&proxy, &["hold", "cart", "--reason", "the sale"]);
    assert!(is_well && said.contains("hold, at 50%"), "{said}");
    users.ask(&proxy, 300).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(route(&proxy).await["weight_in_force"], "50%");
    let (is_well, said) = cli(&proxy, &["rollback", "cart", "--reason", "wrong totals"]);
    assert!(is_well && said.contains("50% → 0%"), "{said}");
    assert_eq!(route(&proxy).await["weight_in_force"], "0%");
}

#[tokio::test]
async fn a_restart_resumes_where_it_stood_with_what_was_counted() {
    let (legacy, extracted) = (service(Arc::default()).await, service(Arc::default()).await);
    let slow = QUICK.replace("at_least: 1s", "at_least: 1h");
    let users = Users::new();
    let units = |now: &Value| {
        let of = |stage: &Value, name: &str| stage[name]["units"].as_u64().unwrap_or_default();
        let stages = now["rollout"]["inputs"]["stages"].as_array().cloned().unwrap_or_default();
        stages.iter().map(|stage| of(stage, "extracted") + of(stage, "legacy")).sum::<u64>()
    };
    let proxy = plan(&legacy, &extracted, &slow).start().await;
    climb(&proxy, &users, "10%").await;
    users.ask(&proxy, 200).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let counted = units(&route(&proxy).await);
    assert!(counted >= 200, "{counted}");
    let proxy = killed_and_started(proxy, plan(&legacy, &extracted, &slow).text()).await;
    assert_eq!(route(&proxy).await["weight_in_force"], "10%");
    // The users of before are known: asked again, they are not counted again.
    let same = Users::new();
    same.ask(&proxy, 250).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let now = units(&route(&proxy).await);
    let most = users.0.load(Ordering::SeqCst) - 1;
    assert!(now >= counted && now <= most, "{counted} before, {now} now, {most} users");
}

#[tokio::test]
async fn a_release_is_learned_from_answers_and_every_move_is_in_the_audit() {
    let (is_failing, release) = (Arc::<AtomicBool>::default(), Arc::new(AtomicU64::new(1)));
    let legacy = service(Arc::default()).await;
    let (fails, named) = (Arc::clone(&is_failing), Arc::clone(&release));
    let extracted = Backend::with(move |_| {
        let status = if fails.load(Ordering::SeqCst) { 500 } else { 200 };
        let release = format!("1.{}", named.load(Ordering::SeqCst));
        Response::builder().status(status).header("x-release", release).body(Bytes::from_static(b"{}")).unwrap()
    })
    .await;
    let ladder = QUICK.replace("[10%, 50%, 100%]", "[50%, 60%]").replace("at_least: 1s", "at_least: 1h");
    let naming = format!("{ladder}, release_header: x-release, fallback: never");
    let proxy = plan(&legacy, &extracted, &naming).start().await;
    let users = Users::new();
    climb(&proxy, &users, "50%").await;
    users.ask(&proxy, 400).await;
    status_says(&proxy, "at 50%").await;
    let begun = std::time::Instant::now();
    while route(&proxy).await["rollout"]["release"] != "1.1" {
        users.ask(&proxy, 20).await;
        assert!(begun.elapsed() < PATIENCE, "{:#}", route(&proxy).await);
    }
    is_failing.store(true, Ordering::SeqCst);
    let begun = std::time::Instant::now();
    while route(&proxy).await["weight_in_force"] != "0%" {
        users.ask(&proxy, 20).await;
        assert!(begun.elapsed() < PATIENCE, "{:#}", route(&proxy).await);
    }
    status_says(&proxy, "or another release").await;

    let (_, said) = cli(&proxy, &["audit", "cart"]);
    assert!(said.contains("rollout_release") && said.contains("rollout_back"), "{said}");
    let (is_intact, said) = cli(&proxy, &["audit", "--verify"]);
    assert!(is_intact && said.contains("none changed"), "{said}");
}

#[tokio::test]
async fn rolled_back_to_legacy_the_service_is_not_even_asked_for_copies() {
    let (legacy, extracted) = (service(Arc::default()).await, service(Arc::default()).await);
    let keys =
        "{steps: [shadow, 50%], roll_back_to: legacy, step: {at_least: 1h}}, shadow: {max_rps: 10000}, compare: true";
    let proxy = plan(&legacy, &extracted, keys).start().await;
    let users = Users::new();
    let sent = r#"strangler_shadow_total{outcome="sent",route="cart"}"#;
    status_says(&proxy, "at shadow").await;
    users.ask(&proxy, 20).await;
    proxy.wait_for_metric(sent, 20.0).await;
    let (is_well, said) = cli(&proxy, &["rollback", "cart", "--reason", "it hurts the database"]);
    assert!(is_well, "{said}");
    users.ask(&proxy, 50).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(proxy.count(sent).await, 20);
    let (is_well, said) = cli(&proxy, &["resume", "cart", "--reason", "repaired"]);
    assert!(is_well, "{said}");
    status_says(&proxy, "at shadow").await;
    users.ask(&proxy, 20).await;
    proxy.wait_for_metric(sent, 40.0).await;
}
