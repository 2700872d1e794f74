use super::*;
use proptest::prelude::*;

const GET: &[u8] = b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n";
const CHUNKED: &str = "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";

fn feed(bytes: &[u8]) -> Result<usize, Refusal> {
    Framing::new(HeadBounds::default()).feed(bytes).map_err(|refused| refused.refusal)
}

#[test]
fn heads_that_are_no_requests_are_refused() {
    let line = |line: &str| format!("{line}\r\nhost: a\r\n\r\n");
    let field = |field: &str| format!("POST / HTTP/1.1\r\nhost: a\r\n{field}\r\n\r\n");
    for (bytes, refusal) in [
        (line("GET  / HTTP/1.1"), Refusal::RequestLine),
        (line("GET / HTTP/1.1 HTTP/1.1"), Refusal::RequestLine),
        (line("GET /\tx HTTP/1.1"), Refusal::RequestLine),
        (line("GET /a#b HTTP/1.1"), Refusal::RequestLine),
        (line("GET /a<b HTTP/1.1"), Refusal::Target),
        (line("GET a/b HTTP/1.1"), Refusal::Target),
        (line("GET http:///x HTTP/1.1"), Refusal::Target),
        (line("G~T / HTTP/1.1"), Refusal::RequestLine),
        (line("GET / http/1.1"), Refusal::RequestLine),
        (line("GET / HTTP/1.32"), Refusal::RequestLine),
        (line("GET / HTTP/3.9"), Refusal::Version),
        (line("GET /"), Refusal::RequestLine),
        (line(&format!("{} / HTTP/1.1", "A".repeat(33))), Refusal::RequestLine),
        (line(&format!("GET /{} HTTP/1.1", "a".repeat(9 << 10))), Refusal::TargetTooLong),
        (line("CONNECT a:1 HTTP/1.1"), Refusal::Method),
        ("GET / HTTP/1.1\nhost: a\r\n\r\n".to_owned(), Refusal::LineEnd),
        ("\n\nGET / HTTP/1.1\r\n\r\n".to_owned(), Refusal::LineEnd),
        ("\r\n".repeat(9), Refusal::RequestLine),
        ("\u{16}\u{3}\u{1}".to_owned(), Refusal::RequestLine),
        (field("x y: 1"), Refusal::Field),
        (field("x : 1"), Refusal::Field),
        (field(" x: 1"), Refusal::Field),
        (field(": 1"), Refusal::Field),
        (field("x"), Refusal::Field),
        (field("x: a\rb"), Refusal::Field),
        (field("x: a\0b"), Refusal::Field),
        (field("x: a\r\n b"), Refusal::Field),
        (field("x: a\nb: c"), Refusal::LineEnd),
        (field(&format!("x: {}", "v".repeat(17 << 10))), Refusal::FieldsTooLarge),
        (field("content-length: 4\r\ntransfer-encoding: chunked"), Refusal::Framing),
        (field("transfer-encoding: chunked\r\ncontent-length: 4"), Refusal::Framing),
        (field("content-length: 4\r\ncontent-length: 4"), Refusal::Framing),
        (field("content-length: +4"), Refusal::Framing),
        (field("content-length: 4, 4"), Refusal::Framing),
        (field("content-length: 99999999999999999999"), Refusal::Framing),
        (field("transfer-encoding: gzip, chunked"), Refusal::Framing),
        (field("transfer-encoding: chunked").replace("1.1", "1.0"), Refusal::Framing),
    ] {
        assert_eq!(feed(bytes.as_bytes()), Err(refusal), "{bytes:?}");
    }
    let many = field(&"a: b\r\n".repeat(100));
    assert_eq!(feed(many.as_bytes()), Err(Refusal::FieldsTooLarge));
}

