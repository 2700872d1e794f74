use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use strangler_core::observation::{Answer, Failure, Outcome};
use strangler_core::runtime::RuntimeState;
use strangler_core::shadow::Manner;
use strangler_core::snapshot::Snapshot;
use strangler_core::table::RoutingTable;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::shadow::worker::Pair;

/// A server that notes what it is asked and answers each request with the same bytes.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    /// Connections that ended.
    closed: Arc<AtomicUsize>,
}

#[derive(Clone)]
enum Script {
    Answer(Vec<u8>),
    /// Accepts, reads, says nothing.
    Silence,
    /// A head, and then a body without an end.
    Endless,
}

impl Server {
    async fn start(script: Script) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target =
            Server { port: listener.local_addr().unwrap().port(), asked: Arc::default(), closed: Arc::default() };
        let (asked, closed) = (Arc::clone(&target.asked), Arc::clone(&target.closed));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (asked, closed, script) = (Arc::clone(&asked), Arc::clone(&closed), script.clone());
                tokio::spawn(async move {
                    let mut buffer = Vec::new();
                    while let Ok(1..) = stream.read_buf(&mut buffer).await {
                        let text = String::from_utf8_lossy(&buffer).into_owned();
                        if !text.contains("\r\n\r\n") {
                            continue;
                        }
                        asked.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                        buffer.clear();
                        match &script {
                            Script::Silence => {}
                            Script::Answer(bytes) => stream.write_all(bytes).await.unwrap_or_default(),
                            Script::Endless => {
                                let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
                                stream.write_all(head).await.unwrap_or_default();
                                let chunk = [b"1000\r\n".to_vec(), vec![b' '; 4096], b"\r\n".to_vec()].concat();
                                while stream.write_all(&chunk).await.is_ok() {}
                            }
                        }
                    }
                    closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        target
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct InForce(Arc<Snapshot>);

impl Publish for InForce {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0)
    }

    fn change(&self, _: &mut dyn FnMut(&Arc<Snapshot>) -> Option<Arc<Snapshot>>) -> Arc<Snapshot> {
        self.snapshot()
    }
}

/// A shadow at work on the test's own runtime.
struct Bench {
    table: Arc<RoutingTable>,
    jobs: mpsc::Sender<Job>,
    metrics: Arc<Metrics>,
    found: Arc<Mutex<Vec<Divergence>>>,
}

fn table(routes: &str) -> Arc<RoutingTable> {
    // What is asked again is another matter, and has its tests against the built binary.
    let defaults = "defaults: {compare: {recheck: {times: 0}, a_a: {mode: never}}}";
    let text = format!("version: 1\nlegacy: http://127.0.0.1:1\n{defaults}\nroutes:\n{routes}");
    let loaded = crate::config::load(text.as_bytes());
    assert_eq!(loaded.errors(), 0, "{:?}", loaded.faults);
    loaded.table.expect("a table")
}

fn parts(table: &Arc<RoutingTable>, found: &Arc<Mutex<Vec<Divergence>>>) -> Parts {
    let upstreams: Vec<Arc<UpstreamState>> =
        table.upstreams().values().map(|upstream| Arc::new(UpstreamState::new(Arc::clone(upstream)))).collect();
    let (in_force, found) = (Arc::clone(table), Arc::clone(found));
    Parts {
        find_upstream: Arc::new(move |route, target| {
            let wanted = match target {
                Target::Side(Side::Legacy) => in_force.legacy(),
                Target::Side(Side::Extracted) => &route.extracted,
                Target::Elsewhere => route.shadow.as_ref()?.upstream.as_ref()?,
            };
            upstreams.iter().find(|upstream| upstream.config == *wanted).cloned()
        }),
        live: Arc::new(InForce(Arc::new(Snapshot::new(Arc::clone(table), &RuntimeState::default()).0))),
        metrics: Metrics::new("test").unwrap(),
        budget: ByteBudget::new(64 << 20),
        redactor: Redactor::new([7; 32]),
        accepted: Arc::default(),
        coverage: Arc::default(),
        sink: Arc::new(move |divergence, _| {
            found.lock().unwrap_or_else(PoisonError::into_inner).push(divergence.clone());
            true
        }),
        witnesses: Arc::default(),
        writes: Arc::default(),
        begun: Instant::now(),
    }
}

impl Bench {
    fn start(routes: &str) -> Bench {
        let table = table(routes);
        let found = Arc::default();
        let parts = parts(&table, &found);
        let metrics = Arc::clone(&parts.metrics);
        let (shadow, _, _thread) = Shadow::start(parts).unwrap();
        let (jobs, queue) = mpsc::channel(1_024);
        tokio::spawn(shadow.run(queue));
        Bench { table, jobs, metrics, found }
    }

