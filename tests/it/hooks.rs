//! Whom rollouts ask and tell: webhooks, notices, and queries that may veto.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Response};
use serde_json::Value;
use strangler_core::hook::{Keys, signature};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::rollout::{PATIENCE, Users, answer, cli, climb, plan, route, service, status_says};
use crate::support::backend::Backend;
use crate::support::proxy::Plan;
use crate::support::secure::Authority;

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A quick ladder with these further keys.
fn quick(more: &str) -> String {
    format!(
        "{{steps: [10%, 50%], step: {{at_least: 1s, warmup: 0s, min_requests: 5}}, gates: {{errors: {{worse_by: 50pp}}, latency: never}}, {more}}}"
    )
}

/// A receiver that answers what it is told to.
async fn receiver(status: Arc<AtomicU16>) -> Backend {
    Backend::with(move |_| answer(status.load(Ordering::SeqCst))).await
}

fn planned(legacy: &Backend, extracted: &Backend, rollout: &str) -> Plan {
    let plan = plan(legacy, extracted, rollout);
    std::fs::write(plan.dir().join("hook.key"), KEY).unwrap();
    plan
}

/// Waits until so many came of a type, and answers all of them.
async fn told(receiver: &Backend, kind: &str, least: usize) -> Vec<(HeaderMap, Value)> {
    let begun = Instant::now();
    loop {
        let seen = receiver.seen().into_iter().map(|seen| {
            let body: Value = serde_json::from_slice(&seen.body).unwrap();
            (seen.headers, body)
        });
        let found: Vec<_> = seen.filter(|(_, body)| body["type"] == kind).collect();
        if found.len() >= least {
            return found;
        }
        let all: Vec<_> = receiver.seen().into_iter().map(|seen| seen.body).collect();
        assert!(begun.elapsed() < PATIENCE, "{} of {kind} in {all:?}", found.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// As a receiver checks it; the scheme's own example is checked in the core.
fn is_signed(headers: &HeaderMap, body: &[u8]) -> bool {
    let header = |name: &str| headers[name].to_str().unwrap();
    let (id, at) = (header("webhook-id"), header("webhook-timestamp").parse().unwrap());
    let signed = signature(&Keys::parse(KEY).unwrap(), id, at, std::str::from_utf8(body).unwrap());
    header("webhook-signature") == signed
}

#[tokio::test]
async fn a_hook_holds_each_step_until_it_passes_and_is_told_of_the_rest() {
    let (legacy, extracted) = (service(Arc::default()).await, service(Arc::default()).await);
    let status = Arc::new(AtomicU16::new(403));
    let (gate, log) = (receiver(Arc::clone(&status)).await, receiver(Arc::new(AtomicU16::new(204))).await);
    let keys = format!(
        "hooks: [{{webhook: '{}/gate?secret=hush', key_file: hook.key, when: [pre_step, confirm_promotion]}}, {{webhook: '{}/log', key_file: hook.key, when: [event]}}]",
        gate.url(),
        log.url()
    );
    let proxy = planned(&legacy, &extracted, &quick(&keys)).start().await;
    let users = Users::new();
    status_says(&proxy, "waits for hook 127.0.0.1: answers 403").await;
    assert_eq!(route(&proxy).await["rollout"]["reason"], "hook");
    let asked = told(&gate, "rollout.pre_step", 1).await;
    assert_eq!((&asked[0].1["from"], &asked[0].1["to"]), (&"none".into(), &"10%".into()));
    for seen in gate.seen() {
        assert!(is_signed(&seen.headers, &seen.body), "{seen:?}");
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/gate?secret=hush"));
    }
    // What holds it is told, and asked again after a while.
    let held = told(&log, "rollout.hold", 1).await;
    assert_eq!(held[0].1["reason"], "hook");
    status.store(200, Ordering::SeqCst);
    climb(&proxy, &users, "50%").await;
    let asked = told(&gate, "rollout.confirm_promotion", 1).await;
    assert_eq!((&asked[0].1["from"], &asked[0].1["to"], &asked[0].1["verdict"]), (&"10%".into(), &"50%".into(), &"promote".into()));
    assert!(asked[0].1["numbers"]["gates"]["errors"]["log_e_harm"].is_number(), "{}", asked[0].1);
    let steps = told(&log, "rollout.post_step", 2).await;
    assert_eq!((&steps[1].1["route"], &steps[1].1["to"], &steps[1].1["by"]), (&"cart".into(), &"50%".into(), &"rollout".into()));
    // A lowering asks nobody, and whoever did it.
    status.store(500, Ordering::SeqCst);
    let before = gate.seen().len();
    let (is_well, said) = cli(&proxy, &["rollback", "cart", "--reason", "wrong totals"]);
    assert!(is_well, "{said}");
    assert_eq!(route(&proxy).await["weight_in_force"], "0%");
    let back = told(&log, "rollout.rollback", 1).await;
    assert!(back[0].1["why"].as_str().unwrap().contains("wrong totals"), "{}", back[0].1);
    assert_eq!(gate.seen().len(), before);
    assert!(!proxy.log_so_far().contains("hush"), "a URL is a secret");
}

#[tokio::test]
async fn tries_of_one_message_have_one_id_and_a_slack_is_told_in_a_line() {
    let (legacy, extracted) = (service(Arc::default()).await, service(Arc::default()).await);
    let status = Arc::new(AtomicU16::new(503));
    let (flaky, slack) = (receiver(Arc::clone(&status)).await, receiver(Arc::new(AtomicU16::new(200))).await);
    let keys = format!(
        "hooks: [{{webhook: '{}', key_file: hook.key, when: [post_step], retries: 5}}], notify: [{{webhook_file: slack.url, format: slack}}]",
        flaky.url(),
    );
    let plan = planned(&legacy, &extracted, &quick(&keys));
    std::fs::write(plan.dir().join("slack.url"), format!("{}/services/T0/B0\n", slack.url())).unwrap();
    let proxy = plan.start().await;
    told(&flaky, "rollout.post_step", 2).await;
    status.store(200, Ordering::SeqCst);
    let sample = r#"strangler_hooks_total{hook="post_step",outcome="delivered",route="cart"}"#;
    proxy.wait_for_metric(sample, 1.0).await;
    let tried = told(&flaky, "rollout.post_step", 3).await;
    let ids: std::collections::BTreeSet<_> =
        tried.iter().map(|(headers, body)| (headers["webhook-id"].to_str().unwrap(), body["id"].as_str().unwrap())).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let text: Value = serde_json::from_slice(&slack.seen()[0].body).unwrap();
    assert!(text["text"].as_str().unwrap().starts_with("*cart* went up, none → 10%: "), "{text}");
    assert_eq!(slack.seen()[0].target, "/services/T0/B0");
}

/// A receiver that takes the request and never answers, or answers without end, or sends elsewhere.
async fn wicked(kind: &'static str, elsewhere: String) -> Backend {
    Backend::serving(Arc::default(), move |mut stream| {
        let elsewhere = elsewhere.clone();
        async move {
            let mut head = [0; 4_096];
            let _ = stream.read(&mut head).await;
            let answer = match kind {
                "redirect" => format!("HTTP/1.1 307 Moved\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n\r\n"),
                "endless head" => {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
                    while stream.write_all(b"x-y: zzzzzzzzzzzzzzzzzzzzzzzz\r\n").await.is_ok() {}
                    return;
                }
                "garbage" => "SSH-2.0-OpenSSH\r\n".to_owned(),
                _ => {
                    std::future::pending::<()>().await;
                    return;
                }
            };
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    })
    .await
}

#[tokio::test]
async fn wicked_receivers_hold_the_raise_with_words_and_nothing_else() {
    let (legacy, extracted) = (service(Arc::default()).await, service(Arc::default()).await);
    let elsewhere = receiver(Arc::new(AtomicU16::new(200))).await;
    for (kind, says) in [
        ("silent", "no answer within 1s"),
        ("redirect", "answers 307"),
        ("endless head", "broke off"),
        ("garbage", "broke off"),
        ("refusing", "cannot connect"),
        ("unknown name", "its name has no address"),
        ("admin", "this is the proxy's own admin address"),
    ] {
        let receiver = wicked(kind, elsewhere.url()).await;
        let nobody = Backend::refusing().await;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = match kind {
            "refusing" => nobody.url(),
            "unknown name" => "https://nobody.invalid/x".to_owned(),
            "admin" => format!("http://localhost:{port}/livez"),
            _ => receiver.url(),
        };
        let keys = format!("hooks: [{{webhook: '{url}', key_file: hook.key, when: [pre_step], timeout: 1s, retries: 0}}]");
        let mut plan = planned(&legacy, &extracted, &quick(&keys));
        if kind == "admin" {
            plan = plan.without("--admin").argument("--admin").argument(&format!("127.0.0.1:{port}"));
        }
        let proxy = plan.start().await;
        if kind == "unknown name" {
            // A name server may be slow to say so.
            status_says(&proxy, "waits for hook nobody.invalid: ").await;
        } else {
            status_says(&proxy, says).await;
        }
        assert_eq!(route(&proxy).await["weight_in_force"], "0%", "{kind}");
    }
    assert!(elsewhere.seen().is_empty(), "a redirect is not followed");
}

#[tokio::test]
async fn a_receiver_that_never_answers_delays_no_rollback_and_drops_what_is_too_much() {
    let is_failing = Arc::<std::sync::atomic::AtomicBool>::default();
    let (legacy, extracted) = (service(Arc::default()).await, service(Arc::clone(&is_failing)).await);
    let silent = Backend::hanging().await;
    let keys = format!("hooks: [{{webhook: '{}', key_file: hook.key, when: [event, rollback], timeout: 1m}}]", silent.url());
    let proxy = planned(&legacy, &extracted, &quick(&keys)).start().await;
    let users = Users::new();
    climb(&proxy, &users, "50%").await;
    is_failing.store(true, Ordering::SeqCst);
    let (all, good) = climb(&proxy, &users, "0%").await;
    assert_eq!(all, good);
    // Its end does not wait for it either.
    let begun = Instant::now();
    let mut proxy = proxy;
    proxy.signal("TERM");
    assert!(proxy.wait().success());
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_certificate_that_cannot_be_proven_is_not_spoken_to() {
    let (legacy, extracted) = (service(Arc::default()).await, service(Arc::default()).await);
    let (ours, other) = (Authority::new(), Authority::new());
    let receiver = secure_receiver(&ours).await;
    for (ca, is_good) in [(&ours, true), (&other, false)] {
        let keys = format!(
            "hooks: [{{webhook: 'https://localhost:{}/x', key_file: hook.key, when: [pre_step], ca: ca.pem, retries: 0}}]",
            receiver.address.port()
        );
        let plan = planned(&legacy, &extracted, &quick(&keys));
        std::fs::write(plan.dir().join("ca.pem"), &ca.pem).unwrap();
        let proxy = plan.start().await;
        if is_good {
            climb(&proxy, &Users::new(), "10%").await;
        } else {
            status_says(&proxy, "waits for hook localhost: TLS failed").await;
        }
    }
}

async fn secure_receiver(authority: &Authority) -> Backend {
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let identity = authority.identity(&["localhost"]);
    let chain = CertificateDer::pem_slice_iter(identity.cert.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Backend::serving(Arc::default(), move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut head = [0; 16_384];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            let _ = stream.flush().await;
        }
    })
    .await
}

/// A server that speaks as Prometheus does: this value, or as it is told.
async fn prometheus(says: Arc<std::sync::Mutex<String>>) -> Backend {
    Backend::with(move |seen| {
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/prom/api/v1/query"));
        assert_eq!(&seen.body[..], b"query=sum%28rate%28errors%5B5m%5D%29%29");
        let result = says.lock().unwrap().clone();
        let body = format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{result}]}}}}"#);
        Response::new(Bytes::from(body))
    })
    .await
}

