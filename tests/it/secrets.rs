//! Secrets that are planted wherever a request or an answer can have them, and looked for wherever the proxy writes.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use bytes::Bytes;
use http::{Method, Response};

use crate::support::backend::{Backend, Seen};
use crate::support::proxy::Proxy;

const PLANTED: [&str; 30] = [
    "4111111111111111",
    "5500000000000004",
    "378282246310005",
    "6011111111111117",
    "4012888888881881",
    "5105105105105100",
    "30569309025904",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjMifQ.c2lnbmF0dXJlMQ",
    "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiI0NTYifQ.c2lnbmF0dXJlMg",
    "eyJ0eXAiOiJKV1QifQ.eyJuYW1lIjoiYWRhIn0.c2lnbmF0dXJlMw",
    "eyJraWQiOiJhYmMifQ.eyJzY29wZSI6ImFsbCJ9.c2lnbmF0dXJlNA",
    "eyJhbGciOiJub25lIn0.eyJzdWIiOiI3ODkifQ.c2lnbmF0dXJlNQ",
    "ada.lovelace@example.com",
    "grace+hopper@example.org",
    "alan_turing@example.net",
    "j.doe@mail.example.co.uk",
    "x@localhost.example",
    "SHOPSID-8f14e45fceea167a",
    "JSESSIONID.1A2B3C4D5E6F",
    "remember-me-Zm9vOmJhcg",
    "csrftoken-xYz12AbC34dEf",
    "sessionid.kd83hf73hd73",
    "+4930901820555",
    "DE89370400440532013000",
    "GB29NWBK60161331926819",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_abcdefghijklmnopqrst0123456789",
    "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
    "xoxb-123456789012-abcdefghijkl",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv",
];

/// Twenty tokens of no known shape: letters only, digits only, mixed; 9 to 28 characters.
fn random_tokens() -> Vec<String> {
    const SETS: [&[u8]; 4] = [
        b"abcdefghijklmnopqrstuvwxyz",
        b"0123456789",
        b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
        b"ABCDEFGHJKMNPQRSTVWXYZ0123456789-",
    ];
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = move || {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(dice >> 40).unwrap()
    };
    let token = |number: usize| {
        let set = SETS[number % 4];
        (0..9 + number).map(|_| char::from(set[roll() % set.len()])).collect()
    };
    (0..20).map(token).collect()
}

fn gzip(plain: &str) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(plain.as_bytes()).unwrap();
    writer.finish().unwrap()
}

/// An answer that is full of the secret, as the path's first segment asks. `is_other`: that of the other side.
fn answer(seen: &Seen, is_other: bool) -> Response<Bytes> {
    let secret = seen.headers["x-plain"].to_str().unwrap();
    let n = if is_other { "2" } else { "1" };
    let document = format!(
        r#"{{"n": {n}, "note": "{secret}{n}", "inside": ["{secret}", "{n}{secret}"], "by_key": {{"{secret}": {n}}}, "only_{n}": "{secret}",
            "items": [{{"id": "{secret}", "v": {n}}}], "list": [{n}, {{"deep": "{secret}"}}]}}"#
    );
    let kind = seen.target.split('/').nth(1).unwrap();
    let (media, body) = match kind {
        "json" => ("application/json", document.into_bytes()),
        "gzip" => ("application/json", gzip(&document)),
        "form" => ("application/x-www-form-urlencoded", format!("a={secret}{n}&{secret}={n}&b={n}").into_bytes()),
        "multipart" => (
            "multipart/form-data; boundary=bound",
            format!("--bound\r\ncontent-disposition: form-data; name=\"{secret}\"\r\n\r\n{secret}{n}\r\n--bound--\r\n")
                .into_bytes(),
        ),
        "html" => (
            "text/html",
            format!("<p id=\"{secret}\">{secret}{n}</p><!-- {secret} --><a href=\"/{secret}{n}\">x</a>").into_bytes(),
        ),
        "xml" => ("application/xml", format!("<a b=\"{secret}{n}\"><c>{secret}{n}</c></a>").into_bytes()),
        _ => ("text/plain", format!("one\n{secret}{n}\nthree {secret}").into_bytes()),
    };
    let mut response = Response::builder()
        .header("content-type", media)
        .header("set-cookie", format!("sid={secret}{n}; Path=/; HttpOnly"))
        .header("location", format!("/next/{secret}{n}?token={secret}"))
        .header("x-answer", format!("{secret}{n}"))
        .header("etag", format!("\"{secret}{n}\""));
    if kind == "gzip" {
        response = response.header("content-encoding", "gzip");
    }
    response.body(Bytes::from(body)).unwrap()
}

/// Names of the secrets that stand in `bytes`.
fn found_in(bytes: &[u8], secrets: &[String]) -> Vec<String> {
    let is_in = |secret: &&String| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
    secrets.iter().filter(is_in).cloned().collect()
}

/// Every file below a directory, with what is found in it.
fn search(dir: &Path, secrets: &[String], report: &mut String) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files += search(&path, secrets, report);
        } else if let Ok(bytes) = std::fs::read(&path) {
            files += 1;
            for secret in found_in(&bytes, secrets) {
                let _ = writeln!(report, "{secret} is in {}", path.display());
            }
        }
    }
    files
}

