//! YAML, read from the parser's events: no recursion, so nesting cannot overflow the stack, and
//! copies are counted, so aliases cannot fill the memory.

use std::collections::{HashMap, HashSet};

use serde_yaml::granit_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::super::error::Place;
use super::super::units::quote;
use super::{Entry, FIRST, Node, Style, SyntaxError, Value, number};

pub(super) fn read_yaml(text: &str, notation: &str) -> Result<Node, SyntaxError> {
    let mut builder = YamlBuilder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let place = place(error.marker());
            SyntaxError { place, message: explain(text, notation, place, &error.info()) }
        })?;
        builder.take(event, place(&span.start))?;
    }
    Ok(builder.root.unwrap_or_else(|| Node::scalar(FIRST, "", Style::Plain)))
}

#[derive(Default)]
struct YamlBuilder {
    open: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    documents: usize,
    copied: usize,
    root: Option<Node>,
}

/// A list or map whose end is still to come.
struct Frame {
    place: Place,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, key: Option<(String, Place)>, merged: Vec<Node> },
}

impl YamlBuilder {
    fn take(&mut self, event: Event<'_>, place: Place) -> Result<(), SyntaxError> {
        if let Some(tag) = event.tag() {
            check_tag(tag, place)?;
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return fail(place, "a second document starts here (one file, one document)");
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = tag.is_some_and(|tag| tag.core_suffix() == Some("str"));
                let plain = style == ScalarStyle::Plain && !is_text;
                let style = if plain { Style::Plain } else { Style::Quoted };
                self.place_node(Node::scalar(place, text, style), anchor)
            }
            Event::Alias(anchor) => self.copy(anchor, place),
            Event::SequenceStart(_, anchor, _) => {
                self.open(place, anchor, Content::List(Vec::new()))
            }
            Event::MappingStart(_, anchor, _) => {
                let content = Content::Map { entries: Vec::new(), key: None, merged: Vec::new() };
                self.open(place, anchor, content)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            _ => Ok(()),
        }
    }

    fn open(&mut self, place: Place, anchor: usize, content: Content) -> Result<(), SyntaxError> {
        let wants_key =
            matches!(self.open.last(), Some(Frame { content: Content::Map { key: None, .. }, .. }));
        if wants_key {
            return fail(place, KEY_IS_NO_TEXT);
        }
        if self.open.len() >= DEPTH_MAX {
            return fail(place, format!("nested more than {DEPTH_MAX} deep"));
        }
        self.open.push(Frame { place, anchor, content });
        Ok(())
    }

    fn close(&mut self) -> Result<(), SyntaxError> {
        let Some(frame) = self.open.pop() else { return Ok(()) };
        let value = match frame.content {
            Content::List(items) => Value::List(items),
            Content::Map { mut entries, merged, .. } => {
                merge(&mut entries, merged)?;
                Value::Map(entries)
            }
        };
        self.place_node(Node { place: frame.place, value }, frame.anchor)
    }

    fn copy(&mut self, anchor: usize, place: Place) -> Result<(), SyntaxError> {
        let Some(original) = self.anchors.get(&anchor) else {
            // The parser resolves names; what it resolved but we have not seen is still open.
            return fail(place, "an alias inside its own anchor has no end");
        };
        let (nodes, depth) = measure(original);
        if self.open.len() + depth > DEPTH_MAX {
            return fail(place, format!("aliases nest more than {DEPTH_MAX} deep"));
        }
        let node = original.clone();
        self.charge(nodes, place)?;
        self.place_node(node, 0)
    }

    /// Counts values that exist more than once, because of an anchor or an alias.
    fn charge(&mut self, nodes: usize, place: Place) -> Result<(), SyntaxError> {
        self.copied += nodes;
        if self.copied > COPIES_MAX {
            return fail(place, format!("anchors and aliases copy more than {COPIES_MAX} values"));
        }
        Ok(())
    }

    /// Puts a finished node where it belongs; in a map that is a key first, then its value.
    fn place_node(&mut self, node: Node, anchor: usize) -> Result<(), SyntaxError> {
        if anchor != 0 {
            self.charge(measure(&node).0, node.place)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|frame| &mut frame.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map { entries, key, merged }) => match key.take() {
                None => match node.value {
                    Value::Scalar(scalar) => *key = Some((scalar.text, node.place)),
                    _ => return fail(node.place, KEY_IS_NO_TEXT),
                },
                Some((name, _)) if name == "<<" => merged.push(node),
                Some((key, place)) => entries.push(Entry { place, key, node }),
            },
        }
        Ok(())
    }
}

/// `<<: *defaults`: entries of the merged maps, except those that are spelt out.
fn merge(entries: &mut Vec<Entry>, merged: Vec<Node>) -> Result<(), SyntaxError> {
    if merged.is_empty() {
        return Ok(());
    }
    let mut known: HashSet<String> = entries.iter().map(|entry| entry.key.clone()).collect();
    for node in merged {
        let maps = match node.value {
            Value::List(items) => items,
            _ => vec![node],
        };
        for map in maps {
            let Value::Map(more) = map.value else {
                return fail(map.place, "<< merges maps only");
            };
            entries.extend(more.into_iter().filter(|entry| known.insert(entry.key.clone())));
        }
    }
    Ok(())
}

/// How many nodes, and how deep. The recursion is bounded: no node is deeper than `DEPTH_MAX`.
fn measure(node: &Node) -> (usize, usize) {
    let children: Vec<&Node> = match &node.value {
        Value::List(items) => items.iter().collect(),
        Value::Map(entries) => entries.iter().map(|entry| &entry.node).collect(),
        Value::Scalar(_) | Value::Broken => return (1, 0),
    };
    children
        .into_iter()
        .map(measure)
        .fold((1, 1), |(nodes, depth), (more, below)| (nodes + more, depth.max(below + 1)))
}

fn check_tag(tag: &Tag, place: Place) -> Result<(), SyntaxError> {
    if tag.core_suffix().is_some() || (tag.handle() == "!" && tag.suffix().is_empty()) {
        return Ok(());
    }
    let name = format!("{}{}", tag.original_handle(), tag.suffix());
    fail(place, format!("the tag {} means nothing here (remove it)", quote(&name)))
}

/// The parser's own words, and the reason that is behind them most often.
fn explain(text: &str, notation: &str, place: Place, info: &str) -> String {
    let line = usize::try_from(place.line).unwrap_or(0).checked_sub(1);
    let line = line.and_then(|line| text.lines().nth(line)).unwrap_or("");
    let advice = if line.contains("[::") || line.contains("]:") {
        " (an IPv6 address needs quotes in YAML: \"[::1]:80\")"
    } else if line.contains("${") {
        " (inside [] and {} a ${NAME} needs quotes)"
    } else if line.trim_start_matches(' ').starts_with('\t') {
        " (indent with spaces, not tabs)"
    } else {
        ""
    };
    format!("not valid {notation}: {info}{advice}")
}

fn place(marker: &Marker) -> Place {
    Place { line: number(marker.line()), column: number(marker.col() + 1) }
}

fn fail<T>(place: Place, message: impl Into<String>) -> Result<T, SyntaxError> {
    Err(SyntaxError { place, message: message.into() })
}

/// Deeper than any honest configuration, shallow enough to recurse.
const DEPTH_MAX: usize = 64;

/// Values that anchors and aliases may copy in all: enough for templates, not for a bomb.
const COPIES_MAX: usize = 100_000;

const KEY_IS_NO_TEXT: &str =
    "a list or map stands where a key should (an address such as [::1]:80 needs quotes)";
