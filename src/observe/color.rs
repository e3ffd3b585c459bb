//! Whether to colour, and how: five ANSI styles are all we need.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::IsTerminal;

/// What the operator asked for with `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// On a terminal that can, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Even into a file.
    Always,
    /// Not at all.
    Never,
}

impl When {
    /// Whether to colour what goes to `stream`.
    pub fn applies_to(self, stream: &impl IsTerminal) -> bool {
        let var = |name| std::env::var_os(name);
        self.decide(stream.is_terminal(), var("NO_COLOR").as_deref(), var("TERM").as_deref())
    }

    fn decide(self, terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
        match self {
            When::Always => true,
            When::Never => false,
            // no-color.org: an empty variable counts as unset.
            When::Auto => {
                terminal && no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|t| t != "dumb")
            }
        }
    }
}

/// Puts ANSI styles around words, or leaves them alone.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// For a stream that takes colours, or not.
    pub fn new(on: bool) -> Paint {
        Paint { on }
    }

    /// A heading.
    pub fn bold(self, text: impl Display) -> String {
        self.wrap("1", text)
    }

    /// What matters less.
    pub fn dim(self, text: impl Display) -> String {
        self.wrap("2", text)
    }

    /// An error, or a line that went.
    pub fn red(self, text: impl Display) -> String {
        self.wrap("31", text)
    }

    /// A line that came.
    pub fn green(self, text: impl Display) -> String {
        self.wrap("32", text)
    }

    /// A warning.
    pub fn yellow(self, text: impl Display) -> String {
        self.wrap("33", text)
    }

    /// Something to type or to open.
    pub fn cyan(self, text: impl Display) -> String {
        self.wrap("36", text)
    }

    fn wrap(self, code: &str, text: impl Display) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_outranks_the_environment_and_the_terminal() {
        let set = Some(OsStr::new("1"));
        assert!(When::Always.decide(false, set, None));
        assert!(!When::Never.decide(true, None, None));
    }

    #[test]
    fn auto_wants_a_terminal_that_can_and_nobody_against_it() {
        let auto = |terminal, no_color: Option<&str>, term: Option<&str>| {
            When::Auto.decide(terminal, no_color.map(OsStr::new), term.map(OsStr::new))
        };
        assert!(auto(true, None, Some("xterm")));
        assert!(auto(true, Some(""), None), "an empty NO_COLOR is none");
        assert!(!auto(true, Some("1"), None));
        assert!(!auto(true, None, Some("dumb")));
        assert!(!auto(false, None, Some("xterm")));
    }

    #[test]
    fn paint_that_is_off_leaves_no_trace() {
        assert_eq!(Paint::new(false).red("x"), "x");
        assert_eq!(Paint::new(true).red("x"), "\x1b[31mx\x1b[0m");
    }
}
