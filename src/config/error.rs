//! What is wrong with a configuration, where, and what would be right: all of it at once.

use std::error::Error;
use std::fmt;

/// A position in the text, counted from 1; line 0 means the file as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// One line for the operator: where, which key, what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as it was named to us, or the flag with its value.
    pub origin: String,
    /// Where in the file; the default place for a flag or for the file as a whole.
    pub place: Place,
    /// The path of the key, such as `listeners[1].pool`; empty when no single key is to blame.
    pub key: String,
    /// What is wrong, with the value and the way out.
    pub message: String,
}

/// Something accepted that the operator should still know.
pub type Warning = Problem;

/// Every reason why there is no plan, by position; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    problems: Vec<Problem>,
}

impl Problem {
    /// The same as a JSON object.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "file": self.origin,
            "line": self.place.line,
            "column": self.place.column,
            "key": self.key,
            "message": self.message,
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)?;
        if self.place.line > 0 {
            write!(f, ":{}:{}", self.place.line, self.place.column)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl Errors {
    /// Sorts by position; several problems at one place keep their order.
    fn new(mut problems: Vec<Problem>) -> Errors {
        debug_assert!(!problems.is_empty(), "errors without an error");
        problems.sort_by_key(|problem| problem.place);
        Errors { problems }
    }

    /// One by one, by position.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.problems.iter()
    }

    /// A JSON array with one object per error.
    pub fn to_json(&self) -> serde_json::Value {
        self.problems.iter().map(Problem::to_json).collect()
    }
}

/// What has been found so far, good or bad, while a configuration is read.
pub(super) struct Findings {
    origin: Origin,
    errors: Vec<Problem>,
    warnings: Vec<Warning>,
    /// Errors beyond `ERRORS_MAX`, only counted.
    more: usize,
}

/// What the text being read is.
pub(super) enum Origin {
    /// A file, named as the operator named it.
    File(String),
    /// Flags with their values; a place's line is an index into them, from 1.
    Flags(Vec<String>),
}

impl Findings {
    pub(super) fn new(origin: Origin) -> Findings {
        Findings { origin, errors: Vec::new(), warnings: Vec::new(), more: 0 }
    }

    pub(super) fn error(&mut self, place: Place, key: &str, message: impl Into<String>) {
        if self.is_full() {
            self.more += 1;
            return;
        }
        let problem = self.problem(place, key, message.into());
        self.errors.push(problem);
    }

    /// Whether further errors are only counted, so that nobody need word them.
    pub(super) fn is_full(&self) -> bool {
        self.errors.len() >= ERRORS_MAX
    }

    pub(super) fn warn(&mut self, place: Place, key: &str, message: impl Into<String>) {
        let problem = self.problem(place, key, message.into());
        self.warnings.push(problem);
    }

    /// How a message speaks of another place.
    pub(super) fn whereabouts(&self, place: Place) -> String {
        match &self.origin {
            Origin::File(_) => format!("line {}", place.line),
            Origin::Flags(_) => self.problem(place, "", String::new()).origin,
        }
    }

    /// The errors if there are any, otherwise the warnings by position.
    pub(super) fn finish(mut self) -> Result<Vec<Warning>, Errors> {
        self.warnings.truncate(ERRORS_MAX);
        if self.errors.is_empty() {
            self.warnings.sort_by_key(|warning| warning.place);
            Ok(self.warnings)
        } else {
            let more = (self.more > 0).then(|| {
                self.problem(Place::default(), "", format!("and {} more errors", self.more))
            });
            let mut errors = Errors::new(self.errors);
            errors.problems.extend(more);
            Err(errors)
        }
    }

    /// For what leaves nothing to read on.
    pub(super) fn fail(mut self, place: Place, message: impl Into<String>) -> Errors {
        self.error(place, "", message);
        Errors::new(self.errors)
    }

    fn problem(&self, place: Place, key: &str, message: String) -> Problem {
        match &self.origin {
            Origin::File(name) => {
                Problem { origin: name.clone(), place, key: key.to_owned(), message }
            }
            // The operator wrote a flag and knows nothing of our tree; only an option inside the
            // flag (`weight=`) is worth naming, and the address is not one.
            Origin::Flags(flags) => Problem {
                origin: usize::try_from(place.line)
                    .ok()
                    .and_then(|line| flags.get(line.checked_sub(1)?))
                    .cloned()
                    .unwrap_or_else(|| "command line".to_owned()),
                place: Place::default(),
                key: key
                    .split_once("].")
                    .map(|(_, option)| option.to_owned())
                    .filter(|option| option != "address")
                    .unwrap_or_default(),
                message,
            },
        }
    }
}

/// Nobody reads further, and a hostile file could hold millions.
const ERRORS_MAX: usize = 1000;

impl<'a> IntoIterator for &'a Errors {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl Error for Errors {}
