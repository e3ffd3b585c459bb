//! From the tree to typed values, as the table of keys says; what does not fit is reported, and
//! stays out.

use super::datum::{Datum, Item, Record};
use super::env::join;
use super::error::{Findings, Place};
use super::keys::{Key, Kind, Stage};
use super::scalar::{decode_scalar, describe, show};
use super::suggest::{advice, nearest};
use super::tree::{Entry, Node, Style, Value};

/// Decodes the whole tree.
pub(super) fn decode(root: &Node, keys: &'static [Key], findings: &mut Findings) -> Option<Record> {
    match (Decoder { findings }).value(root, "", &Kind::Map(keys)) {
        Datum::Map(record) => Some(record),
        _ => None,
    }
}

struct Decoder<'f> {
    findings: &'f mut Findings,
}

impl Decoder<'_> {
    fn item(&mut self, node: &Node, path: String, kind: &Kind) -> Item {
        let datum = self.value(node, &path, kind);
        Item { place: node.place, path, datum }
    }

    fn value(&mut self, node: &Node, path: &str, kind: &Kind) -> Datum {
        match (&node.value, kind) {
            (Value::Broken, _) => Datum::Broken,
            (_, Kind::Any) => Datum::Idle,
            (_, Kind::OneOf(kinds)) => self.one_of(node, path, kinds),
            (Value::Scalar(scalar), Kind::List(_)) if scalar.is_null() => Datum::List(Vec::new()),
            (Value::Scalar(scalar), Kind::Map(keys) | Kind::Override(keys)) if scalar.is_null() => {
                self.map(node, path, keys, &[], matches!(kind, Kind::Map(_)))
            }
            (Value::Map(entries), Kind::Map(keys)) => self.map(node, path, keys, entries, true),
            (Value::Map(entries), Kind::Override(keys)) => {
                self.map(node, path, keys, entries, false)
            }
            (Value::Map(entries), Kind::Texts) => {
                for entry in entries {
                    self.value(&entry.node, &join(path, &entry.key), &Kind::Text);
                }
                Datum::Idle
            }
            (Value::List(nodes), Kind::List(kind)) => Datum::List(
                nodes
                    .iter()
                    .enumerate()
                    .map(|(index, node)| self.item(node, format!("{path}[{index}]"), kind))
                    .collect(),
            ),
            (Value::Scalar(scalar), _) if !wants_structure(kind) => decode_scalar(scalar, kind)
                .unwrap_or_else(|message| {
                    self.findings.error(node.place, path, message);
                    Datum::Broken
                }),
            (value, _) => {
                let message = format!("must be {}, not {}", describe(kind), describe_value(value));
                self.findings.error(node.place, path, message);
                Datum::Broken
            }
        }
    }

    /// A word that fits wins; otherwise the alternative of the same shape decides, or explains.
    fn one_of(&mut self, node: &Node, path: &str, kinds: &'static [Kind]) -> Datum {
        let Value::Scalar(scalar) = &node.value else {
            let shape = |kind: &&Kind| match node.value {
                Value::List(_) => matches!(kind, Kind::List(_)),
                _ => matches!(kind, Kind::Map(_) | Kind::Override(_) | Kind::Texts),
            };
            if let Some(kind) = kinds.iter().find(shape) {
                return self.value(node, path, kind);
            }
            let message = format!(
                "must be {}, not {}",
                describe(&Kind::OneOf(kinds)),
                describe_value(&node.value)
            );
            self.findings.error(node.place, path, message);
            return Datum::Broken;
        };
        let mut explanation = None;
        for kind in kinds.iter().filter(|kind| !wants_structure(kind)) {
            match decode_scalar(scalar, kind) {
                Ok(datum) => return datum,
                // Words are only an alternative: what the other kind says helps more.
                Err(message) if !matches!(kind, Kind::Choice(_)) => explanation = Some(message),
                Err(_) => {}
            }
        }
        if scalar.is_null()
            && let Some(kind) = kinds.iter().find(|kind| wants_structure(kind))
        {
            return self.value(node, path, kind);
        }
        let alternatives: Vec<String> = kinds
            .iter()
            .filter(|kind| explanation.is_none() || matches!(kind, Kind::Choice(_)))
            .map(describe)
            .collect();
        let message = match explanation {
            Some(message) if alternatives.is_empty() => message,
            Some(message) => {
                let alternatives = alternatives.join(" or ");
                match message.strip_suffix(')') {
                    Some(message) => format!("{message}, or {alternatives})"),
                    None => format!("{message} (or {alternatives})"),
                }
            }
            None => format!("{} is not {}", show(scalar), alternatives.join(" or ")),
        };
        self.findings.error(node.place, path, message);
        Datum::Broken
    }

    fn map(
        &mut self,
        node: &Node,
        path: &str,
        keys: &'static [Key],
        entries: &[Entry],
        fill: bool,
    ) -> Datum {
        let mut fields: Vec<(&'static str, Item)> = Vec::with_capacity(keys.len());
        let mut seen: Vec<(&'static str, Place)> = Vec::new();
        let mut misspelt = Vec::new();
        for entry in entries {
            let entry_path = join(path, &entry.key);
            let known = keys.iter().find(|key| key.name == entry.key);
            if known.is_none() && self.findings.is_full() {
                self.findings.error(entry.place, &entry_path, "");
                continue;
            }
            let Some(key) = known else {
                let advice = advice(&entry.key, "keys here", keys.iter().map(|key| key.name));
                self.findings.error(entry.place, &entry_path, format!("unknown key ({advice})"));
                misspelt.push(nearest(&entry.key, keys.iter().map(|key| key.name)));
                continue;
            };
            if let Some((_, first)) = seen.iter().find(|(name, _)| *name == key.name) {
                let first = self.findings.whereabouts(*first);
                let message = format!("given twice (first: {first}; keep one)");
                self.findings.error(entry.place, &entry_path, message);
                continue;
            }
            seen.push((key.name, entry.place));
            if entry.node.is_null() && !takes_null(&key.kind) && key.stage == Stage::Works {
                let message = "has no value (give it one, or remove the key)";
                self.findings.error(entry.place, &entry_path, message);
                continue;
            }
            if let Some(item) = self.field(key, &entry.node, entry_path) {
                fields.push((key.name, item));
            }
        }
        for key in keys {
            let given = seen.iter().any(|(name, _)| *name == key.name);
            if key.required && !given && !misspelt.contains(&Some(key.name)) {
                let example = describe(&key.kind);
                let message = format!("is missing (it must be {example})");
                self.findings.error(node.place, &join(path, key.name), message);
            }
            let readable = fields.iter().any(|(name, _)| *name == key.name);
            if fill
                && !readable
                && let Some(default) = key.default
            {
                let item =
                    self.item(&default_node(default, node.place), join(path, key.name), &key.kind);
                fields.push((key.name, item));
            }
        }
        let (path, has_unknown) = (path.to_owned(), !misspelt.is_empty());
        Datum::Map(Record { place: node.place, path, keys, fields, given: seen, has_unknown })
    }

    /// One known key; `None` where nothing can be made of it.
    fn field(&mut self, key: &'static Key, node: &Node, path: String) -> Option<Item> {
        let off = key.stage != Stage::Works && (node.is_null() || is_off(node));
        let off_fits = match &node.value {
            Value::Scalar(scalar) => scalar.is_null() || wants_structure(&key.kind),
            _ => true,
        };
        if off && off_fits {
            return None;
        }
        let place = node.place;
        let item = self.item(node, path, &key.kind);
        if matches!(item.datum, Datum::Broken) {
            return None;
        }
        if off {
            return Some(item);
        }
        let written = match &node.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        };
        if written.is_some_and(|scalar| key.neutral.contains(&scalar.text.as_str())) {
            return Some(item);
        }
        match key.stage {
            Stage::Works => Some(item),
            Stage::Advisory => {
                self.findings.warn(
                    place,
                    &item.path,
                    "accepted, but has no effect in this version",
                );
                Some(item)
            }
            Stage::Later => {
                let what =
                    written.map(|scalar| format!("{} is ", show(scalar))).unwrap_or_default();
                let other = match key.neutral {
                    [] => String::new(),
                    words => format!(", or use {}", words.join(" or ")),
                };
                let message =
                    format!("{what}not available in this version (remove the key{other})");
                self.findings.error(place, &item.path, message);
                None
            }
        }
    }
}

