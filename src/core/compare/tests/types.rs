//! Bodies that are no JSON, and rules of every sort.

use super::*;

fn typed(media: &str, legacy: &str, extracted: &str, with: &str) -> Comparison {
    let of = |body: &str| Outcome::Answered(answer(200, &[("content-type", media)], body));
    pair(of(legacy), of(extracted), &block(with))
}

fn check(media: &str, cases: &[(&str, &str, &str, &str)]) {
    for (legacy, extracted, with, expect) in cases {
        let there = typed(media, legacy, extracted, with);
        assert_eq!(named(&there), *expect, "{legacy} / {extracted} with {with}");
        let is_match = matches!(there.result, ComparisonResult::Match | ComparisonResult::Expected);
        assert_eq!(is_match, expect.is_empty(), "{legacy} / {extracted} with {with}: {:?}", there.result);
        assert_eq!(typed(media, legacy, legacy, with).total, 0, "{legacy}");
    }
}

#[test]
fn a_page_is_compared_as_a_browser_reads_it() {
    check(
        "text/html; charset=utf-8",
        &[
            ("<p class=a id=b>x</p>", "<body><P id='b'\n class=\"a\">\n x <!-- y --></P>", "{}", ""),
            ("<p>a b</p>", "<p>a  c</p>", "{}", "value@/body/p[0]/text()"),
            ("<p>a<b>c</b>d</p>", "<p>a<b>c</b>e</p>", "{}", "value@/body/p[0]/text()[1]"),
            ("<p>1</p><p>2</p>", "<p>1</p>", "{}", "array_length@/body/p"),
            ("<p>1</p><ul><li>a</ul>", "<p>1</p>", "{}", "missing@/body/ul[0]"),
            ("<p>1</p>", "<p hidden>1</p><hr>", "{}", "extra@/body/hr[0] extra@/body/p[0]/@hidden"),
            ("<h1>a</h1><p>b</p>", "<p>b</p><h1>a</h1>", "{}", "array_order@/body"),
            ("<pre>a  b</pre>", "<pre>a b</pre>", "{}", "value@/body/pre[0]/text()"),
            ("<script nonce=a>x()</script>", "<script nonce=b>x()</script>", "{}", ""),
            ("<script nonce=a>x()</script>", "<script>x()</script>", "{}", "missing@/head/script[0]/@nonce"),
            ("<input name=_csrf value=a>", "<input name=_csrf value=b>", "{}", ""),
            ("<meta name=csrf-token content=a>", "<meta name=csrf-token content=b>", "{}", ""),
            ("<input name=qty value=1>", "<input name=qty value=2>", "{}", "value@/body/input[0]/@value"),
            ("<table><tr><td>1</table>", "<table><tbody><tr><td>1</td></tr></tbody></table>", "{}", ""),
            (
                "<template><i>1</i></template>",
                "<template><i>2</i></template>",
                "{}",
                "value@/head/template[0]/i[0]/text()",
            ),
            ("<b><p>1</b>2</p>", "<b><p>1</b>3</p>", "{}", "value@/body/p[0]/text()"),
            (
                "<p>1</p><p>2</p>",
                "<p>3</p><p>4</p>",
                r#"{"rules":[{"path":"/body/p[0]","ignore":true}]}"#,
                "value@/body/p[1]/text()",
            ),
            ("<p>1</p><p>2</p>", "<p>3</p><p>4</p>", r#"{"rules":[{"path":"/body/p","ignore":true}]}"#, ""),
            ("<i>1.00</i>", "<i>1.01</i>", r#"{"rules":[{"path":"/**/text()","tolerance":{"abs":0.01}}]}"#, ""),
        ],
    );
}

#[test]
fn xml_is_compared_by_namespace_and_without_layout() {
    check(
        "application/soap+xml",
        &[
            (
                "<a x='1' y='2'><b>t</b></a>",
                "<?xml version=\"1.0\"?>\n<a y=\"2\" x=\"1\">\n  <b>t</b>\n<!-- c --></a>",
                "{}",
                "",
            ),
            ("<p:a xmlns:p='urn:x'/>", "<q:a xmlns:q='urn:x'></q:a>", "{}", ""),
            ("<a xmlns='urn:x'/>", "<a xmlns='urn:y'/>", "{}", "missing@/{urn:x}a extra@/{urn:y}a"),
            ("<a><b>1</b><b>2</b></a>", "<a><b>1</b><b>3</b></a>", "{}", "value@/a/b[1]/text()"),
            ("<a><b/><b/></a>", "<a><b/></a>", "{}", "array_length@/a/b"),
            ("<a><b/><c/></a>", "<a><c/><b/></a>", "{}", "array_order@/a"),
            ("<a><![CDATA[x<y]]></a>", "<a>x&lt;y</a>", "{}", ""),
            ("<a> x</a>", "<a>x</a>", "{}", "value@/a/text()"),
            ("<a/>", "<a>", "{}", "format@"),
            ("<a", "<b", "{}", "value@"),
        ],
    );
    let bomb = "<!DOCTYPE a [<!ENTITY b 'b'>]><a>&b;</a>";
    let unreadable = ComparisonResult::NotComparable(NotComparable::Unreadable);
    assert_eq!(typed("text/xml", bomb, "<a/>", "{}").result, unreadable);
    let deep = format!("{}{}", "<a>".repeat(400), "</a>".repeat(400));
    assert_eq!(typed("text/xml", &deep, "<a/>", "{}").result, unreadable);
}

#[test]
fn a_page_that_no_browser_should_read_is_unreadable_and_soon() {
    let unreadable = ComparisonResult::NotComparable(NotComparable::Unreadable);
    for page in ["<div>".repeat(100_000), "<b a=1><p>".repeat(50_000), format!("<p {}", "a ".repeat(400_000))] {
        assert_eq!(typed("text/html", &page, "<p>", "{}").result, unreadable);
    }
}

#[test]
fn forms_texts_and_lines_are_compared_by_their_parts() {
    check(
        "application/x-www-form-urlencoded",
        &[
            ("a=1&b=2", "b=2&a=%31", "{}", ""),
            ("a=x+y", "a=x%20y", "{}", ""),
            ("a=1&a=2", "a=2&a=1", "{}", "array_order@/a"),
            ("a=1&a=2", "a=1", "{}", "type@/a"),
            ("a=1&a=2", "a=1&a=2&a=3", "{}", "array_length@/a"),
            ("a=1", "a=1&b", "{}", "extra@/b"),
            ("a=%E9", "a=%C3%A9", "{}", "value@/a"),
            ("p=1.00", "p=1.01", r#"{"rules":[{"path":"/p","tolerance":{"abs":"0.01"}}]}"#, ""),
        ],
    );
    check(
        "text/plain",
        &[
            ("a\nb\nc", "a\nx\nc", "{}", "value@/1"),
            ("a\nb", "a\nb\n", "{}", "array_length@"),
            ("a\nb", "b\na", "{}", "array_order@"),
            ("a\nb\n", "a\r\nb\n", "{}", "value@/0"),
            ("a\n1", "a\n2", r#"{"rules":[{"path":"/1","matches":"^[0-9]$"}]}"#, ""),
        ],
    );
    check(
        "application/x-ndjson",
        &[("{\"a\":1}\n{\"b\":1}\n", "{\"a\":1.0}\n\n{\"b\":2}", "{}", "value@/1/b"), ("{}\n", "{", "{}", "format@")],
    );
}

#[test]
fn events_are_compared_one_by_one() {
    check(
        "text/event-stream",
        &[
            (": hi\ndata: {\"a\":1}\n\n", "data:{\"a\": 1.0}\r\n\r\n", "{}", ""),
            ("id: 1\ndata: a\n\n", "id: 2\ndata: a\n\n", "{}", "value@/0/id"),
            ("data: a\ndata: b\n\n", "data: a\ndata: c\n\n", "{}", "value@/0/data"),
            ("data: {\"a\":1}\n\n", "data: {\"a\":2}\n\n", "{}", "value@/0/data/a"),
            ("data: a\n\n", "data: a\n\ndata: b\n\n", "{}", "array_length@"),
            ("event: x\ndata: a\n\n", "data: a\n\n", "{}", "missing@/0/event"),
        ],
    );
    let many = |last: &str| format!("{}data: {last}\n\n", "data: a\n\n".repeat(100));
    check("text/event-stream", &[(&many("b"), &many("c"), "{}", "array_content@")]);
    let cut = |body: &str| {
        let whole = answer(200, &[("content-type", "text/event-stream")], body);
        Outcome::Answered(Answer { is_truncated: true, ..whole })
    };
    let of = |left, right| pair(cut(left), cut(right), &policy(&[]));
    let same = of("data: a\n\ndata: b", "data: a\n\ndata: c\n\n");
    assert_eq!(same.result, ComparisonResult::NotComparable(NotComparable::Truncated));
    let other = of("data: a\n\n", "data: b\n\ndata: c\n\n");
    assert_eq!((other.result, named(&other).as_str()), (ComparisonResult::Mismatch, "truncated@ value@/0/data"));
}

#[test]
fn grpc_ends_with_a_status_and_its_messages_are_bytes() {
    const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc")];
    let said = |status: &'static str, messages: &[(u8, &[u8])]| {
        let mut body = Vec::new();
        for (flag, message) in messages {
            body.push(*flag);
            body.extend_from_slice(&u32::try_from(message.len()).expect("small").to_be_bytes());
            body.extend_from_slice(message);
        }
        let mut answer = Answer { body: body.into(), ..answer(200, GRPC, "") };
        if !status.is_empty() {
            let trailers = [(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static(status))];
            answer.trailers = Some(Box::new(trailers.into_iter().collect()));
        }
        Outcome::Answered(answer)
    };
    let a: &[(u8, &[u8])] = &[(0, b"a"), (0, b"b")];
    for (legacy, extracted, expect) in [
        (said("0", a), said("0", a), ""),
        (said("0", a), said("5", &[]), "status@trailer:grpc-status missing@"),
        (said("0", a), said("16", a), "auth_mismatch@trailer:grpc-status"),
        (said("0", a), said("", a), "missing@trailer:grpc-status"),
        (said("0", a), said("0", &[(0, b"a"), (0, b"c")]), "value@/1"),
        (said("0", a), said("0", &[(0, b"a")]), "array_length@"),
    ] {
        assert_eq!(named(&pair(legacy, extracted, &policy(&[]))), expect);
    }
    let unreadable = ComparisonResult::NotComparable(NotComparable::Unreadable);
    assert_eq!(pair(said("0", a), said("0", &[(0, b"a"), (1, b"x")]), &policy(&[])).result, unreadable);
}

#[test]
fn statuses_may_be_mapped_or_agree_in_their_class() {
    for (legacy, extracted, with, expect) in [
        (201, 200, r#"{"status_map":{"201":200}}"#, ""),
        (200, 201, r#"{"status_map":{"201":200}}"#, "status@status"),
        (200, 201, r#"{"status":"class"}"#, ""),
        (404, 410, r#"{"status":"class"}"#, ""),
        (401, 404, r#"{"status":"class"}"#, ""),
        (200, 404, r#"{"status":"class"}"#, "status@status"),
        (500, 503, r#"{"status_map":{"500":503}}"#, ""),
    ] {
        let of = |status| Outcome::Answered(answer(status, TEXT, "a"));
        assert_eq!(named(&pair(of(legacy), of(extracted), &block(with))), expect, "{legacy} {extracted} {with}");
    }
}

#[test]
fn all_headers_are_looked_at_when_asked_for_and_volatile_ones_only_for_their_presence() {
    let of = |headers: &[(&str, &str)]| Outcome::Answered(answer(200, headers, "a"));
    let legacy = &[
        ("date", "a"),
        ("x-request-id", "1"),
        ("x-tier", "gold"),
        ("set-cookie", "s=1; Secure"),
        ("content-length", "1"),
    ];
    let extracted = &[("date", "b"), ("x-tier", "silver"), ("set-cookie", "s=2; Secure"), ("connection", "close")];
    for (with, expect, warned) in [
        (r#"{"headers":{"mode":"all"}}"#, "header@header:x-tier", 1),
        (r#"{"headers":{"mode":"all","presence":"report"}}"#, "missing@header:x-request-id header@header:x-tier", 0),
        (r#"{"headers":{"mode":"all","presence":"ignore"}}"#, "header@header:x-tier", 0),
        (r#"{"headers":{"mode":"all","volatile":["x-tier","date","x-request-id"]}}"#, "", 1),
        ("{}", "", 0),
    ] {
        let comparison = pair(of(legacy), of(extracted), &block(with));
        assert_eq!((named(&comparison).as_str(), comparison.warnings.len()), (expect, warned), "{with}");
    }
}

#[test]
fn every_sort_of_rule_does_what_it_says_and_no_more() {
    let rules = |rules: &str| format!("{{\"rules\":[{rules}]}}");
    let cases = [
        (r#"{"t":97.81}"#, r#"{"t":97.82}"#, r#"{"path":"/t","tolerance":{"abs":0.01}}"#, ""),
        (r#"{"t":97.81}"#, r#"{"t":97.83}"#, r#"{"path":"/t","tolerance":{"abs":0.01}}"#, "value@/t"),
        (r#"{"t":1000}"#, r#"{"t":1009}"#, r#"{"path":"/t","tolerance":{"rel":0.01}}"#, ""),
        (r#"{"s":"a"}"#, r#"{"s":"A"}"#, r#"{"path":"/s","map":{"a":"A"}}"#, ""),
        (r#"{"s":"A"}"#, r#"{"s":"a"}"#, r#"{"path":"/s","map":{"a":"A"}}"#, "value@/s"),
        (r#"{"s":1}"#, r#"{"s":"open"}"#, r#"{"path":"/s","map":{"1":"open"}}"#, ""),
        (r#"{"s":null}"#, r#"{"s":"none"}"#, r#"{"path":"/s","map":{"null":"none"}}"#, ""),
        (r#"{"s":1}"#, r#"{"s":"x"}"#, r#"{"path":"/s","compare":"type"}"#, "type@/s"),
        (r#"{"s":{"a":1}}"#, r#"{"s":{"a":2}}"#, r#"{"path":"/s","compare":"type"}"#, "value@/s/a"),
        (
            r#"{"t":"2026-01-01T00:00:00Z"}"#,
            r#"{"t":"2026-01-01T01:00:00+01:00"}"#,
            r#"{"path":"/t","as":"timestamp"}"#,
            "",
        ),
        (
            r#"{"t":"2026-01-01T00:00:00Z"}"#,
            r#"{"t":"2026-01-01T00:00:01Z"}"#,
            r#"{"path":"/t","as":"timestamp"}"#,
            "value@/t",
        ),
        (
            r#"{"t":"2026-01-01T00:00:00Z"}"#,
            r#"{"t":"soon"}"#,
            r#"{"path":"/t","as":"timestamp","within":"5s"}"#,
            "format@/t",
        ),
        (r#"{"t":1764000000}"#, r#"{"t":1764000001}"#, r#"{"path":"/t","as":"timestamp","within":"1s"}"#, ""),
        (r#"{"a":1}"#, "{}", r#"{"path":"/a","expect":"missing"}"#, ""),
        (r#"{"a":1}"#, r#"{"a":2}"#, r#"{"path":"/a","expect":"missing"}"#, "value@/a"),
        (r#"{"a":1}"#, "{}", r#"{"path":"/a","expect":"missing","until":"2026-11-21"}"#, ""),
        (r#"{"a":1}"#, "{}", r#"{"path":"/a","expect":"missing","until":"2026-11-20"}"#, "missing@/a"),
        (
            r#"{"a":[1,2],"b":[1,2]}"#,
            r#"{"a":[2,1],"b":[2,1]}"#,
            r#"{"path":"/a","array_order":"ignore"}"#,
            "array_order@/b",
        ),
        (r#"{"a":[[1,2],[3]]}"#, r#"{"a":[[3],[2,1]]}"#, r#"{"path":"/a","array_order":"ignore"}"#, ""),
    ];
    for (legacy, extracted, rule, expect) in cases {
        check("application/json", &[(legacy, extracted, &rules(rule), expect)]);
    }
    let wanted = typed("application/json", r#"{"a":1}"#, "{}", &rules(r#"{"path":"/a","expect":"missing"}"#));
    assert_eq!((wanted.result, wanted.expected, wanted.rules_hit), (ComparisonResult::Expected, 1, vec![0]));
}

#[test]
fn elements_are_paired_by_their_key_wherever_they_stand() {
    const KEYED: &str = r#"{"rules":[{"path":"/items","array_key":"id"},{"path":"/items/*/at","ignore":true}]}"#;
    check(
        "application/json",
        &[
            (
                r#"{"items":[{"id":1,"a":1},{"id":2,"a":2}]}"#,
                r#"{"items":[{"id":2.0,"a":2},{"id":1,"a":1,"at":5}]}"#,
                KEYED,
                "",
            ),
            (
                r#"{"items":[{"id":1,"a":1},{"id":2,"a":2}]}"#,
                r#"{"items":[{"id":2,"a":3},{"id":1,"a":1}]}"#,
                KEYED,
                "value@/items/[id=2]/a",
            ),
            (r#"{"items":[{"id":1}]}"#, r#"{"items":[{"id":1},{"id":"1"}]}"#, KEYED, "extra@/items/[id=1]"),
            (r#"{"items":[{"id":1},{"id":1,"a":2}]}"#, r#"{"items":[{"id":1}]}"#, KEYED, "duplicate_key@/items/[id=1]"),
            (r#"{"items":[{"id":1},{"x":1}]}"#, r#"{"items":[{"id":1},{"x":2}]}"#, KEYED, "value@/items/1/x"),
            (r#"{"items":[{"id":1},5]}"#, r#"{"items":[5]}"#, KEYED, "array_length@/items"),
        ],
    );
}

#[test]
fn of_two_lists_it_is_known_what_only_one_has() {
    let comparison = json(r#"["a","a","b","b"]"#, r#"["a","b","b","c","c"]"#, &[]);
    let unmatched = comparison.differences[0].unmatched.as_deref().expect("known");
    let text = |text: &str| Shown::String(text.to_owned());
    assert_eq!((&unmatched.legacy, &unmatched.extracted), (&vec![text("a")], &vec![text("c"), text("c")]));
}

#[test]
fn where_being_equal_is_not_transitive_elements_are_still_paired() {
    const CLOSE: &str = r#"{"json":{"array_order":"ignore"},"rules":[{"path":"/**","tolerance":{"abs":0.1}}]}"#;
    const EXTRA: &str = r#"{"json":{"array_order":"ignore","extra_fields":"allow"}}"#;
    check(
        "application/json",
        &[
            // The same number on both sides, and yet not to be paired with itself.
            ("[1.0,0.9]", "[1.0,1.1]", CLOSE, ""),
            ("[1.0,0.9]", "[1.0,1.2]", CLOSE, "array_content@"),
            ("[[1.0],[0.9]]", "[[1.1],[1.0]]", CLOSE, ""),
        ],
    );
    check("application/json", &[(r#"[{"a":1},{"a":1,"b":2}]"#, r#"[{"a":1,"b":2},{"a":1,"c":3}]"#, EXTRA, "")]);
}

#[test]
fn what_takes_too_much_work_is_said_to_be_undecided() {
    const CLOSE: &str = r#"{"json":{"array_order":"ignore"},"rules":[{"path":"/**","tolerance":{"abs":1000000}}]}"#;
    let list =
        |from: u32| serde_json::to_string(&(from..from + 5_000).map(|n| n * 2).collect::<Vec<_>>()).expect("json");
    let comparison = typed("application/json", &list(0), &list(1), CLOSE);
    assert_eq!(comparison.result, ComparisonResult::NotComparable(NotComparable::TooComplex));
    let far = typed("application/json", &list(0), &list(1_000_000), CLOSE);
    assert_eq!(far.result, ComparisonResult::Mismatch);
}

#[test]
fn a_block_with_faults_is_refused_with_all_of_them() {
    for (with, expect) in [
        (r#"{"rules":[{"path":"/a"}]}"#, "this rule forgives nothing"),
        (r#"{"rules":[{"path":"/a","ignore":true,"as":"uuid"}]}"#, "a rule does one thing"),
        (r#"{"rules":[{"path":"/a","ignore":false}]}"#, "a rule that forgives nothing"),
        (r#"{"rules":[{"path":"/a","matches":"("}]}"#, "is no regular expression"),
        (r#"{"rules":[{"path":"/a","tolerance":{"abs":-1}}]}"#, "not negative"),
        (r#"{"rules":[{"path":"/a","tolerance":{}}]}"#, "a tolerance of nothing"),
        (r#"{"rules":[{"path":"/a","as":"uuid","within":"1s"}]}"#, "`within` belongs to `as: timestamp`"),
        (r#"{"rules":[{"path":"/a","ignore":true,"within":"1s"}]}"#, "`within` belongs to `as: timestamp`"),
        (r#"{"rules":[{"path":"/a","expect":"status"}]}"#, "expected one of"),
        (r#"{"rules":[{"path":"/a","ignore":true,"until":"tomorrow"}]}"#, "a day is written"),
        (r#"{"status_map":{"20":200}}"#, "no status from 100 to 599"),
        (r#"{"headers":{"volatile":"none"}}"#, "expected one of `default`"),
        (r#"{"during":["canary"]}"#, "not supported yet"),
    ] {
        let said = loaded(with).expect_err(with);
        assert!(said.contains(expect), "{with}: {said}");
    }
    let said = loaded(r#"{"status":"x","json":{"numeric":"y"},"rules":[{"path":"a","as":"z","until":1}]}"#)
        .expect_err("faults");
    assert_eq!(said.lines().count(), 5, "{said}");
}
