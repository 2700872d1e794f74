//! A route for an endpoint that was found, as it would stand in the file.

/// Longest name of a route (a DNS label).
const NAME_BYTES_MAX: usize = 63;

/// Ready for `routes:`: in the shadow where its requests may be copied, nobody moved. `path`: a template, or an expression that begins
/// with `^`.
pub fn route_for(method: &str, template: &str, path: &str) -> String {
    let matched = match (method, path.starts_with('^')) {
        ("*", false) => format!("\"{path}\""),
        (_, false) => format!("\"{method} {path}\""),
        (_, true) => format!("{{methods: [{method}], path: {{regex: '{}'}}}}", path.replace('\'', "''")),
    };
    let copies = if matches!(method, "GET" | "HEAD" | "OPTIONS") {
        "    shadow: true                               # its requests are copied to the service\n    \
         compare: true                              # and the two answers compared\n"
    } else {
        "    # Requests with side effects are not copied: see `shadow.unsafe` for a sandbox, a dry run, or reading back.\n"
    };
    format!(
        "  - name: {}\n    match: {matched}\n    \
         extracted: http://127.0.0.1:9000           # where the service listens\n    \
         weight: 0%                                 # nobody is moved yet\n{copies}",
        name(method, template),
    )
}

/// Of the words in a template, without those that say little; with the method where it is not GET.
fn name(method: &str, template: &str) -> String {
    let is_version = |word: &str| word.strip_prefix('v').is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    let segments = template.split('/').filter(|it| !it.is_empty() && *it != "api" && !is_version(it));
    let words = segments.map(|it| if it.starts_with('{') { String::new() } else { it.to_ascii_lowercase() });
    let method = Some(method.to_ascii_lowercase()).filter(|it| it != "get" && it != "*");
    let all: Vec<String> = words.chain(method).filter(|it| !it.is_empty()).collect();
    let plain: String =
        all.join("-").chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).collect();
    let name: String = plain.split('-').filter(|it| !it.is_empty()).collect::<Vec<_>>().join("-");
    let one = if template.ends_with('}') && !name.is_empty() { format!("{name}-one") } else { name };
    let cut: String = one.chars().take(NAME_BYTES_MAX).collect();
    if cut.is_empty() { "root".to_owned() } else { cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_becomes_a_route() {
        let same = |method, template| route_for(method, template, template);
        let users = same("GET", "/api/v1/users/{user_id}");
        assert!(
            users.starts_with("  - name: users-one\n    match: \"GET /api/v1/users/{user_id}\"\n    extracted:"),
            "{users}"
        );
        assert!(users.contains("\n    shadow: true") && users.contains("\n    compare: true"), "{users}");
        let post = same("POST", "/api/v1/users");
        assert!(post.starts_with("  - name: users-post\n") && !post.contains("shadow: true"), "{post}");
        let pdf = route_for("GET", "/invoices/{invoice_id}.pdf", r"^/invoices/[^/]+\.pdf$");
        assert!(pdf.contains(r"{methods: [GET], path: {regex: '^/invoices/[^/]+\.pdf$'}}"), "{pdf}");
        assert!(same("GET", "/").starts_with("  - name: root\n"));
    }
}