#[tokio::test]
async fn no_planted_secret_is_in_the_store_the_logs_the_metrics_or_the_api() {
    let mut secrets: Vec<String> = PLANTED.iter().map(|secret| (*secret).to_owned()).collect();
    secrets.extend(random_tokens());
    assert_eq!(secrets.len(), 50);
    let legacy = Backend::with(|seen| answer(seen, false)).await;
    let extracted = Backend::with(|seen| answer(seen, true)).await;
    let compare =
        "{headers: {mode: all, presence: report}, keep: {per_signature: 500}, rules: [{path: /items, array_key: id}]}";
    let mut plan = Proxy::between(&legacy, &extracted).argument("--access-log").argument("json");
    let kinds = ["json", "gzip", "form", "multipart", "html", "xml", "text"];
    for kind in kinds {
        let path = format!("/{kind}/{{id}}/{{*rest}}");
        plan = plan.route(&format!(
            "{{name: {kind}, match: 'GET {path}', extracted: extracted, shadow: {{max_rps: 10000}}, compare: {compare}}}"
        ));
    }
    let mut proxy = plan.start().await;
    for secret in &secrets {
        for kind in kinds {
            let target = format!("/{kind}/{secret}/x/{secret}?q={secret}&token={secret}&{secret}");
            let bearer = format!("Bearer {secret}");
            let cookie = format!("sid={secret}; theme=dark");
            let headers =
                [("x-plain", &**secret), ("authorization", &bearer), ("cookie", &cookie), ("referer", &target)];
            assert_eq!(proxy.send(Method::GET, &target, &headers, "").await.status, 200);
        }
    }
    for kind in kinds {
        let metric = format!("strangler_comparisons_total{{result=\"mismatch\",route=\"{kind}\"}}");
        proxy.wait_for_metric(&metric, 50.0).await;
    }
    let mut listed = String::new();
    for _ in 0..400 {
        listed = proxy.admin(Method::GET, "/api/v1/divergences?limit=500", "").await.body;
        let all: serde_json::Value = serde_json::from_str(&listed).unwrap();
        if all["divergences"].as_array().unwrap().len() == secrets.len() * kinds.len() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    proxy.wait_for_access("/text/").await;

    let mut report = String::new();
    let mut texts = vec![("the list", listed.clone()), ("the log", proxy.log_so_far())];
    for path in ["/metrics", "/api/v1/status", "/api/v1/audit"] {
        texts.push((path, proxy.admin(Method::GET, path, "").await.body));
    }
    for (name, text) in &texts {
        for secret in found_in(text.as_bytes(), &secrets) {
            let _ = writeln!(report, "{secret} is in {name}");
        }
    }
    // Once while it runs, with its log beside the file; and once when that has been written back.
    let files = search(proxy.dir.path(), &secrets, &mut report);
    assert!(proxy.state_dir().join("strangler.db-wal").exists(), "the write-ahead log was looked at, too");
    proxy.signal("TERM");
    proxy.wait();
    search(proxy.dir.path(), &secrets, &mut report);

    assert!(report.is_empty(), "{report}");
    // What was looked through is what was written: the records, and nothing of them but secrets is missing.
    assert!(files >= 5 && listed.contains("/note") && listed.contains("header:x-answer"), "{files} files");
    assert!(std::fs::metadata(proxy.state_dir().join("strangler.db")).unwrap().len() > 100_000);
    for entry in std::fs::read_dir(proxy.state_dir()).unwrap().flatten() {
        use std::os::unix::fs::PermissionsExt as _;
        let (name, mode) = (entry.file_name(), entry.metadata().unwrap().permissions().mode() & 0o777);
        let is_private = entry.path().is_dir() || mode == 0o600;
        assert!(is_private || name == "lock", "{name:?} has mode {mode:o}");
    }
}

/// The control of the search above: a value that is allowed on purpose is found by it, in the store and in the list.
#[tokio::test]
async fn a_value_that_is_allowed_on_purpose_is_found_by_the_same_search() {
    let token = "kqzvwmpxrtb".to_owned();
    let legacy = Backend::with(|seen| answer(seen, false)).await;
    let extracted = Backend::with(|seen| answer(seen, true)).await;
    let proxy = Proxy::between(&legacy, &extracted)
        .route("{name: json, match: 'GET /json/{id}', extracted: extracted, shadow: {max_rps: 10000}, compare: {keep: {values: [/note]}}}")
        .start()
        .await;
    let headers = [("x-plain", token.as_str())];
    assert_eq!(proxy.send(Method::GET, "/json/1", &headers, "").await.status, 200);
    let secrets = [token];
    let begun = std::time::Instant::now();
    loop {
        let mut report = String::new();
        search(proxy.dir.path(), &secrets, &mut report);
        let listed = proxy.admin(Method::GET, "/api/v1/divergences", "").await.body;
        if report.contains("strangler.db") && !found_in(listed.as_bytes(), &secrets).is_empty() {
            return;
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "the search finds nothing: {report} {listed}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
