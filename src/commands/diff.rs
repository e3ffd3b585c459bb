//! The difference of two texts, line by line, as `diff -u` would show it.

use similar::{ChangeTag, TextDiff};

use crate::observe::color::Paint;

/// What changes from `old` to `new`, each with its name; a line of its own where nothing does.
pub(super) fn unified(old: (&str, &str), new: (&str, &str), paint: Paint) -> String {
    let diff = TextDiff::from_lines(old.1, new.1);
    let mut text = String::new();
    for hunk in diff.unified_diff().context_radius(CONTEXT).iter_hunks() {
        text.push_str(&format!("{}\n", paint.cyan(hunk.header())));
        for change in hunk.iter_changes() {
            let line = change.value().trim_end_matches('\n');
            let line = match change.tag() {
                ChangeTag::Delete => paint.red(format_args!("-{line}")),
                ChangeTag::Insert => paint.green(format_args!("+{line}")),
                ChangeTag::Equal => format!(" {line}"),
            };
            text.push_str(&line);
            text.push('\n');
        }
    }
    if text.is_empty() {
        return format!("no difference between what {} and {} come to\n", old.0, new.0);
    }
    let names = format!("--- {}\n+++ {}", old.0, new.0);
    format!("{}\n{text}", paint.bold(names))
}

const CONTEXT: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_went_what_came_and_a_little_around() {
        let (old, new) = ("1\n2\n3\n4\n5\nold\n7\n", "1\n2\n3\n4\n5\nnew\n7\n");
        let text = unified(("a", old), ("b", new), Paint::new(false));
        assert_eq!(text, "--- a\n+++ b\n@@ -3,5 +3,5 @@\n 3\n 4\n 5\n-old\n+new\n 7\n");
        let colored = unified(("a", old), ("b", new), Paint::new(true));
        assert!(colored.contains("\x1b[31m-old\x1b[0m\n\x1b[32m+new\x1b[0m"), "{colored}");
    }

    #[test]
    fn says_so_when_nothing_changes() {
        let text = unified(("a", "1\n"), ("b", "1\n"), Paint::new(false));
        assert_eq!(text, "no difference between what a and b come to\n");
    }
}
