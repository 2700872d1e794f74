//! Rollouts while things fail: the process is killed, the store stands still, is full or lost, nobody answers at the admin port.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::Value;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::net::TcpStream;

use crate::faults_store::{bound_files, ignoring_the_signal};
use crate::rollout::{PATIENCE, QUICK, Users, cli, climb, copy_dir, plan, route, service, status_says};
use crate::support::backend::Backend;
use crate::support::proxy::{Plan, Proxy};

async fn sides() -> (Backend, Backend) {
    (service(Arc::default()).await, service(Arc::default()).await)
}

/// Users that a rollout has counted, over all of its steps.
fn counted(now: &Value) -> u64 {
    let of = |stage: &Value, name: &str| stage[name]["units"].as_u64().unwrap_or_default();
    let stages = now["rollout"]["inputs"]["stages"].as_array().cloned().unwrap_or_default();
    stages.iter().map(|stage| of(stage, "extracted") + of(stage, "legacy")).sum()
}

/// How a route stands, once its rollout has been looked at with all that was counted before.
async fn looked_at(proxy: &Proxy) -> Value {
    let begun = Instant::now();
    loop {
        let now = route(proxy).await;
        if !now["rollout"]["inputs"].is_null() {
            return now;
        }
        assert!(begun.elapsed() < PATIENCE, "{now:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The same state under a new process.
async fn again(proxy: &Proxy, routes: &str) -> Proxy {
    let plan = Plan::file(routes).argument("--trusted-proxies=127.0.0.0/8");
    copy_dir(&proxy.state_dir(), &plan.state_dir());
    plan.start().await
}

/// The last moves that the audit has, newest first: what and to where.
async fn moves(proxy: &Proxy) -> Vec<(String, String)> {
    let answer = proxy.admin(Method::GET, "/api/v1/audit?route=cart&limit=500", "").await;
    let audit: Value = serde_json::from_str(&answer.body).unwrap();
    let entries = audit["audit"].as_array().cloned().unwrap_or_default();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let moved = entries.iter().filter(|entry| entry["accepted"] == true);
    moved.map(|entry| (text(entry, "what"), text(entry, "to"))).collect()
}

/// Asks one user after the other until told to stop, or the proxy is gone; answers when each was answered.
async fn stream(users: Arc<AtomicU64>, address: std::net::SocketAddr) -> Vec<Instant> {
    let mut answered = Vec::new();
    loop {
        let user = users.fetch_add(1, Ordering::SeqCst);
        let request = http::Request::get("/cart/7")
            .header("host", "shop.example.com")
            .header("x-user-id", format!("user-{user}"))
            .header("x-forwarded-for", format!("10.{}.{}.{}", user >> 16 & 255, user >> 8 & 255, user & 255));
        let request = request.body(http_body_util::Full::default()).unwrap();
        if TcpStream::connect(address).await.is_err() {
            return answered;
        }
        let exchange = crate::support::proxy::exchange(address, request);
        match tokio::time::timeout(Duration::from_secs(5), tokio::spawn(exchange)).await {
            Ok(Ok(Ok(_))) => answered.push(Instant::now()),
            _ => return answered,
        }
    }
}

/// The first step of the ladder below, in per cent: so many that its gate is passed within a second.
const LOWEST: u32 = 15;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_a_rollout_goes_on_where_it_stood_and_counts_nobody_twice() {
    let rounds: u64 = if std::env::var("LOAD").is_ok_and(|size| size == "full") { 100 } else { 4 };
    // A step at every look, so that many are killed while they rise.
    let steps: Vec<String> = (LOWEST..=98).map(|step| format!("{step}%")).collect();
    let ladder = format!(
        "{{steps: [{}, 100%], step: {{at_least: 0s, warmup: 0s, min_requests: 1}}, gates: {{errors: {{worse_by: 50pp}}, latency: never}}}}",
        steps.join(", ")
    );
    let (legacy, extracted) = sides().await;
    let plan = plan(&legacy, &extracted, &ladder);
    let text = plan.text().to_owned();
    let mut proxy = plan.start().await;
    status_says(&proxy, "at 15%").await;

    let users = Arc::new(AtomicU64::new(1));
    let (mut known, mut most_lost, mut raises, mut seed) = (0, 0.0f64, 0u64, 7u64);
    let mut before = looked_at(&proxy).await["weight_in_force"].clone();
    for round in 0..rounds {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let life = Duration::from_millis(300 + (seed >> 33) % 2_200);
        let begun = Instant::now();
        let asking = tokio::spawn(stream(Arc::clone(&users), proxy.address));
        let mut seen = before.clone();
        while begun.elapsed() < life {
            seen = route(&proxy).await["weight_in_force"].clone();
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
        proxy.signal("KILL");
        let killed = Instant::now();
        proxy.wait();
        let answered = asking.await.unwrap();

        proxy = again(&proxy, &text).await;
        let now = looked_at(&proxy).await;
        // A raise is on record before it is in force: but for that moment the record's last word is what is in force.
        let begun = Instant::now();
        let (weight, moved) = loop {
            let (weight, moved) = (route(&proxy).await["weight_in_force"].clone(), moves(&proxy).await);
            if moved.first().is_some_and(|(what, to)| what == "rollout_step" && weight == *to) {
                break (weight, moved);
            }
            assert!(begun.elapsed() < Duration::from_secs(5), "{round}: {weight} and {moved:?}");
        };
        let percent = |text: &Value| text.as_str().unwrap().trim_end_matches('%').parse::<u32>().unwrap();
        assert!(
            percent(&weight) >= percent(&seen) && percent(&seen) >= percent(&before),
            "{round}: {before} {seen} {weight}"
        );
        // One rung for each step since it began at the bottom, none twice and none left out.
        let rungs = moved.iter().take_while(|(what, _)| what == "rollout_step").count();
        assert!(
            rungs == usize::try_from((percent(&weight) + 1).saturating_sub(LOWEST)).unwrap(),
            "{round}: {rungs} rungs, {weight}: {moved:?}"
        );
        raises += u64::from(percent(&weight).saturating_sub(percent(&before).max(LOWEST - 1)));
        let (is_intact, said) = cli(&proxy, &["audit", "--verify"]);
        assert!(is_intact && said.contains("none changed"), "{round}: {said}");
        // Nobody twice, and whoever was answered a second before the end is counted.
        let (all, count) = (users.load(Ordering::SeqCst) - 1, counted(&now));
        let late = answered.iter().filter(|at| killed.duration_since(**at) <= Duration::from_secs(1)).count() as u64;
        let safe = known + answered.len() as u64 - late;
        assert!(count <= all, "{round}: {count} counted of {all}");
        assert!(count >= safe, "{round}: {count} counted, {safe} were answered more than a second before the end");
        // How much was lost, as a time: from the first answer that is not there.
        let there = usize::try_from(count - known.min(count)).unwrap();
        if let Some(first) = answered.get(there) {
            most_lost = most_lost.max(killed.duration_since(*first).as_secs_f64());
        }
        known = count;
        before = weight;
        if percent(&before) >= 85 {
            // From the bottom once more. What was counted counts no more, whenever it is killed after that word.
            for verb in ["rollback", "resume"] {
                let (is_well, said) = cli(&proxy, &[verb, "cart", "--reason", "once more"]);
                assert!(is_well, "{said}");
            }
            (known, before) = (0, Value::from("0%"));
            if route(&proxy).await["weight_in_force"] == "0%" {
                proxy.signal("KILL");
                proxy.wait();
                proxy = again(&proxy, &text).await;
                let now = looked_at(&proxy).await;
                assert_eq!(counted(&now), 0, "{now:#}");
                before = now["weight_in_force"].clone();
            }
        }
    }
    assert!(raises > rounds / 4, "{raises} raises: nothing was killed while it rose");
    eprintln!(
        "load | killed {rounds} times, {raises} raises, {known} users counted | at most 1 s of counts lost | {most_lost:.2} s"
    );
}

#[tokio::test]
async fn told_to_end_it_saves_the_last_count_and_moves_nothing_any_more() {
    let (legacy, extracted) = sides().await;
    let slow = QUICK.replace("at_least: 1s", "at_least: 1h");
    let plan = plan(&legacy, &extracted, &slow);
    let text = plan.text().to_owned();
    let mut proxy = plan.start().await;
    let users = Users::new();
    let (first, _) = climb(&proxy, &users, "10%").await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let known = counted(&looked_at(&proxy).await);
    users.ask(&proxy, 60).await;
    proxy.signal("TERM");
    assert!(proxy.wait().success());
    let proxy = again(&proxy, &text).await;
    let now = looked_at(&proxy).await;
    assert_eq!((counted(&now), now["weight_in_force"].as_str()), (known + 60, Some("10%")), "{first} before");
    assert!(proxy.admin(Method::GET, "/readyz", "").await.body.contains(r#""rollouts_stopped":null"#));
    proxy.wait_for_metric("strangler_rollouts_running", 1.0).await;
}

#[tokio::test]
async fn a_rollout_whose_state_is_lost_begins_at_nothing_and_rises_by_a_persons_word_only() {
    let (legacy, extracted) = sides().await;
    let plan = plan(&legacy, &extracted, QUICK);
    let text = plan.text().to_owned();
    let mut proxy = plan.start().await;
    climb(&proxy, &Users::new(), "50%").await;
    proxy.signal("KILL");
    proxy.wait();
    for suffix in ["", "-wal", "-shm"] {
        let file = proxy.state_dir().join(format!("strangler.db{suffix}"));
        if file.exists() {
            std::fs::write(file, b"this is no database, however long it is. ".repeat(300)).unwrap();
        }
    }
    let proxy = again(&proxy, &text).await;
    status_says(&proxy, "what was known of it is lost").await;
    let users = Users::new();
    users.ask(&proxy, 200).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(route(&proxy).await["weight_in_force"], "0%");
    let (is_well, said) = cli(&proxy, &["resume", "cart", "--reason", "looked at it"]);
    assert!(is_well, "{said}");
    climb(&proxy, &users, "10%").await;
}

#[tokio::test]
async fn where_extracted_owns_the_data_lost_state_is_what_the_file_says_and_never_nobody() {
    let (legacy, extracted) = sides().await;
    let owned = format!("{}, data: extracted", QUICK.replacen('{', "{from: 50%, ", 1));
    let plan = plan(&legacy, &extracted, &owned);
    let text = plan.text().to_owned();
    let mut proxy = plan.start().await;
    assert_eq!(route(&proxy).await["weight_in_force"], "50%", "from the first request on");
    climb(&proxy, &Users::new(), "100%").await;
    status_says(&proxy, "write `from: 100%`").await;
    proxy.wait_for_metric(r#"strangler_rollout_alarm{route="cart"}"#, 1.0).await;
    proxy.signal("KILL");
    proxy.wait();
    std::fs::write(proxy.state_dir().join("strangler.db"), b"this is no database. ".repeat(600)).unwrap();
    let _ = std::fs::remove_file(proxy.state_dir().join("strangler.db-wal"));
    let proxy = again(&proxy, &text).await;
    assert_eq!(route(&proxy).await["weight_in_force"], "50%", "from the first request on");
    status_says(&proxy, "what was known of it is lost").await;
    Users::new().ask(&proxy, 200).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(route(&proxy).await["weight_in_force"], "50%", "neither up nor down");
}

#[tokio::test]
async fn where_extracted_owns_the_data_a_service_that_fails_stays_and_somebody_is_called() {
    let is_failing = Arc::<AtomicBool>::default();
    let (legacy, extracted) = (service(Arc::default()).await, service(Arc::clone(&is_failing)).await);
    let owned = format!("{}, data: extracted, fallback: never", QUICK.replacen('{', "{from: 10%, ", 1));
    let proxy = plan(&legacy, &extracted, &owned).start().await;
    let users = Users::new();
    climb(&proxy, &users, "50%").await;
    is_failing.store(true, Ordering::SeqCst);
    let asks = async {
        for _ in 0..40 {
            users.ask(&proxy, 20).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let ((), ()) = tokio::join!(asks, status_says(&proxy, "ALARM: it should be sent back, and must not be by itself"));
    assert_eq!(route(&proxy).await["weight_in_force"], "50%");
    proxy.wait_for_metric(r#"strangler_rollout_alarm{route="cart"}"#, 1.0).await;
    let (is_well, said) = cli(&proxy, &["rollback", "cart", "--reason", "now"]);
    assert!(!is_well && said.contains("--accept-stale"), "{said}");
    let (is_well, said) = cli(&proxy, &["rollback", "cart", "--accept-stale", "--reason", "better stale than none"]);
    assert!(is_well && said.contains("50% → 0%"), "{said}");
}

#[tokio::test]
async fn a_store_that_stands_still_delays_no_lowering() {
    let is_failing = Arc::<AtomicBool>::default();
    let (legacy, extracted) = (service(Arc::default()).await, service(Arc::clone(&is_failing)).await);
    let names = ["a", "b", "c", "d", "e", "f"];
    let routes: String = names
        .iter()
        .map(|name| {
            format!(
                "  - {{name: {name}, match: 'GET /{name}', extracted: '{}', journey: users, breaker: never, rollout: {}}}\n",
                extracted.url(),
                QUICK.replace("[10%, 50%, 100%]", "[50%, 60%]").replace("at_least: 1s", "at_least: 1h")
            )
        })
        .collect();
    let text = format!(
        "version: 1\nlegacy: {}\njourneys: {{users: {{sticky_on: ['header:x-user-id'], lease: 0s}}}}\nroutes:\n{routes}",
        legacy.url()
    );
    let proxy = Plan::file(&text).argument("--trusted-proxies=127.0.0.0/8").start().await;
    let weight = async |name: &str| {
        let answer = proxy.admin(Method::GET, &format!("/api/v1/routes/{name}"), "").await;
        serde_json::from_str::<Value>(&answer.body).unwrap()["weight_in_force"].as_str().unwrap().to_owned()
    };
    let ask = async |from: u64, count: u64| {
        for user in from..from + count {
            for name in names {
                let (name, address) = (format!("/{name}"), format!("10.1.{}.{}", user >> 8 & 255, user & 255));
                let user = format!("u{user}");
                let headers = [("x-user-id", user.as_str()), ("x-forwarded-for", address.as_str())];
                proxy.send(Method::GET, &name, &headers, "").await;
            }
        }
    };
    let begun = Instant::now();
    while weight("f").await != "50%" || weight("a").await != "50%" {
        ask(0, 2).await;
        assert!(begun.elapsed() < PATIENCE);
    }
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(proxy.state_dir().join("strangler.db"));
    let mut other = options.connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    is_failing.store(true, Ordering::SeqCst);
    let (asked, mut next) = (Instant::now(), 100);
    let mut lowered = std::collections::BTreeMap::new();
    while lowered.len() < names.len() {
        // What fails all at once is one event; it has to go on.
        ask(next, 4).await;
        next += 4;
        for name in names {
            if !lowered.contains_key(name) && weight(name).await == "0%" {
                lowered.insert(name, asked.elapsed());
            }
        }
        assert!(asked.elapsed() < Duration::from_secs(15), "{lowered:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (first, last) = (lowered.values().min().unwrap(), lowered.values().max().unwrap());
    eprintln!(
        "load | six routes lowered while the store stands still | the last within two looks | {last:?} after the first failure, {:?} after the first of them",
        last.saturating_sub(*first)
    );
    assert!(last.saturating_sub(*first) < Duration::from_secs(4), "one look each would be 12 s: {lowered:?}");
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    // Afterwards it is on record, each once.
    let begun = Instant::now();
    loop {
        let answer = proxy.admin(Method::GET, "/api/v1/audit?limit=500", "").await;
        let back = answer.body.matches("\"rollout_back\"").count();
        if back == names.len() {
            break;
        }
        assert!(back <= names.len() && begun.elapsed() < PATIENCE, "{}", answer.body);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Asks until no answer comes from extracted any more, and for how long it still did.
async fn until_legacy_alone(proxy: &Proxy, extracted: &Backend, since: Instant) -> Duration {
    let (mut last, mut quiet) = (since, 0);
    let users = Users::new();
    while quiet < 100 {
        let before = extracted.seen().len();
        assert_eq!(users.ask(proxy, 1).await, 1);
        if extracted.seen().len() > before {
            (last, quiet) = (Instant::now(), 0);
        } else {
            quiet += 1;
        }
        assert!(since.elapsed() < PATIENCE, "extracted is still asked");
    }
    last.duration_since(since)
}

#[tokio::test]
async fn with_no_admin_port_and_a_full_disk_a_signal_or_a_line_in_a_file_sends_all_back_within_a_second() {
    for by_signal in [true, false] {
        let (legacy, extracted) = sides().await;
        let plan = plan(
            &legacy,
            &extracted,
            &QUICK.replace("[10%, 50%, 100%]", "[50%, 60%]").replace("at_least: 1s", "at_least: 1h"),
        );
        let script = ignoring_the_signal(plan.dir());
        let proxy = plan.program(script).start().await;
        climb(&proxy, &Users::new(), "50%").await;
        bound_files(&proxy, Some(1));
        // Nobody else gets through to the admin port.
        let mut crowd = Vec::new();
        for _ in 0..300 {
            crowd.push(TcpStream::connect(proxy.admin).await.unwrap());
        }
        let state_dir = proxy.state_dir();
        let asked = crate::support::proxy::ask_admin(proxy.admin, &state_dir, Method::GET, "/api/v1/status", "");
        assert!(tokio::time::timeout(Duration::from_secs(1), asked).await.is_err(), "the admin port answers");
        let since = Instant::now();
        if by_signal {
            proxy.signal("USR1");
        } else {
            std::fs::write(proxy.state_dir().join("kill"), "cart\n").unwrap();
        }
        let took = until_legacy_alone(&proxy, &extracted, since).await;
        let how = if by_signal { "SIGUSR1" } else { "a line in the kill file" };
        eprintln!("load | {how}, admin port dead, disk full | all at legacy within 1 s | {} ms", took.as_millis());
        assert!(took < Duration::from_millis(1_500), "{how}: {took:?}");
        drop(crowd);
    }
}
