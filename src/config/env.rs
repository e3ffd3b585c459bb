//! `${NAME}` and `${NAME:-default}` in values, never in keys.

use super::error::Findings;
use super::tree::{Node, Scalar, Style, Value};
use super::units::quote;

/// Where variables come from; a function, so that a test needs no process environment.
pub type Env<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Substitutes in every scalar below `node`, whose path is `path`.
pub(super) fn substitute(node: &mut Node, path: &str, env: Env<'_>, findings: &mut Findings) {
    let place = node.place;
    match &mut node.value {
        Value::Scalar(scalar) => match expand(&scalar.text, env) {
            Ok(None) => {}
            Ok(Some((text, replaced))) => {
                let style = if replaced { Style::Substituted } else { scalar.style };
                *scalar = Scalar { text, style };
            }
            Err(message) => {
                findings.error(place, path, message);
                node.value = Value::Broken;
            }
        },
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                substitute(item, &format!("{path}[{index}]"), env, findings);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                substitute(&mut entry.node, &join(path, &entry.key), env, findings);
            }
        }
        Value::Broken => {}
    }
}

/// The path of `key` inside the map at `path`; on one line and of decent length, whatever the key.
pub(super) fn join(path: &str, key: &str) -> String {
    let is_tame = (1..=64).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    let key = if is_tame { key.to_owned() } else { quote(key) };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The text after substitution and whether a variable went into it; `None` where nothing changes.
fn expand(text: &str, env: Env<'_>) -> Result<Option<(String, bool)>, String> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut expanded = String::with_capacity(text.len());
    let mut replaced = false;
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (head, tail) = rest.split_at(at);
        // A doubled dollar keeps the reference as it stands.
        if let Some(head) = head.strip_suffix('$') {
            expanded.push_str(head);
            expanded.push_str("${");
            rest = &tail[2..];
            continue;
        }
        expanded.push_str(head);
        let Some(end) = tail.find('}') else {
            return Err(format!("{} has no closing brace (write ${{NAME}})", quote(tail)));
        };
        let inside = &tail[2..end];
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(fits) || name.as_bytes()[0].is_ascii_digit() {
            let reference = quote(&tail[..=end]);
            return Err(format!(
                "{reference} names no variable (write ${{NAME}} or ${{NAME:-default}}, and \
                 $${{ for a plain ${{)"
            ));
        }
        match (env(name), default) {
            (Some(value), _) if !value.is_empty() => expanded.push_str(&value),
            (_, Some(default)) => expanded.push_str(default),
            (Some(_), None) => {}
            (None, None) => {
                return Err(format!(
                    "environment variable {name} is not set (set it, or write ${{{name}:-default}})"
                ));
            }
        }
        replaced = true;
        rest = &tail[end + 1..];
    }
    expanded.push_str(rest);
    Ok(Some((expanded, replaced)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("80".to_owned()),
            "EMPTY" => Some(String::new()),
            "LOOP" => Some("${LOOP}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_and_defaults() {
        for (text, expected) in [
            ("1.2.3.4:${PORT}", "1.2.3.4:80"),
            ("${PORT}${PORT}", "8080"),
            ("${NOT_SET:-81}", "81"),
            ("${PORT:-81}", "80"),
            ("${EMPTY:-81}", "81"),
            ("${EMPTY}", ""),
            ("${NOT_SET:-}", ""),
            ("$${PORT}", "${PORT}"),
            ("${LOOP}", "${LOOP}"), // what a variable holds is not expanded again
        ] {
            assert_eq!(expand(text, &env).expect(text).expect(text).0, expected, "{text}");
        }
        for text in ["plain", "$PORT", "{PORT}", "cost: 5$"] {
            assert_eq!(expand(text, &env), Ok(None), "{text}");
        }
    }

    #[test]
    fn bad_references_are_refused() {
        for text in ["${NOT_SET}", "${}", "${:-x}", "${A-B}", "${1A}", "${PORT", "${A B}"] {
            assert!(expand(text, &env).is_err(), "{text}");
        }
    }
}
