//! What people do with what differed: accept it, ask again, read which of it is whose.

use std::process::Output;

use bytes::Bytes;
use http::{Method, Response};
use serde_json::Value;

use crate::idempotency::restarted;
use crate::support::backend::{Backend, Seen};
use crate::support::proxy::{Proxy, ask_admin, strangler};

fn json(body: String) -> Response<Bytes> {
    Response::builder().header("content-type", "application/json").body(Bytes::from(body)).unwrap()
}

async fn sides(legacy: &'static str, extracted: &'static str) -> (Backend, Backend) {
    let legacy = Backend::with(move |_| json(legacy.to_owned())).await;
    (legacy, Backend::with(move |_| json(extracted.to_owned())).await)
}

/// `compare` is `true` or a block; nothing is asked again but by those who are told to.
fn route(compare: &str) -> String {
    let more = compare.strip_prefix('{').map_or_else(|| "}".to_owned(), |rest| format!(", {rest}"));
    format!(
        "{{name: total, match: 'GET /total/{{id}}', extracted: extracted, shadow: {{max_rps: 10000}}, \
         compare: {{a_a: {{mode: never}}, recheck: {{times: 0}}{more}}}"
    )
}

/// A verb with the proxy's own token.
fn run(proxy: &Proxy, verb: &[&str]) -> Output {
    let mut command = strangler();
    command.args(verb).args(["--admin", &format!("http://{}", proxy.admin), "--state-dir"]).arg(proxy.state_dir());
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    let texts = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    texts.concat()
}

