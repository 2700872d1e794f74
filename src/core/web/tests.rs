use super::*;

fn url(text: &str) -> WebUrl {
    text.parse().unwrap()
}

#[test]
fn only_the_host_is_ever_shown() {
    let slack = url("https://hooks.slack.com/services/T0/B0/secret?token=x");
    assert_eq!((slack.to_string(), format!("{slack:?}")), {
        let shown = "https://hooks.slack.com/…".to_owned();
        (shown.clone(), shown)
    });
    assert_eq!(slack.target(), "/services/T0/B0/secret?token=x");
    assert_eq!((slack.authority(), slack.port()), ("hooks.slack.com".to_owned(), 443));
    assert_eq!(url("http://[::1]:8080").authority(), "[::1]:8080");
    assert_eq!(url("http://prom:9090/x/?a=b").below("/api/v1/query").target(), "/x/api/v1/query");
}

#[test]
fn what_is_no_url_is_said_without_it() {
    for (text, expect) in [
        ("hooks.example.com/x", WebUrlError::Form),
        ("ftp://hooks.example.com", WebUrlError::Scheme),
        ("https://user:secret@hooks.example.com", WebUrlError::User),
        ("https://hooks.example.com:0/", WebUrlError::Form),
        ("https://hooks.example.com/#x", WebUrlError::Form),
        ("http://8.8.8.8/", WebUrlError::Address(Unreachable::InTheClear)),
        ("https://169.254.169.254/latest", WebUrlError::Address(Unreachable::Nobody)),
        ("http://0.0.0.0/", WebUrlError::Address(Unreachable::Nobody)),
        ("http://[::ffff:169.254.169.254]/", WebUrlError::Address(Unreachable::Nobody)),
    ] {
        assert_eq!(text.parse::<WebUrl>(), Err(expect), "{text}");
    }
}

#[test]
fn in_the_clear_stays_at_home_and_the_admin_port_is_nobody_s() {
    let own = ["127.0.0.1:9900".parse().unwrap()];
    for (text, address, expect) in [
        ("http://ci/", "10.1.2.3:80", Ok(())),
        ("http://ci/", "100.64.0.1:80", Ok(())),
        ("http://ci/", "93.184.216.34:80", Err(Unreachable::InTheClear)),
        ("https://ci/", "93.184.216.34:443", Ok(())),
        ("https://ci/", "169.254.169.254:443", Err(Unreachable::Nobody)),
        ("https://ci/", "[fe80::1]:443", Err(Unreachable::Nobody)),
        ("http://ci:9900/", "127.0.0.1:9900", Err(Unreachable::Admin)),
        ("http://ci:9900/", "[::ffff:127.0.0.1]:9900", Err(Unreachable::Admin)),
        ("http://ci:9900/", "127.0.0.2:9900", Ok(())),
    ] {
        assert_eq!(url(text).may_reach(address.parse().unwrap(), &own), expect, "{text} {address}");
    }
    let everywhere = ["0.0.0.0:9900".parse().unwrap()];
    assert_eq!(url("http://ci:9900").may_reach("10.0.0.1:9900".parse().unwrap(), &everywhere), Err(Unreachable::Admin));
}

#[test]
fn a_line_is_shown_without_its_secrets() {
    let line = "  - {webhook: https://hooks.slack.com/services/T0/x, when: [hold]}";
    assert_eq!(masked(line), "  - {webhook: https://hooks.slack.com/*************, when: [hold]}");
    assert_eq!(masked("a 'https://u:p@h' b http://c:1 d"), "a 'https://****h' b http://c:1 d");
    assert_eq!(masked("no url: here"), "no url: here");
}
