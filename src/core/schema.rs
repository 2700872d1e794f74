//! The JSON Schema (draft 2020-12) of `routes.yaml` and of `strangler.yaml`, made from the rows that the walk goes by: for completion and help in editors.
//!
//! It says what a value looks like. What holds between values (names that exist, routes that tie) only the loader knows.

use std::collections::BTreeMap;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::raw::keys::{Block, CONFIG, EVIDENCE, Key, SERVER, Shape, Takes};

/// That of `routes.yaml`.
pub fn schema() -> Value {
    whole(&CONFIG)
}

/// That of what `strangler judge` reads.
pub fn evidence_schema() -> Value {
    whole(&EVIDENCE)
}

/// That of `strangler.yaml`.
pub fn server_schema() -> Value {
    whole(&SERVER)
}

fn whole(file: &'static Block) -> Value {
    let mut defs = BTreeMap::new();
    let root = block(file, &mut defs);
    let mut out = Map::new();
    out.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    out.insert("title".to_owned(), json!(format!("strangler: {}", file.name)));
    if let Value::Object(root) = root {
        out.extend(root);
    }
    out.insert("$defs".to_owned(), json!(defs));
    Value::Object(out)
}

type Defs = BTreeMap<String, Value>;

fn block(block: &'static Block, defs: &mut Defs) -> Value {
    let written = || block.keys.iter().filter(|key| !matches!(key.takes, Takes::NotYet));
    let properties: Map<String, Value> = written().map(|one| (one.name.to_owned(), key(one, defs))).collect();
    let required: Vec<&str> =
        written().filter(|key| matches!(key.takes, Takes::Required(_))).map(|key| key.name).collect();
    let mut out = json!({
        "type": "object",
        "description": block.about,
        "additionalProperties": false,
        "properties": properties,
    });
    if let (Some(out), false) = (out.as_object_mut(), required.is_empty()) {
        out.insert("required".to_owned(), json!(required));
    }
    out
}

fn key(key: &'static Key, defs: &mut Defs) -> Value {
    let mut value = match &key.takes {
        Takes::Required(shape) | Takes::Optional(shape) => shape_of(shape, defs),
        Takes::Fixed { now, is_list: true, .. } => json!({
            "type": "array", "items": {"enum": now}, "uniqueItems": true, "minItems": now.len(),
        }),
        Takes::Fixed { now, .. } => one_of(now),
        // Left out by the caller: the schema offers what works.
        Takes::NotYet => json!(false),
    };
    let about = match key.default {
        "" => key.about.to_owned(),
        default => format!("{} Default: `{default}`.", key.about),
    };
    if let Some(value) = value.as_object_mut() {
        value.insert("description".to_owned(), json!(about));
        if let Some(default) = default_of(key) {
            value.insert("default".to_owned(), default);
        }
    }
    value
}

/// The default as a value, where it is one.
fn default_of(key: &Key) -> Option<Value> {
    let (Takes::Required(shape) | Takes::Optional(shape)) = &key.takes else { return None };
    if key.default.is_empty() {
        return None;
    }
    if let Shape::Count(..) = shape {
        return key.default.parse::<u64>().ok().map(|number| json!(number));
    }
    if let Shape::List(_) = shape {
        let list = key.default.strip_prefix('[')?.strip_suffix(']')?;
        return Some(json!(list.split(", ").filter(|item| !item.is_empty()).collect::<Vec<_>>()));
    }
    if let Shape::Any(forms) = shape {
        let is_word = forms.iter().any(|form| matches!(form, Shape::OneOf(words) if words.contains(&key.default)));
        let is_bool = matches!(key.default, "true" | "false");
        return (is_word || is_bool).then(|| if is_bool { json!(key.default == "true") } else { json!(key.default) });
    }
    let is_text = matches!(shape, Shape::Duration | Shape::Size | Shape::Weight | Shape::Points | Shape::OneOf(_));
    is_text.then(|| json!(key.default))
}

/// Words; numbers and truth values may be written without quotes, and then are what YAML says they are.
fn one_of(words: &[&str]) -> Value {
    let mut all: Vec<Value> = Vec::new();
    for word in words {
        match serde_json::from_str::<Value>(word) {
            Ok(value @ (Value::Number(_) | Value::Bool(_))) => all.extend([value, json!(word)]),
            _ => all.push(json!(word)),
        }
    }
    json!({ "enum": all })
}