async fn listed(proxy: &Proxy, least: usize) -> Value {
    for _ in 0..400 {
        let answer = proxy.admin(Method::GET, "/api/v1/divergences?limit=500", "").await;
        let found: Value = serde_json::from_str(&answer.body).unwrap();
        if found["divergences"].as_array().is_some_and(|all| all.len() >= least) {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("{least} divergences were never listed");
}

fn compared(result: &str) -> String {
    format!("strangler_comparisons_total{{result=\"{result}\",route=\"total\"}}")
}

#[tokio::test]
async fn an_accepted_cause_is_expected_over_a_restart_until_it_is_taken_back() {
    let (legacy, extracted) = sides(r#"{"total": 1, "tax": 1}"#, r#"{"total": 2, "tax": 1}"#).await;
    let proxy = Proxy::between(&legacy, &extracted).route(&route("true")).start().await;
    proxy.get("/total/7").await;
    let signature = listed(&proxy, 1).await["causes"][0]["signature"].as_str().unwrap().to_owned();

    let why = "MIG-142: rounded half up";
    let accepted = run(&proxy, &["accept", "total", &signature, "--until", "2999-12-31", "--reason", why]);
    assert!(accepted.status.success(), "{}", said(&accepted));
    proxy.get("/total/8").await;
    proxy.wait_for_metric(&compared("expected"), 1.0).await;
    assert_eq!(proxy.count(&compared("mismatch")).await, 1);
    for (signature, why) in [("0123456789abcdef", "has no cause"), (&*signature, "is over already")] {
        let refused = run(&proxy, &["accept", "total", signature, "--until", "2020-01-01", "--reason", "r"]);
        let is_unknown = said(&refused).contains("is over already") || said(&refused).contains(why);
        assert!(!refused.status.success() && is_unknown, "{}", said(&refused));
    }

    let text = std::fs::read_to_string(proxy.routes_file()).unwrap();
    let again = restarted(proxy, &text).await;
    again.get("/total/9").await;
    again.wait_for_metric(&compared("expected"), 1.0).await;
    let told = said(&run(&again, &["divergences", "total"]));
    for part in [&*signature, "value at /total", "is intended until 2999-12-31", why] {
        assert!(told.contains(part), "{part} is not in:\n{told}");
    }

    let back = run(&again, &["unaccept", "total", &signature, "--reason", "a bug after all"]);
    assert!(back.status.success(), "{}", said(&back));
    again.get("/total/10").await;
    again.wait_for_metric(&compared("mismatch"), 1.0).await;
    let twice = run(&again, &["unaccept", "total", &signature, "--reason", "r"]);
    assert!(said(&twice).contains("is not accepted"), "{}", said(&twice));
    let audit: Value = serde_json::from_str(&again.admin(Method::GET, "/api/v1/audit", "").await.body).unwrap();
    let done: Vec<(&str, bool)> = audit["audit"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["what"].as_str().unwrap(), entry["accepted"].as_bool().unwrap()))
        .collect();
    assert!(done.contains(&("accept", true)) && done.contains(&("accept", false)), "{done:?}");
    assert!(done.contains(&("unaccept", true)) && done.contains(&("unaccept", false)), "{done:?}");
}

#[tokio::test]
async fn a_side_that_fails_is_never_an_intended_change() {
    let (legacy, _) = sides(r#"{"total": 1}"#, "").await;
    let extracted = Backend::answering(500, "broken").await;
    let proxy = Proxy::between(&legacy, &extracted).route(&route("true")).start().await;
    proxy.get("/total/7").await;
    let signature = listed(&proxy, 1).await["causes"][0]["signature"].as_str().unwrap().to_owned();

    let refused = run(&proxy, &["accept", "total", &signature, "--reason", "r"]);

    assert!(said(&refused).contains("a side that failed"), "{}", said(&refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_asked_again_of_both_sides_and_what_was_not_kept_is_said() {
    let numbered = |first: &'static str| {
        move |seen: &Seen| {
            let token = seen.headers.get("authorization").is_some();
            json(format!("{{\"total\": {first}, \"with_token\": {token}, \"target\": \"{}\"}}", seen.target))
        }
    };
    let legacy = Backend::with(numbered("1")).await;
    let extracted = Backend::with(numbered("2")).await;
    let keep = "{keep: {values: [/total, /with_token], target: [id, page]}}";
    let proxy = Proxy::between(&legacy, &extracted).route(&route(keep)).start().await;

    proxy.send(Method::GET, "/total/7?page=2", &[("authorization", "Bearer s3cr3t")], "").await;
    let record = listed(&proxy, 1).await["divergences"][0].clone();
    let id = record["id"].as_str().unwrap();
    let again = run(&proxy, &["replay", id, "-H", "authorization: Bearer other"]);

    let told = said(&again);
    assert!(again.status.success() && told.contains("both sides were asked again, and differ"), "{told}");
    assert!(told.contains("/total") && told.contains("1 → 2") && !told.contains("Bearer"), "{told}");
    for side in [&legacy, &extracted] {
        let seen = side.seen();
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[1].target, "/total/7?page=2");
        assert_eq!(seen[1].headers["strangler-shadow"], "1");
        assert_eq!(seen[1].headers["authorization"], "Bearer other");
    }
    let curl = record["curl"]["extracted"].as_str().unwrap();
    let expected =
        format!("curl -sS -i -X GET \"{}/total/7?page=2\" -H \"authorization: $AUTHORIZATION\"", extracted.url());
    assert_eq!(curl, expected);
    assert_eq!(record["replay"], format!("strangler replay {id}"));

    proxy.get("/total/7?page=2&coupon=SAVE%2010").await;
    let hidden = listed(&proxy, 2).await["divergences"][0].clone();
    let refused = said(&run(&proxy, &["replay", hidden["id"].as_str().unwrap()]));
    assert!(
        refused.contains("the values of coupon were not kept") && refused.contains("target: [coupon]"),
        "{refused}"
    );
    assert!(hidden["curl"]["legacy"].as_str().unwrap().contains("/total/7?page=2&coupon=${COUPON}\""));
    assert!(said(&run(&proxy, &["replay", "ffff"])).contains("no divergence \"ffff\" is stored"));
    assert_eq!(legacy.seen().len(), 3);

    // What must not be asked for by us is not, however it came on record.
    let routes = std::fs::read_to_string(proxy.routes_file()).unwrap();
    proxy.write_routes(&routes.replace("shadow: {", "shadow: {never: ['/total/**'], "));
    let mut refused = said(&run(&proxy, &["replay", id]));
    for _ in 0..100 {
        if refused.contains("`shadow.never` names this path") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        refused = said(&run(&proxy, &["replay", id]));
    }
    assert!(refused.contains("`shadow.never` names this path"), "{refused}");
    let asked = legacy.seen().len();
    run(&proxy, &["replay", id]);
    assert_eq!(legacy.seen().len(), asked);
}

#[tokio::test]
async fn the_keys_of_a_map_are_hidden_though_they_read_like_names() {
    let letter = |number: usize| char::from(b'a' + u8::try_from(number % 20).unwrap());
    let users: Vec<String> = (0..100).map(|number| format!("ulla{}{}", letter(number / 20), letter(number))).collect();
    let of = |value: u8| {
        move |seen: &Seen| {
            let user = seen.headers["x-user"].to_str().unwrap().to_owned();
            json(format!("{{\"ages\": {{\"{user}\": {value}}}}}"))
        }
    };
    let (legacy, extracted) = (Backend::with(of(1)).await, Backend::with(of(2)).await);
    let proxy = Proxy::between(&legacy, &extracted).route(&route("{keep: {per_signature: 500}}")).start().await;

    for user in &users {
        proxy.send(Method::GET, "/total/7", &[("x-user", user)], "").await;
    }
    let found = listed(&proxy, users.len()).await;

    let text = found.to_string();
    let shown = users.iter().filter(|user| text.contains(&***user)).count();
    assert!(shown <= 32, "{shown} of {} users are named", users.len());
    let causes = found["causes"].as_array().unwrap();
    assert_eq!(causes[0]["cause"]["place"], "/ages/*");
    assert_eq!(causes[0]["pairs"], 100 - 32);
}

#[tokio::test]
async fn no_more_bytes_of_a_route_are_kept_than_its_file_allows() {
    let (legacy, extracted) = sides(r#"{"total": 1}"#, r#"{"total": 2}"#).await;
    let keep = "{keep: {per_signature: 500, how: newest, max_bytes: 8KiB}}";
    let proxy = Proxy::between(&legacy, &extracted).route(&route(keep)).start().await;

    for _ in 0..60 {
        proxy.get("/total/7").await;
    }
    proxy.wait_for_metric(&compared("mismatch"), 60.0).await;
    let mut bytes = usize::MAX;
    for _ in 0..200 {
        let listed = ask_admin(proxy.admin, &proxy.state_dir(), Method::GET, "/api/v1/divergences?limit=500", "").await;
        let found: Value = serde_json::from_str(&listed.unwrap().body).unwrap();
        let all = found["divergences"].as_array().unwrap();
        bytes = all.iter().map(|one| one["record"].to_string().len()).sum();
        if found["causes"][0]["pairs"] == 60 && bytes <= 8 << 10 {
            assert!(!all.is_empty());
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("{bytes} bytes are kept");
}