fn describe_value(value: &Value) -> String {
    match value {
        Value::Scalar(scalar) => show(scalar),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a map".to_owned(),
        Value::Broken => "this".to_owned(),
    }
}

fn wants_structure(kind: &Kind) -> bool {
    matches!(kind, Kind::List(_) | Kind::Map(_) | Kind::Override(_) | Kind::Texts | Kind::Any)
}

fn takes_null(kind: &Kind) -> bool {
    match kind {
        Kind::OneOf(kinds) => kinds.iter().any(|kind| matches!(kind, Kind::Map(_))),
        kind => wants_structure(kind),
    }
}

/// `off`, an empty list, an empty map, or a map whose type is off.
fn is_off(node: &Node) -> bool {
    match &node.value {
        Value::Scalar(scalar) => scalar.text == "off",
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => {
            entries.is_empty() || entries.iter().any(|entry| {
                entry.key == "type"
                    && matches!(&entry.node.value, Value::Scalar(scalar) if scalar.text == "off")
            })
        }
        Value::Broken => false,
    }
}

fn default_node(text: &str, place: Place) -> Node {
    match text {
        "{}" => Node { place, value: Value::Map(Vec::new()) },
        "[]" => Node { place, value: Value::List(Vec::new()) },
        text => Node::scalar(place, text, Style::Plain),
    }
}