#[test]
fn chunked_bodies_that_are_none_are_refused() {
    for body in [
        "\r\n",
        "x\r\n",
        "0x5\r\n",
        "+5\r\n",
        "-0\r\n",
        " 5\r\n",
        "5 \r\n",
        "5\n",
        "5;a\n",
        "5;a=\rb\r\n",
        "5\r\nabcdef\r\n",
        "5\r\nabcde\n",
        "10000000000000000\r\n",
        "00000000000000001\r\n",
        "0\r\nx y: 1\r\n\r\n",
        "0\r\nx: a\0\r\n\r\n",
        "0\r\n\n",
        "0\r\nx: a\n\r\n",
    ] {
        assert_eq!(feed(format!("{CHUNKED}{body}").as_bytes()), Err(Refusal::Framing), "{body:?}");
    }
    for long in [format!("1;{}\r\n", "a".repeat(1 << 10)), format!("0\r\n{}", "t: v\r\n".repeat(3 << 10))] {
        assert_eq!(feed(format!("{CHUNKED}{long}").as_bytes()), Err(Refusal::Framing));
    }
    let sound = format!("{CHUNKED}5;a=\"b c\"\r\nabcde\r\nA ; x\r\n0123456789\r\n000\r\nt: v\r\n\r\n");
    assert_eq!(feed(sound.as_bytes()), Ok(sound.len()));
}

#[test]
fn what_follows_a_refused_body_or_an_upgrade_is_kept_back() {
    let mut framing = Framing::new(HeadBounds::default());
    let upgrade = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: x, Upgrade\r\nupgrade: websocket\r\n\r\n";
    let both = [&upgrade[..], b"\x81\x85"].concat();
    assert_eq!(framing.feed(&both), Ok(upgrade.len()));
    assert!(framing.is_switching());
    let mut refused = framing.clone();
    refused.switched(false);
    assert_eq!(refused.feed(b"\x81\x85").map_err(|refused| refused.refusal), Err(Refusal::RequestLine));
    assert_eq!(refused.feed(GET), Ok(0));
    framing.switched(true);
    assert_eq!(framing.feed(b"\x81\x85"), Ok(2));
    let mut ignored = Framing::new(HeadBounds::default());
    let nobody_nominates = b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n";
    assert_eq!((ignored.feed(nobody_nominates), ignored.is_switching()), (Ok(nobody_nominates.len()), false));
}

#[test]
fn an_empty_line_before_a_request_is_forgiven() {
    let bytes = [b"\r\n", GET].concat();
    assert_eq!(feed(&bytes), Ok(bytes.len()));
    assert_eq!(feed(b"\r"), Ok(0));
}

/// Feeds `bytes` in pieces, as a reader would: what is not whole comes again.
fn in_pieces(bytes: &[u8], cuts: &[usize]) -> (usize, Option<Refusal>) {
    let mut framing = Framing::new(HeadBounds::default());
    let (mut kept, mut handed_on, mut from) = (Vec::new(), 0, 0);
    let ends = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([bytes.len()]);
    let mut ends: Vec<usize> = ends.collect();
    ends.sort_unstable();
    for end in ends {
        kept.extend_from_slice(&bytes[from..end]);
        from = end;
        match framing.feed(&kept) {
            Ok(whole) => {
                handed_on += whole;
                kept.drain(..whole);
            }
            Err(refused) => return (handed_on + refused.whole, Some(refused.refusal)),
        }
    }
    (handed_on, None)
}

fn messages() -> impl Strategy<Value = String> {
    let body = "[a-f0-9]{0,20}";
    let measured = body.prop_map(|body: String| {
        format!("POST /m HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    });
    let chunked = proptest::collection::vec("[a-f0-9]{1,9}", 0..4).prop_map(|chunks| {
        let chunks: String = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
        format!("{CHUNKED}{chunks}0\r\n\r\n")
    });
    let get = Just(String::from_utf8_lossy(GET).into_owned());
    proptest::collection::vec(prop_oneof![get, measured, chunked], 1..4).prop_map(|all| all.concat())
}

proptest! {
    #[test]
    fn where_bytes_are_cut_changes_nothing(text in messages(), cuts in proptest::collection::vec(any::<usize>(), 0..12)) {
        prop_assert_eq!(in_pieces(text.as_bytes(), &cuts), (text.len(), None));
    }

    #[test]
    fn a_changed_byte_is_judged_alike_however_it_is_cut(
        text in messages(), at in any::<usize>(), byte in any::<u8>(), cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let mut bytes = text.into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        let (whole, refusal) = in_pieces(&bytes, &[]);
        let (cut_whole, cut_refusal) = in_pieces(&bytes, &cuts);
        // A body's good bytes go on before its fault is seen; a head does only when it is whole.
        prop_assert!(cut_whole >= whole);
        prop_assert_eq!(cut_refusal.is_some(), refusal.is_some());
    }
}