fn shape_of(shape: &'static Shape, defs: &mut Defs) -> Value {
    let pattern = |pattern: &str| json!({"type": "string", "pattern": pattern});
    match shape {
        // A number or a truth value is taken by its spelling.
        Shape::Text => json!({"type": ["string", "number", "boolean"]}),
        Shape::Name => pattern("^[a-z0-9-]{1,63}$"),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Count(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        Shape::Duration => pattern("^[0-9]+(ms|s|m|h|d)$"),
        Shape::Size => json!({"anyOf": [
            {"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB|kB|KB|MB|GB)?$"},
        ]}),
        Shape::Weight => pattern("^(100(\\.0{1,2})?|[0-9]{1,2}(\\.[0-9]{1,2})?)%$"),
        Shape::Points => pattern("^[0-9]{1,3}(\\.[0-9]{1,2})? *pp$"),
        Shape::Number => json!({"type": "number"}),
        Shape::Url => pattern("^http://[^/?#@]+/?$"),
        Shape::WebUrl => pattern("^https?://[^/?#@]+([/?][^#]*)?$"),
        Shape::Path => pattern("^/"),
        Shape::MatchLine => pattern("^([A-Z_-]+(,[A-Z_-]+)* +)?/"),
        Shape::Regex => pattern("^\\^/.*\\$$"),
        Shape::Method => pattern("^[A-Z_-]+$"),
        Shape::Pointer => pattern("^(/.*)?$"),
        Shape::Status => json!({"anyOf": [
            {"type": "integer", "minimum": 100, "maximum": 599}, {"type": "string", "pattern": "^[1-5]([0-9]{2}|xx)$"},
        ]}),
        Shape::HeaderName => pattern("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"),
        Shape::KeySource => pattern("^(header|cookie):.+$"),
        Shape::OneOf(words) => one_of(words),
        Shape::List(items) => json!({"type": "array", "items": shape_of(items, defs)}),
        Shape::MapOf(values) => json!({"type": "object", "additionalProperties": shape_of(values, defs)}),
        Shape::Block(inner) => {
            let name = inner.name.replace(' ', "-");
            if !defs.contains_key(&name) {
                // Held open first: no block contains itself, and none should be able to.
                defs.insert(name.clone(), json!(true));
                let made = block(inner, defs);
                defs.insert(name.clone(), made);
            }
            json!({"$ref": format!("#/$defs/{name}")})
        }
        Shape::Any(forms) => json!({"anyOf": forms.iter().map(|form| shape_of(form, defs)).collect::<Vec<_>>()}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_the_schema_but_those_that_do_not_work_yet() {
        let schema = schema();
        let route = &schema["$defs"]["route"]["properties"];
        assert_eq!(route["weight"]["default"], "0%");
        assert!(route.get("retired").is_none());
        assert_eq!(schema["required"], json!(["version", "legacy"]));
        assert_eq!(schema["$defs"]["shadow"]["properties"]["methods"]["default"], json!(["GET", "HEAD"]));
        assert!(every_row(&CONFIG, &schema) > 100);
        let schema = server_schema();
        assert_eq!(schema["properties"]["drain"]["$ref"], "#/$defs/drain");
        assert!(schema["properties"].get("fleet").is_none());
        assert!(every_row(&SERVER, &schema) > 35);
        assert!(every_row(&EVIDENCE, &evidence_schema()) > 50);
    }

    fn every_row(file: &'static Block, schema: &Value) -> usize {
        let mut blocks = vec![file];
        let mut seen = 0;
        while let Some(block) = blocks.pop() {
            for key in block.keys {
                seen += 1;
                assert!(!key.about.is_empty() && key.about.ends_with('.'), "{}.{} says nothing", block.name, key.name);
                if let Takes::Required(shape) | Takes::Optional(shape) = &key.takes {
                    inner(shape, &mut blocks);
                }
            }
            let def = if block.name == file.name { schema } else { &schema["$defs"][block.name.replace(' ', "-")] };
            for key in block.keys {
                let is_there = def["properties"].get(key.name).is_some();
                assert_eq!(is_there, !matches!(key.takes, Takes::NotYet), "{}.{}", block.name, key.name);
            }
            assert_eq!(def["additionalProperties"], false);
        }
        seen
    }

    fn inner(shape: &'static Shape, blocks: &mut Vec<&'static Block>) {
        if let Shape::Block(block) = shape {
            blocks.push(block);
        } else if let Shape::List(shape) | Shape::MapOf(shape) = shape {
            inner(shape, blocks);
        } else if let Shape::Any(shapes) = shape {
            shapes.iter().for_each(|shape| inner(shape, blocks));
        }
    }
}
