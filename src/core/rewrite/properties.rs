//! A rewritten path is of the shape that the route names, and finds its way back.

use proptest::prelude::*;

use super::*;
use crate::template::normal_path;

/// Two templates with the same parameters, in whatever order.
fn pairs() -> impl Strategy<Value = (PathTemplate, PathTemplate)> {
    let segments = || proptest::sample::subsequence(vec!["carts", "v1", "{id}", "{shop}", "x"], 5).prop_shuffle();
    (segments(), segments(), any::<bool>(), any::<bool>()).prop_map(|(outer, inner, has_rest, is_short)| {
        let text = |segments: &[&str]| {
            let kept = segments.iter().filter(|segment| !is_short || segment.starts_with('{'));
            let rest = if has_rest { "/{*rest}" } else { "" };
            format!("/{}{rest}", kept.copied().collect::<Vec<_>>().join("/"))
        };
        (PathTemplate::parse(&text(&outer)).unwrap(), PathTemplate::parse(&text(&inner)).unwrap())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_path_goes_there_and_back(
        (public, inner) in pairs(), values in proptest::collection::vec("[a-z0-9.;@%2F-]{1,6}", 2), rest in "(/[a-z.%2F]{0,4}){0,3}",
    ) {
        let filled = public.segments.iter().map(|segment| match segment {
            Segment::Literal(text) => text.to_string(),
            Segment::Param(name) => values[usize::from(&**name == "id")].clone(),
        });
        let asked = filled.fold(String::new(), |path, segment| path + "/" + &segment);
        let asked = if public.rest.is_some() { asked + &rest } else { asked };
        let Ok(asked) = normal_path(&asked) else { return Ok(()) };
        let rewrite = Rewrite { path: Some(inner.clone()), ..Rewrite::default() };
        let pattern = PathPattern::Template(public);
        prop_assume!(pattern.capture(&asked, "id").is_some());

        let sent = rewrite.path_for(&pattern, &asked).expect("all parameters are there");

        prop_assert!(inner.matches(&sent), "{} is not {}", sent, inner);
        let (spelling, expect) = (normal_path(&sent), Ok(Cow::Borrowed(&*sent)));
        prop_assert_eq!(spelling, expect, "no climbing, no second spelling");
        let back = rewrite.public_path(&pattern, &asked, &sent).expect("the same parameters");
        prop_assert_eq!(back.trim_end_matches('/'), asked.trim_end_matches('/'));
    }

    #[test]
    fn no_cookie_breaks_its_mapping_and_what_is_not_named_stays(cookie in "[a-zA-Z=;/ .,\"é-]{0,40}") {
        let map = |from: &str, to: &str| Some(Mapping { from: from.into(), to: to.into() });
        let cookies = CookieRewrite { path: map("/shop", "/"), domain: map("in", "") };
        let changed = cookies.apply(&cookie);
        prop_assert_eq!(changed.split(';').next(), cookie.split(';').next(), "its name and value");
        prop_assert!(changed.split(';').count() <= cookie.split(';').count());
    }
}
