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
    assert_eq!(
        (&asked[0].1["from"], &asked[0].1["to"], &asked[0].1["verdict"]),
        (&"10%".into(), &"50%".into(), &"promote".into())
    );
    assert!(asked[0].1["numbers"]["gates"]["errors"]["log_e_harm"].is_number(), "{}", asked[0].1);
    let steps = told(&log, "rollout.post_step", 2).await;
    assert_eq!(
        (&steps[1].1["route"], &steps[1].1["to"], &steps[1].1["by"]),
        (&"cart".into(), &"50%".into(), &"rollout".into())
    );
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
    let ids: std::collections::BTreeSet<_> = tried
        .iter()
        .map(|(headers, body)| (headers["webhook-id"].to_str().unwrap(), body["id"].as_str().unwrap()))
        .collect();
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
        let keys =
            format!("hooks: [{{webhook: '{url}', key_file: hook.key, when: [pre_step], timeout: 1s, retries: 0}}]");
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
    let keys =
        format!("hooks: [{{webhook: '{}', key_file: hook.key, when: [event, rollback], timeout: 1m}}]", silent.url());
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
        &format!(
            "latency: never, prometheus: [{{query: 'sum(rate(errors[5m]))', max: 0.01, every: 1s, timeout: 1s{more}}}]"
        ),
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

#[tokio::test]
async fn an_objective_takes_over_where_no_legacy_is_left() {
    let is_failing = Arc::<std::sync::atomic::AtomicBool>::default();
    let (legacy, extracted) = (service(Arc::default()).await, service(Arc::clone(&is_failing)).await);
    let rollout = quick("slo: {success: 95%}").replace("[10%, 50%]", "[50%, 100%]");
    let keys = format!("{rollout}, fallback: never");
    let proxy = planned(&legacy, &extracted, &keys).start().await;
    let users = Users::new();
    climb(&proxy, &users, "100%").await;
    users.ask(&proxy, 150).await;
    status_says(&proxy, "it is at its last step").await;
    let begun = Instant::now();
    while route(&proxy).await["rollout"]["gates"]["slo"]["state"] != "passed" {
        users.ask(&proxy, 20).await;
        assert!(begun.elapsed() < PATIENCE, "{:#}", route(&proxy).await);
    }
    is_failing.store(true, Ordering::SeqCst);
    climb(&proxy, &users, "0%").await;
    let (_, said) = cli(&proxy, &["audit", "cart"]);
    assert!(said.contains("rollout_back"), "{said}");
}

#[tokio::test]
async fn a_service_that_answers_402_to_everything_is_rolled_back_whatever_the_route_calls_it() {
    let legacy = service(Arc::default()).await;
    let extracted = Backend::with(|_| answer(402)).await;
    let ladder = quick("roll_back_to: legacy").replace("[10%, 50%]", "[50%, 60%]").replace("50pp", "5pp");
    for success in ["", ", success: {status: [402]}"] {
        let proxy = planned(&legacy, &extracted, &format!("{ladder}{success}")).start().await;
        let users = Users::new();
        climb(&proxy, &users, "50%").await;
        climb(&proxy, &users, "0%").await;
        let (_, said) = cli(&proxy, &["audit", "cart"]);
        assert!(said.contains("answers 4xx more often than legacy"), "{said}");
    }
}

#[tokio::test]
async fn what_the_route_calls_a_success_is_no_failure_of_its_rollout() {
    let legacy = service(Arc::default()).await;
    let extracted = Backend::with(|_| answer(503)).await;
    let ladder = quick("roll_back_to: legacy").replace("[10%, 50%]", "[50%, 60%]").replace("50pp", "20pp");
    for (success, expect) in [("", "0%"), (", success: {status: [503]}", "60%")] {
        let proxy = planned(&legacy, &extracted, &format!("{ladder}{success}")).start().await;
        let users = Users::new();
        climb(&proxy, &users, "50%").await;
        climb(&proxy, &users, expect).await;
    }
}

/// A service whose calls end so.
async fn grpc_service(status: &'static str, in_the_head: bool) -> Backend {
    use http_body_util::BodyExt as _;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    Backend::serving(Arc::default(), move |stream| async move {
        let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| async move {
            let _ = request.into_body().collect().await;
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", status.parse().unwrap());
            let (mut sender, body) = http_body_util::channel::Channel::<Bytes>::new(4);
            let mut answer = Response::builder().header("content-type", "application/grpc").body(body).unwrap();
            if in_the_head {
                answer.headers_mut().extend(trailers);
            } else {
                let _ = sender.send_data(Bytes::from_static(b"\0\0\0\0\0")).await;
                let _ = sender.send_trailers(trailers).await;
            }
            Ok::<_, std::convert::Infallible>(answer)
        });
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    })
    .await
}

