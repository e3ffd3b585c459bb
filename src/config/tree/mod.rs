//! The text as a tree in which every value knows its place; the same for YAML, TOML and JSON.
//!
//! Scalars stay text until the schema says what they should be, so that a message can repeat what
//! the operator wrote.

mod from_toml;
mod from_yaml;

use serde::de::IgnoredAny;

use from_toml::read_toml;
use from_yaml::read_yaml;

use super::Format;
use super::error::Place;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    /// In the order of the text; a key may come twice, which the decoder refuses.
    Map(Vec<Entry>),
    /// Already reported; whoever meets it keeps quiet.
    Broken,
}

#[derive(Clone, Debug)]
pub struct Scalar {
    pub text: String,
    pub style: Style,
}

/// What the notation says about the type of a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Bare: the text decides between null, number, truth and text.
    Plain,
    /// In quotes: text, whatever it looks like.
    Quoted,
    /// Out of the environment, which knows no types: whatever is wanted.
    Substituted,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub place: Place,
    pub key: String,
    pub node: Node,
}

impl Node {
    pub fn scalar(place: Place, text: impl Into<String>, style: Style) -> Node {
        Node { place, value: Value::Scalar(Scalar { text: text.into(), style }) }
    }

    /// Whether there is nothing here: `key:` without a value, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }
}

impl Scalar {
    pub fn is_null(&self) -> bool {
        self.style == Style::Plain
            && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

/// A text that is not even YAML, TOML or JSON.
pub struct SyntaxError {
    pub place: Place,
    pub message: String,
}

/// Reads a whole text; only syntax is judged here.
pub fn read(text: &str, format: Format) -> Result<Node, SyntaxError> {
    match format {
        Format::Yaml => read_yaml(text, "YAML"),
        Format::Toml => read_toml(text),
        Format::Json => read_json(text),
    }
}

/// JSON is YAML to the letter, except for tabs; so serde_json judges and the YAML reader places.
fn read_json(text: &str) -> Result<Node, SyntaxError> {
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        let place = Place { line: number(error.line()), column: number(error.column().max(1)) };
        let message = error.to_string();
        let message = message.split_once(" at line ").map_or(message.as_str(), |(head, _)| head);
        return Err(SyntaxError { place, message: format!("not valid JSON: {message}") });
    }
    // Valid JSON has tabs only between its tokens, where a space does as well.
    read_yaml(&text.replace('\t', " "), "JSON")
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

const FIRST: Place = Place { line: 1, column: 1 };
