//! "Did you mean": the known word nearest to a misspelt one.

/// The candidate nearest to `word`, if one is near enough to be meant.
pub(super) fn nearest<'c>(
    word: &str,
    candidates: impl Iterator<Item = &'c str>,
) -> Option<&'c str> {
    let word = word.to_ascii_lowercase().replace(['-', ' '], "_");
    if word.len() > WORD_MAX {
        return None;
    }
    candidates
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(word.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// ` (did you mean "web"? pools: api, web)`, or only the second half of it.
pub(super) fn advice<'c>(
    word: &str,
    kind: &str,
    candidates: impl Iterator<Item = &'c str> + Clone,
) -> String {
    let names: Vec<&str> = candidates.clone().take(LIST_MAX).collect();
    let more = if candidates.clone().nth(LIST_MAX).is_some() { ", …" } else { "" };
    let list = format!("{kind}: {}{more}", names.join(", "));
    match nearest(word, candidates) {
        Some(nearest) => format!("did you mean \"{nearest}\"? {list}"),
        None => list,
    }
}

/// Edits from one to the other: insert, delete, replace, swap neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let replace = above[j] + usize::from(from != to);
            let mut best = replace.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *from == b[j - 1] && a[i - 1] == *to {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

/// Longer words are no slip of ours, and the comparison is quadratic.
const WORD_MAX: usize = 64;

/// Names a message lists before it trails off.
const LIST_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found() {
        let keys = ["bind", "pool", "backends", "max_connections", "idle"];
        for (word, expected) in [
            ("bnd", Some("bind")),
            ("bidn", Some("bind")),
            ("backend", Some("backends")),
            ("max-connections", Some("max_connections")),
            ("maxconnections", Some("max_connections")),
            ("IDLE", Some("idle")),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, keys.into_iter()), expected, "{word}");
        }
    }
}
