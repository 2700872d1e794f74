//! `fall_through:` as written.

use crate::limits::DECLARED_MAX;
use crate::raw::conditions::conditions;
use crate::raw::keys;
use crate::raw::walk::Reader;
use crate::route::{DeclaredEndpoint, FallThrough};
use crate::template::PathPattern;
use crate::tree::Node;

/// Most templates that may be learned: some 2 KB each.
pub(in crate::raw) const TEMPLATES_MAX: u64 = 100_000;

pub(in crate::raw) fn fall_through<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<FallThrough> {
    let fields = reader.fields(node, &keys::FALL_THROUGH)?;
    let built_in = FallThrough::default();
    let discover = reader.key(&fields, "discover", Reader::bool);
    let most = reader.key(&fields, "max_templates", |reader, node| reader.count_u32(node, 1, TEMPLATES_MAX));
    let declared = reader.key(&fields, "declared", |reader, node| reader.list(node, DECLARED_MAX, declared));
    let declared = declared.map(|list| list.value).unwrap_or_default();
    Some(FallThrough {
        is_discovered: discover.map_or(built_in.is_discovered, |it| it.value),
        templates_max: most.map_or(built_in.templates_max, |it| it.value),
        declared: declared.into_iter().flat_map(|one| one.value).collect(),
    })
}

/// One line for one path, with one method, several, or none.
fn declared<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Vec<DeclaredEndpoint>> {
    reader.text(node, "`METHOD /path`")?;
    let (conditions, _) = conditions(reader, node)?;
    let PathPattern::Template(template) = conditions.path else { return None };
    let of = |method| DeclaredEndpoint { method, template: template.clone() };
    if conditions.methods.is_empty() {
        return Some(vec![of(None)]);
    }
    Some(conditions.methods.into_iter().map(|method| of(Some(method))).collect())
}