fn sample(value: &str) -> String {
    format!(r#"{{"metric":{{}},"value":[1790000000.1,"{value}"]}}"#)
}

fn vetoed(more: &str) -> String {
    quick("roll_back_to: legacy").replace(
        "latency: never",
        &format!("latency: never, prometheus: [{{query: 'sum(rate(errors[5m]))', max: 0.01, every: 1s, timeout: 1s{more}}}]"),
    )
}

#[tokio::test]
async fn a_query_vetoes_and_its_silence_holds() {
    let (legacy, extracted) = (service(Arc::default()).await, service(Arc::default()).await);
    let says = Arc::new(std::sync::Mutex::new(sample("0.02")));
    let server = prometheus(Arc::clone(&says)).await;
    let proxy = planned(&legacy, &extracted, &vetoed(""))
        .config(&format!("prometheus: {{url: '{}/prom/'}}\n", server.url()))
        .start()
        .await;
    let users = Users::new();
    climb(&proxy, &users, "10%").await;
    users.ask(&proxy, 400).await;
    for (result, words) in [
        (sample("0.02"), "`sum(rate(errors[5m]))` is 0.02, above 0.01"),
        (String::new(), "`sum(rate(errors[5m]))`: no data"),
        (sample("NaN"), "the value is NaN"),
        (format!("{},{}", sample("0"), sample("0")), "2 series where one is expected"),
        ("<html>".to_owned(), "none of Prometheus'"),
    ] {
        *says.lock().unwrap() = result;
        status_says(&proxy, words).await;
    }
    assert_eq!(route(&proxy).await["weight_in_force"], "10%");
    *says.lock().unwrap() = sample("0.01");
    climb(&proxy, &users, "50%").await;
}

#[tokio::test]
async fn a_server_that_is_silent_holds_unless_the_query_says_that_it_may_pass() {
    let (legacy, extracted) = (service(Arc::default()).await, service(Arc::default()).await);
    let silent = Backend::hanging().await;
    let nowhere = planned(&legacy, &extracted, &vetoed("")).start().await;
    let holds = planned(&legacy, &extracted, &vetoed(&format!(", url: '{}'", silent.url()))).start().await;
    let passes = format!(", url: '{}', no_data: pass", silent.url());
    let passes = planned(&legacy, &extracted, &vetoed(&passes)).start().await;
    climb(&passes, &Users::new(), "50%").await;
    for (proxy, words) in [(&nowhere, "no server to ask"), (&holds, "no answer within 1s")] {
        let users = Users::new();
        climb(proxy, &users, "10%").await;
        users.ask(proxy, 400).await;
        status_says(proxy, words).await;
        assert_eq!(route(proxy).await["weight_in_force"], "10%");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_hook_is_said_without_its_secret() {
    let (legacy, extracted) = (Backend::refusing().await, Backend::refusing().await);
    let keys = "hooks: [{webhook: 'ftp://ci.example.com/hush', key_file: hook.key, when: [pre_stp]}], notify: [{webhook: 'https://u:hush@h', when: [hold]}, {webhook_file: gone.url}]";
    let plan = planned(&legacy, &extracted, &quick(keys));
    std::fs::write(plan.routes_file(), plan.text()).unwrap();
    let output = crate::support::proxy::strangler().arg("check").arg(plan.routes_file()).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(78), "{said}");
    for words in ["expected `https://`", "did you mean `pre_step`", "a user and a password in a URL are not taken"] {
        assert!(said.contains(words), "{words} is not in\n{said}");
    }
    assert!(!said.contains("hush"), "{said}");
    // Files are looked at once the text itself is right.
    let keys = "hooks: [{webhook: 'https://ci.example.com', key_file: short.key, when: [event]}], notify: [{webhook_file: gone.url}]";
    let plan = planned(&legacy, &extracted, &quick(keys));
    std::fs::write(plan.dir().join("short.key"), "hush").unwrap();
    std::fs::write(plan.routes_file(), plan.text()).unwrap();
    let output = crate::support::proxy::strangler().arg("check").arg(plan.routes_file()).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    for words in ["a key has from 24 to 1024 bytes", "gone.url"] {
        assert!(said.contains(words), "{words} is not in\n{said}");
    }
    assert!(!said.contains("hush"), "{said}");
}

