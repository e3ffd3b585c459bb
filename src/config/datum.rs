//! Decoded values, and how the builder asks for them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::env::join;
use super::error::Place;
use super::keys::Key;
use super::plan::Target;
use crate::net::Address;

/// A decoded value, and how to speak of it.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) place: Place,
    pub(super) path: String,
    pub(super) datum: Datum,
}

#[derive(Clone, Debug)]
pub(super) enum Datum {
    Bool(bool),
    Whole(u64),
    Number(f64),
    Duration(Duration),
    Share(f64),
    /// One of the words the table lists, `off` and `auto` among them.
    Word(&'static str),
    Text(String),
    Path(PathBuf),
    Bind(Address),
    Target(Target),
    Source(IpAddr),
    List(Vec<Item>),
    Map(Record),
    /// Of the right shape, and of no use to this version.
    Idle,
    /// Reported already.
    Broken,
}

/// A decoded map: every key is one the table knows, and comes once.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) place: Place,
    pub(super) path: String,
    pub(super) keys: &'static [Key],
    pub(super) fields: Vec<(&'static str, Item)>,
    /// Keys that stand in the text, readable or not.
    pub(super) given: Vec<(&'static str, Place)>,
    pub(super) has_unknown: bool,
}

impl Record {
    /// Whether the key stands in the text, even if its value was no good.
    pub(super) fn was_given(&self, key: &str) -> bool {
        self.given.iter().any(|(name, _)| *name == key)
    }

    /// Whether keys in the text were unknown, so that something may be missing only in name.
    pub(super) fn has_unknown(&self) -> bool {
        self.has_unknown
    }

    /// What was written, or the default; `None` where neither is.
    pub(super) fn get(&self, key: &str) -> Option<&Item> {
        debug_assert!(self.keys.iter().any(|known| known.name == key), "no key is called {key}");
        self.fields.iter().find(|(name, _)| *name == key).map(|(_, item)| item)
    }

    /// The value of a key, by a function that knows its type.
    pub(super) fn read<T>(&self, key: &str, as_type: fn(&Datum) -> Option<T>) -> Option<T> {
        self.get(key).and_then(|item| as_type(&item.datum))
    }

    /// The value of a key that has a default in the table.
    pub(super) fn filled<T>(&self, key: &str, as_type: fn(&Datum) -> Option<T>) -> T {
        match self.read(key, as_type) {
            Some(value) => value,
            None => unreachable!("the table gives {key} a default of the type it is read as"),
        }
    }

    pub(super) fn map(&self, key: &str) -> Option<&Record> {
        match self.get(key).map(|item| &item.datum) {
            Some(Datum::Map(record)) => Some(record),
            _ => None,
        }
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }
}

impl Datum {
    pub(super) fn truth(&self) -> Option<bool> {
        if let Datum::Bool(value) = self { Some(*value) } else { None }
    }

    pub(super) fn whole(&self) -> Option<u64> {
        if let Datum::Whole(value) = self { Some(*value) } else { None }
    }

    /// A number that the table keeps within 32 bits; `Some(None)` where a word stands instead.
    pub(super) fn limit(&self) -> Option<Option<u32>> {
        match self {
            Datum::Whole(value) => Some(Some(u32::try_from(*value).unwrap_or(u32::MAX))),
            Datum::Word(_) => Some(None),
            _ => None,
        }
    }

    pub(super) fn number(&self) -> Option<f64> {
        if let Datum::Number(value) = self { Some(*value) } else { None }
    }

    pub(super) fn share(&self) -> Option<f64> {
        if let Datum::Share(value) = self { Some(*value) } else { None }
    }

    pub(super) fn duration(&self) -> Option<Duration> {
        if let Datum::Duration(value) = self { Some(*value) } else { None }
    }

    /// `Some(None)` is off.
    pub(super) fn timeout(&self) -> Option<Option<Duration>> {
        match self {
            Datum::Duration(value) => Some(Some(*value)),
            Datum::Word(_) => Some(None),
            _ => None,
        }
    }

    pub(super) fn word(&self) -> Option<&'static str> {
        if let Datum::Word(value) = self { Some(value) } else { None }
    }

    pub(super) fn text(&self) -> Option<String> {
        if let Datum::Text(value) = self { Some(value.clone()) } else { None }
    }
}
