//! `hooks:` and `notify:` of a rollout as written.

use std::sync::Arc;
use std::time::Duration;

use crate::limits::HOOKS_MAX;
use crate::raw::keys;
use crate::raw::leaf::TIMES_MAX;
use crate::raw::walk::{Fields, Reader};
use crate::route::{Hook, HookFormat, HookTo, When};
use crate::tree::{Kind, Node};
use crate::web::WebUrl;

pub(in crate::raw) fn hooks<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Vec<Hook>> {
    let all = reader.list(node, HOOKS_MAX, hook)?;
    Some(all.into_iter().map(|hook| hook.value).collect())
}

pub(in crate::raw) fn notices<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Vec<Hook>> {
    let all = reader.list(node, HOOKS_MAX, notice)?;
    Some(all.into_iter().map(|hook| hook.value).collect())
}

fn hook<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Hook> {
    const WORDS: [(&str, When); 5] = [
        ("pre_step", When::PreStep),
        ("post_step", When::PostStep),
        ("confirm_promotion", When::ConfirmPromotion),
        ("rollback", When::Rollback),
        ("event", When::Event),
    ];
    let fields = reader.fields(node, &keys::HOOK)?;
    let common = common(reader, node, &fields);
    let when = occasions(reader, &fields, &WORDS);
    let hook = Hook { when: when?, ..common? };
    hook.key_file.is_some().then_some(hook)
}

fn notice<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Hook> {
    const WORDS: [(&str, When); 3] = [("roll_back", When::Rollback), ("hold", When::Hold), ("promote", When::PostStep)];
    const FORMATS: [(&str, HookFormat); 2] = [("json", HookFormat::Json), ("slack", HookFormat::Slack)];
    let fields = reader.fields(node, &keys::NOTIFY)?;
    let common = common(reader, node, &fields);
    let when = if fields.has("when") {
        occasions(reader, &fields, &WORDS)
    } else {
        Some(WORDS.iter().map(|(_, when)| *when).collect())
    };
    let format = reader.key(&fields, "format", |reader, node| reader.one_of(node, &FORMATS, &[]));
    let format = format.map_or(HookFormat::default(), |it| it.value);
    Some(Hook { when: when?, format, ..common? })
}

fn common<'a>(reader: &mut Reader<'a>, node: &'a Node, fields: &Fields<'a>) -> Option<Hook> {
    let url = reader.key(fields, "webhook", web_url).map(|it| it.value);
    let url_file = reader.key(fields, "webhook_file", file).map(|it| it.value);
    let key_file = reader.key(fields, "key_file", file).map(|it| it.value);
    let ca = reader.key(fields, "ca", file).map(|it| it.value);
    let timeout = reader.key(fields, "timeout", timeout).map(|it| it.value);
    let retries = reader.key(fields, "retries", |reader, node| reader.count_u32(node, 0, TIMES_MAX));
    let to = match (url, url_file, fields.has("webhook"), fields.has("webhook_file")) {
        (_, _, true, true) => {
            reader
                .fault(fields.place("webhook_file"), "`webhook` and `webhook_file` say the same; take one of them out");
            None
        }
        (_, _, false, false) => {
            let help = Some("write `webhook: https://…`, or `webhook_file:` with the file that holds it".to_owned());
            reader.fault_with_help(fields.span_or(node), "where to? `webhook` is missing", help);
            None
        }
        (Some(url), ..) => Some(HookTo::Url(url)),
        (_, Some(path), ..) => Some(HookTo::File(path)),
        (None, None, ..) => None,
    };
    Some(Hook {
        to: to?,
        when: Arc::from([]),
        key_file,
        ca,
        timeout: timeout.unwrap_or(Duration::from_secs(10)),
        retries: retries.map_or(3, |it| it.value),
        format: HookFormat::Json,
    })
}

fn occasions<'a>(reader: &mut Reader<'a>, fields: &Fields<'a>, words: &[(&'static str, When)]) -> Option<Arc<[When]>> {
    let when = reader.key(fields, "when", |reader, node| {
        let all = reader.list(node, words.len(), |reader, item| reader.one_of(item, words, &[]))?;
        if matches!(&node.kind, Kind::Seq(items) if items.is_empty()) {
            reader.fault(node.span, "on no occasion it would never be called");
            return None;
        }
        Some(all.into_iter().map(|when| when.value).collect::<Arc<[When]>>())
    });
    when.map(|when| when.value)
}

/// What is wrong with it is said without the URL itself, which may be a secret.
pub(in crate::raw) fn web_url<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<WebUrl> {
    let parsed = match &node.kind {
        Kind::String(text) => text.parse::<WebUrl>().map_err(|error| error.to_string()),
        Kind::Null | Kind::Bool { .. } | Kind::Number(_) | Kind::Seq(_) | Kind::Map(_) => {
            Err("expected a URL, as in `https://hooks.example.com/path`".to_owned())
        }
    };
    parsed.map_err(|message| reader.fault(node.span, message)).ok()
}

pub(in crate::raw) fn file<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Arc<str>> {
    let path = reader.short_text(node, "the path of a file")?;
    if path.contains('\0') {
        reader.fault(node.span, "the path of a file holds no NUL");
        return None;
    }
    Some(path)
}

fn timeout<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Duration> {
    let timeout = reader.duration(node, false)?;
    if timeout > Hook::TIMEOUT_MAX {
        reader.fault(node.span, "at most 5 minutes");
        return None;
    }
    Some(timeout)
}

/// The same hook, with relative paths put below `base`.
pub(in crate::raw) fn below(mut hook: Hook, base: &str) -> Hook {
    let place = |path: &Arc<str>| -> Arc<str> {
        if base.is_empty() || path.starts_with('/') {
            Arc::clone(path)
        } else {
            Arc::from(format!("{}/{path}", base.trim_end_matches('/')))
        }
    };
    if let HookTo::File(path) = &hook.to {
        hook.to = HookTo::File(place(path));
    }
    hook.key_file = hook.key_file.as_ref().map(place);
    hook.ca = hook.ca.as_ref().map(place);
    hook
}
