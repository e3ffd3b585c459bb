//! TOML, whose parser knows byte offsets, turned into lines and columns.

use toml::de::{DeTable, DeValue};

use super::super::error::Place;
use super::{Entry, FIRST, Node, Scalar, Style, SyntaxError, Value, number};

pub(super) fn read_toml(text: &str) -> Result<Node, SyntaxError> {
    let lines = Lines::new(text);
    let root = DeTable::parse(text).map_err(|error| SyntaxError {
        place: error.span().map_or(FIRST, |span| lines.place(span.start)),
        message: format!("not valid TOML: {}", error.message().lines().next().unwrap_or("")),
    })?;
    Ok(Node { place: FIRST, value: toml_map(root.get_ref(), &lines) })
}

/// The parser refuses tables nested more than 80 deep, so the recursion is bounded.
fn toml_value(value: &DeValue<'_>, lines: &Lines<'_>) -> Value {
    let plain = |text: String| Value::Scalar(Scalar { text, style: Style::Plain });
    match value {
        DeValue::String(text) => {
            Value::Scalar(Scalar { text: text.to_string(), style: Style::Quoted })
        }
        DeValue::Integer(number) => plain(number.to_string()),
        DeValue::Float(number) => plain(number.to_string()),
        DeValue::Boolean(truth) => plain(truth.to_string()),
        DeValue::Datetime(moment) => plain(moment.to_string()),
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| Node {
                    place: lines.place(item.span().start),
                    value: toml_value(item.get_ref(), lines),
                })
                .collect(),
        ),
        DeValue::Table(table) => toml_map(table, lines),
    }
}

fn toml_map(table: &DeTable<'_>, lines: &Lines<'_>) -> Value {
    let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| Entry {
        place: lines.place(key.span().start),
        key: String::from(<std::borrow::Cow<'_, str> as AsRef<str>>::as_ref(key.get_ref())),
        node: Node {
            place: lines.place(value.span().start),
            value: toml_value(value.get_ref(), lines),
        },
    };
    let mut entries: Vec<Entry> = table.iter().map(entry).collect();
    entries.sort_by_key(|entry| entry.place);
    Value::Map(entries)
}

/// From byte offsets to lines and columns.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Lines<'t> {
        let starts = std::iter::once(0)
            .chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1))
            .collect();
        Lines { text, starts }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start =
            line.checked_sub(1).and_then(|line| self.starts.get(line)).copied().unwrap_or(0);
        // Counting is bounded: nobody looks for a column far out, and a file may be one long line.
        let column = match self.text.get(start..offset) {
            Some(text) if text.len() <= COLUMN_MAX => text.chars().count() + 1,
            _ => offset.saturating_sub(start) + 1,
        };
        Place { line: number(line), column: number(column) }
    }
}

/// Bytes within which a column counts characters.
const COLUMN_MAX: usize = 10_000;