    /// Asks for a copy of a request that legacy answers; the user's answer is still to come.
    fn ask(&self, route: usize, path: &str, headers: &[(&str, &str)]) -> oneshot::Sender<Observation> {
        let (job, to) = job(&self.table, route, path, headers);
        self.jobs.try_send(job).unwrap();
        to
    }

    /// The value of a counter, with its labels as they are rendered.
    fn count(&self, line: &str) -> u64 {
        let text = self.metrics.render();
        let value = text.lines().find_map(|it| it.strip_prefix(line)?.trim().parse().ok());
        value.unwrap_or_default()
    }

    fn copies(&self, route: &str, outcome: &str) -> u64 {
        self.count(&format!("strangler_shadow_total{{outcome=\"{outcome}\",route=\"{route}\"}}"))
    }

    fn results(&self, route: &str, result: &str) -> u64 {
        self.count(&format!("strangler_comparisons_total{{result=\"{result}\",route=\"{route}\"}}"))
    }

    fn differences(&self, route: &str, kind: &str) -> u64 {
        self.count(&format!("strangler_differences_total{{kind=\"{kind}\",route=\"{route}\"}}"))
    }

    fn found(&self) -> Vec<Divergence> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn job(
    table: &RoutingTable,
    index: usize,
    path: &str,
    headers: &[(&str, &str)],
) -> (Job, oneshot::Sender<Observation>) {
    let (to, answer) = oneshot::channel();
    let route = Arc::clone(&table.routes()[index]);
    let job = CopyJob {
        route,
        route_index: index,
        answered_by: Side::Legacy,
        target: Side::Extracted,
        method: Method::GET,
        path_and_query: path.parse().unwrap(),
        rewritten: None,
        begun: Duration::ZERO,
        manner: Manner::Plain,
        may_repeat: true,
        headers: fields(headers),
        body: Bytes::new(),
        caller: Some(7),
        answer,
    };
    (Box::new(job), to)
}

fn fields(headers: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
    }
    map
}

fn seen(headers: &[(&str, &str)], body: &[u8]) -> Observation {
    let answer = Answer {
        status: StatusCode::OK,
        headers: fields(headers),
        trailers: None,
        body: Bytes::copy_from_slice(body),
        body_bytes: body.len() as u64,
        is_truncated: false,
    };
    Observation { outcome: Outcome::Answered(answer), first_byte: Duration::ZERO, total: Duration::ZERO }
}

fn json_answer(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

fn route(name: &str, port: u16, more: &str) -> String {
    format!("  - {{name: {name}, match: \"GET /{name}/{{*rest}}\", extracted: \"http://127.0.0.1:{port}\", {more}}}\n")
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

#[tokio::test]
async fn a_copy_is_marked_unconditional_and_has_a_trace_of_its_own() {
    let target = Server::start(Script::Answer(json_answer("{}"))).await;
    let bench = Bench::start(&route("cart", target.port, "shadow: true"));
    let asked = [
        ("host", "shop.example.com"),
        ("cookie", "SHOPSID=1"),
        ("if-none-match", "\"a\""),
        ("range", "bytes=0-1"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),
    ];

    let _user = bench.ask(0, "/cart/1?x=2", &asked);
    eventually("sent", || bench.copies("cart", "sent") == 1).await;

    let heads = target.asked();
    let [head] = heads.as_slice() else { panic!("one request: {heads:?}") };
    assert!(head.starts_with("GET /cart/1?x=2 HTTP/1.1\r\n"), "{head}");
    for line in [
        "host: shop.example.com",
        "cookie: SHOPSID=1",
        "strangler-shadow: 1",
        "strangler-linked-trace: 0af7651916cd43dd8448eb211c80319c",
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in {head}");
    }
    assert!(!head.contains("if-none-match") && !head.contains("range:"), "{head}");
    let trace = head.split("traceparent: ").nth(1).unwrap().split("\r\n").next().unwrap();
    assert!(
        trace.len() == 55 && trace.starts_with("00-") && trace.ends_with("-00") && !trace.contains("0af765"),
        "{trace}"
    );
}

#[tokio::test]
async fn a_gzipped_answer_and_a_plain_one_of_the_same_json_match() {
    let mut coded = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    coded.write_all(b"{\"b\":[1,2], \"a\":1.0}").unwrap();
    let coded = coded.finish().unwrap();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        coded.len()
    );
    let target = Server::start(Script::Answer([head.into_bytes(), coded].concat())).await;
    let bench = Bench::start(&route("cart", target.port, "shadow: true, compare: true"));

    for _ in 0..3 {
        bench.ask(0, "/cart/1", &[]).send(seen(JSON, b"{\"a\":1,\"b\":[1,2]}")).unwrap();
    }

    eventually("compared", || bench.results("cart", "match") == 3).await;
    assert_eq!((bench.results("cart", "mismatch"), bench.found().len()), (0, 0));
}

#[tokio::test]
async fn a_pair_that_differs_is_recorded_redacted() {
    let target = Server::start(Script::Answer(json_answer(r#"{"total_cents":9782,"name":"Ada"}"#))).await;
    let bench = Bench::start(&route("cart", target.port, "shadow: true, compare: {keep: {values: [/total_cents]}}"));

    let user = bench.ask(0, "/cart/4711", &[]);
    user.send(seen(JSON, br#"{"total_cents":9781,"name":"Bob"}"#)).unwrap();

    eventually("recorded", || bench.found().len() == 1).await;
    let record = bench.found().remove(0);
    let shown: Vec<_> = record.differences.iter().map(|d| (d.path.as_str(), d.kind.as_str())).collect();
    assert_eq!(shown, [("/name", "value"), ("/total_cents", "value")]);
    let total = &record.differences[1];
    assert_eq!((total.legacy.as_deref(), total.extracted.as_deref()), (Some("9781"), Some("9782")));
    assert_eq!((record.phase.as_str(), record.direction.as_str()), ("shadow", "legacy->extracted"));
    assert_eq!((record.legacy.status, record.extracted.status), (Some(200), Some(200)));
    assert_eq!(record.revision, bench.table.revision().as_str());
    let text = serde_json::to_string(&record).unwrap();
    assert!(!text.contains("Ada") && !text.contains("Bob") && !text.contains("4711"), "{text}");
    assert_eq!((bench.results("cart", "mismatch"), bench.differences("cart", "value")), (1, 1));
}

#[tokio::test]
async fn a_target_that_never_answers_holds_nothing_up() {
    let silent = Server::start(Script::Silence).await;
    let target = Server::start(Script::Answer(json_answer("1"))).await;
    let more = "shadow: {timeout: 400ms, max_in_flight: 5}, compare: true";
    let bench =
        Bench::start(&(route("hung", silent.port, more) + &route("good", target.port, "shadow: true, compare: true")));

    let waiting: Vec<_> = (0..20).map(|_| bench.ask(0, "/hung/1", &[])).collect();
    for _ in 0..10 {
        bench.ask(1, "/good/1", &[]).send(seen(JSON, b"1")).unwrap();
    }

    eventually("the others are copied", || bench.results("good", "match") == 10).await;
    eventually("dropped at the door", || bench.copies("hung", "dropped") == 15).await;
    for user in waiting {
        // The users of the dropped copies have nobody to tell.
        let _ = user.send(seen(JSON, b"1"));
    }
    eventually("timed out", || bench.copies("hung", "timeout") == 5).await;
    eventually("counted", || bench.differences("hung", "extracted_timeout") == 5).await;
    assert_eq!(bench.results("hung", "failed"), 5);
}

#[tokio::test]
async fn when_the_user_goes_away_the_copy_is_cancelled() {
    let silent = Server::start(Script::Silence).await;
    let bench = Bench::start(&route("cart", silent.port, "shadow: {timeout: 60s}, compare: true"));

    let user = bench.ask(0, "/cart/1", &[]);
    eventually("sent", || silent.asked().len() == 1).await;
    drop(user);

    eventually("cancelled", || bench.copies("cart", "cancelled") == 1).await;
    eventually("closed", || silent.closed.load(Ordering::SeqCst) == 1).await;
    assert_eq!(bench.copies("cart", "sent") + bench.copies("cart", "error"), 0);
}

#[tokio::test]
async fn a_user_who_is_gone_before_the_copy_begins_causes_none() {
    let target = Server::start(Script::Answer(json_answer("1"))).await;
    let bench = Bench::start(&route("cart", target.port, "shadow: true, compare: true"));

    drop(bench.ask(0, "/cart/1", &[]));

    eventually("cancelled", || bench.copies("cart", "cancelled") == 1).await;
    assert!(target.asked().is_empty());
}

#[tokio::test]
async fn a_body_without_an_end_is_cut_at_the_cap() {
    let endless = Server::start(Script::Endless).await;
    let compared = route("cart", endless.port, "shadow: {timeout: 60s}, compare: {body: {max_bytes: 64KiB}}");
    let bench = Bench::start(&(compared + &route("dry", endless.port, "shadow: {timeout: 60s}")));

    bench.ask(0, "/cart/1", &[]).send(seen(JSON, b"1")).unwrap();
    let _user = bench.ask(1, "/dry/1", &[]);

    eventually("not compared", || bench.results("cart", "not_comparable") == 1).await;
    eventually("read no further", || endless.closed.load(Ordering::SeqCst) == 2).await;
    assert_eq!((bench.copies("cart", "sent"), bench.copies("dry", "sent")), (1, 1));
}

#[tokio::test]
async fn a_side_that_is_down_is_a_difference_and_both_down_are_none() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let bench = Bench::start(&route("cart", port, "shadow: true, compare: true"));
    let failed =
        |failure| Observation { outcome: Outcome::Failed(failure), first_byte: Duration::ZERO, total: Duration::ZERO };

    bench.ask(0, "/cart/1", &[]).send(seen(JSON, b"1")).unwrap();
    bench.ask(0, "/cart/1", &[]).send(failed(Failure::Connect)).unwrap();

    eventually("failed", || bench.results("cart", "failed") == 1).await;
    eventually("alike", || bench.results("cart", "match") == 1).await;
    assert_eq!((bench.copies("cart", "error"), bench.differences("cart", "extracted_error")), (2, 1));
    assert_eq!(bench.found()[0].extracted.failure.as_deref(), Some("connect_failure"));
}

#[tokio::test]
async fn connections_of_copies_are_used_again_and_one_that_died_idle_costs_nothing() {
    // Answers one request and closes without a word of it.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(&json_answer("1")).await;
        }
    });
    let bench = Bench::start(&route("cart", port, "shadow: true, compare: true"));

    for round in 1..=5 {
        bench.ask(0, "/cart/1", &[]).send(seen(JSON, b"1")).unwrap();
        eventually("compared", || bench.results("cart", "match") == round).await;
    }

    assert_eq!((bench.copies("cart", "sent"), bench.copies("cart", "error")), (5, 0));
}

#[tokio::test]
async fn towards_legacy_a_stale_baseline_says_nothing() {
    let table = table(&route("cart", 1, "data: extracted, shadow: true, compare: true"));
    let found = Arc::default();
    let parts = parts(&table, &found);
    let metrics = Arc::clone(&parts.metrics);
    let (shadow, _, thread) = Shadow::start(parts).unwrap();
    for answered_by in [Side::Extracted, Side::Legacy] {
        shadow.hand_over(pair(job(&table, 0, "/cart/1", &[]).0, answered_by, b"1", b"2"));
    }
    drop(shadow);
    tokio::task::spawn_blocking(|| thread.join()).await.unwrap().unwrap();

    let text = metrics.render();
    assert!(text.contains("result=\"not_comparable\",route=\"cart\"} 1"), "{text}");
    assert!(text.contains("result=\"mismatch\",route=\"cart\"} 1"), "{text}");
}

#[tokio::test]
async fn pairs_that_find_the_queue_full_are_dropped_and_counted() {
    let table = table(&route("cart", 1, "shadow: true, compare: true"));
    let found = Arc::default();
    let parts = parts(&table, &found);
    // Nobody takes them out.
    let (shadow, _pairs) = Shadow::new(&parts);

    for _ in 0..PAIRS_WAITING_MAX + 3 {
        shadow.hand_over(pair(job(&table, 0, "/cart/1", &[]).0, Side::Legacy, b"1", b"2"));
    }

    let text = parts.metrics.render();
    assert!(text.contains("strangler_queue_dropped_total{queue=\"comparisons\"} 3"), "{text}");
}

#[tokio::test]
async fn answers_that_find_no_room_in_memory_are_not_compared() {
    let target = Server::start(Script::Answer(json_answer("[1,2,3,4,5,6,7,8]"))).await;
    let table = table(&route("cart", target.port, "shadow: true, compare: true"));
    let found = Arc::default();
    let parts = Parts { budget: ByteBudget::new(8), ..parts(&table, &found) };
    let (metrics, budget) = (Arc::clone(&parts.metrics), parts.budget.clone());
    let (shadow, _, _thread) = Shadow::start(parts).unwrap();
    let (jobs, queue) = mpsc::channel(8);
    tokio::spawn(shadow.run(queue));

    let (job, user) = job(&table, 0, "/cart/1", &[]);
    jobs.try_send(job).unwrap();
    user.send(seen(JSON, b"[1,2,3,4,5]")).unwrap();

    eventually("dropped", || metrics.render().contains("strangler_queue_dropped_total{queue=\"comparisons\"} 1")).await;
    assert_eq!(budget.held(), 0);
}

fn pair(mut job: Job, answered_by: Side, user: &[u8], copied: &[u8]) -> Work {
    job.answered_by = answered_by;
    Work::Pair(Box::new(Pair {
        policy: job.route.compare.clone().unwrap(),
        request_headers: HeaderMap::new(),
        job,
        trace_id: None,
        user: seen(JSON, user),
        copied: seen(JSON, copied),
        second: None,
        looks: None,
        is_read_back: false,
        held: Default::default(),
    }))
}