#[tokio::test]
async fn a_grpc_service_is_judged_by_how_its_calls_end() {
    use http_body_util::{BodyExt as _, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let legacy = grpc_service("0", false).await;
    for (status, in_the_head, words) in
        [("14", false, "fail"), ("14", true, "fail"), ("7", false, "answers 4xx more often"), ("0", false, "")]
    {
        let extracted = grpc_service(status, in_the_head).await;
        let (legacy, extracted) = (legacy.url().replace("http:", "h2c:"), extracted.url().replace("http:", "h2c:"));
        let ladder = quick("roll_back_to: legacy").replace("[10%, 50%]", "[50%, 60%]").replace("50pp", "20pp");
        let text = format!(
            "version: 1\nlegacy: {legacy}\njourneys: {{users: {{sticky_on: ['header:x-user-id'], lease: 0s}}}}\nroutes:\n  - {{name: cart, match: 'POST /shop.Cart/Get', extracted: {extracted}, journey: users, breaker: never, rollout: {ladder}}}\n",
        );
        let proxy = Plan::file(&text).argument("--trusted-proxies=127.0.0.0/8").start().await;
        let stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let begun = Instant::now();
        for user in 0u32.. {
            let request = http::Request::post("http://shop.example.com/shop.Cart/Get")
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .header("x-user-id", format!("user-{user}"))
                .header("x-forwarded-for", format!("10.{}.{}.{}", user >> 16 & 255, user >> 8 & 255, user & 255))
                .body(Full::new(Bytes::from_static(b"\0\0\0\0\0")))
                .unwrap();
            let _ = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();
            if user % 50 == 0 {
                let now = route(&proxy).await;
                let why = now["rollout"]["latched"].as_str().unwrap_or_default();
                if if words.is_empty() { now["weight_in_force"] == "60%" } else { why.contains(words) } {
                    break;
                }
                assert!(!words.is_empty() || why.is_empty(), "{why}");
                assert!(begun.elapsed() < PATIENCE, "{status}, {in_the_head}: {:#}", route(&proxy).await);
            }
        }
    }
}

/// What waits is bounded: 10,000 messages at once to one that never answers, and all the others get theirs.
#[tokio::test]
async fn ten_thousand_messages_at_once_are_bounded_and_a_rollback_is_not_lost() {
    use strangler_core::hook::{Kind, Message};
    let (silent, well) = (Backend::hanging().await, receiver(Arc::new(AtomicU16::new(200))).await);
    let table = strangler::config::load(
        format!(
            "version: 1\nlegacy: http://127.0.0.1:1\nroutes: [{{name: cart, match: /cart, extracted: http://127.0.0.1:2, rollout: {{notify: [{{webhook: '{}', timeout: 1m}}, {{webhook: '{}', when: [roll_back]}}]}}}}]",
            silent.url(),
            well.url()
        )
        .as_bytes(),
    )
    .table
    .unwrap();
    let policy = table.routes()[0].rollout.clone().unwrap();
    let metrics = strangler::telemetry::metrics::Metrics::new("test").unwrap();
    let hooks = strangler::hooks::Hooks::new(tokio::runtime::Handle::current(), Arc::clone(&metrics), Vec::new());
    let message = |kind| Message {
        kind,
        route: "cart".parse().unwrap(),
        from: "10%".to_owned(),
        to: "50%".to_owned(),
        verdict: "hold",
        reason: "hook",
        why: "because".to_owned(),
        by: "rollout".to_owned(),
        release: None,
        numbers: Value::Null,
        at_unix_ms: 0,
    };
    // One is on its way, and stays so.
    hooks.tell(&policy, message(Kind::Hold));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    for index in 0..10_000 {
        hooks.tell(&policy, message(if index == 5_000 { Kind::Rollback } else { Kind::Hold }));
    }
    eprintln!("10,000 messages were taken in {:?}", begun.elapsed());
    told(&well, "rollout.rollback", 1).await;
    let waiting = hooks.waiting();
    assert!(waiting <= 256, "{waiting}");
    assert_eq!(hooks.waiting_rollbacks(), 1);
}
