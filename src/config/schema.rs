//! The JSON Schema of a configuration file, for editors and for other people's tools.

use serde_json::{Map, Value, json};

use super::keys::{Key, Kind, ROOT, Stage};

/// The schema, made from the same table of keys that the decoder uses.
pub fn schema() -> Value {
    let mut root = object(ROOT);
    if let Value::Object(fields) = &mut root {
        fields.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        fields.insert("title".to_owned(), json!("evenkeel configuration"));
        fields.insert(
            "$defs".to_owned(),
            json!({"variable": {
                "type": "string",
                "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}",
                "description": "a value out of the environment",
            }}),
        );
        let form = |title: &str, keys: [&str; 2], others: [&str; 2]| {
            let others: Vec<Value> = others.iter().map(|key| json!({"required": [key]})).collect();
            json!({"title": title, "required": keys, "not": {"anyOf": others}})
        };
        let (simple, full) = (["listen", "backends"], ["listeners", "pools"]);
        let forms = json!([form("simple form", simple, full), form("full form", full, simple)]);
        fields.insert("oneOf".to_owned(), forms);
    }
    root
}

fn object(keys: &[Key]) -> Value {
    let properties: Map<String, Value> =
        keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<&str> = keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn property(key: &Key) -> Value {
    let mut schema = of(&key.kind);
    let takes_off = key.stage != Stage::Works && matches!(key.kind, Kind::List(_));
    if takes_off {
        schema = json!({"anyOf": [{"const": "off"}, schema]});
    }
    if let Value::Object(fields) = &mut schema {
        let remark = match (key.stage, key.neutral) {
            (Stage::Works, _) => String::new(),
            (Stage::Advisory, _) => " (no effect in this version)".to_owned(),
            (Stage::Later, []) => " (not available in this version)".to_owned(),
            (Stage::Later, words) => format!(" (in this version: {})", words.join(", ")),
        };
        fields.insert("description".to_owned(), json!(format!("{}{remark}", key.doc)));
        let default = key.default.filter(|default| *default != "{}");
        fields.extend(default.map(|default| ("default".to_owned(), literal(default))));
    }
    schema
}

fn of(kind: &Kind) -> Value {
    match kind {
        Kind::Bool => or_variable(json!({"type": "boolean"})),
        Kind::Whole { min, max } => {
            or_variable(json!({"type": "integer", "minimum": min, "maximum": max}))
        }
        Kind::Number { min, max } => {
            or_variable(json!({"type": "number", "minimum": min, "maximum": max}))
        }
        Kind::Duration { .. } => pattern(r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"),
        Kind::Size => pattern(r"^[0-9]+(\.[0-9]+)?([kKMG]B|[KMG]iB|B)$"),
        Kind::Percent => pattern(r"^[0-9]+(\.[0-9]{1,4})?%$"),
        Kind::Rate => pattern("^[0-9]+/[smh]$"),
        Kind::Choice(words) => or_variable(json!({"enum": words})),
        Kind::Prefixed(prefix) => pattern(&format!("^{prefix}.")),
        Kind::Name => pattern("^[A-Za-z0-9_.-]{1,64}$"),
        Kind::Path => pattern("/"),
        Kind::Text | Kind::Bind | Kind::Target | Kind::Source | Kind::Network => {
            json!({"type": "string"})
        }
        Kind::List(kind) => json!({"type": "array", "items": of(kind)}),
        Kind::Map(keys) | Kind::Override(keys) => object(keys),
        Kind::Texts => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        Kind::Any => json!({}),
        Kind::OneOf(kinds) => json!({"anyOf": kinds.iter().map(of).collect::<Vec<_>>()}),
    }
}

fn pattern(pattern: &str) -> Value {
    or_variable(json!({"type": "string", "pattern": pattern}))
}

fn or_variable(schema: Value) -> Value {
    json!({"anyOf": [schema, {"$ref": "#/$defs/variable"}]})
}

/// A default as JSON: a number, a truth, an empty list or text.
fn literal(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_) | Value::Array(_))) => value,
        _ => json!(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_key(keys: &'static [Key], path: &str, visit: &mut dyn FnMut(&str, &Key)) {
        for key in keys {
            let path = format!("{path}/{}", key.name);
            visit(&path, key);
            inside(&key.kind, &path, visit);
        }
    }

    fn inside(kind: &'static Kind, path: &str, visit: &mut dyn FnMut(&str, &Key)) {
        match kind {
            Kind::Map(keys) | Kind::Override(keys) => every_key(keys, path, visit),
            Kind::List(kind) => inside(kind, path, visit),
            Kind::OneOf(kinds) => kinds.iter().for_each(|kind| inside(kind, path, visit)),
            _ => {}
        }
    }

    #[test]
    fn every_key_is_documented_and_none_comes_twice() {
        let mut paths = Vec::new();
        every_key(ROOT, "", &mut |path, key| {
            assert!(!key.doc.is_empty(), "{path} has no description");
            assert!(!(key.required && key.default.is_some()), "{path} is required, with a default");
            paths.push(path.to_owned());
        });
        let count = paths.len();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), count);
        assert!(count > 100, "only {count} keys: the walk misses some");
    }
}
