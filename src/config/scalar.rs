//! One scalar against one kind, and the words for it when they do not fit.

use std::path::PathBuf;
use std::time::Duration;

use super::address::{parse_bind, parse_network, parse_source, parse_target};
use super::datum::Datum;
use super::keys::Kind;
use super::suggest::advice;
use super::tree::{Scalar, Style};
use super::units::{parse_duration, parse_percent, parse_rate, parse_size, print_duration, quote};

pub(super) fn decode_scalar(scalar: &Scalar, kind: &Kind) -> Result<Datum, String> {
    let text = scalar.text.as_str();
    let shown = show(scalar);
    let not = |kind: &Kind| format!("{shown} is not {}", describe(kind));
    match kind {
        Kind::Bool => match text {
            _ if scalar.style == Style::Quoted => Err(unquote(text, kind)),
            "true" => Ok(Datum::Bool(true)),
            "false" => Ok(Datum::Bool(false)),
            "yes" | "on" | "Yes" | "On" | "True" | "TRUE" => {
                Err(format!("{shown} must be written true"))
            }
            "no" | "off" | "No" | "Off" | "False" | "FALSE" => {
                Err(format!("{shown} must be written false"))
            }
            _ => Err(not(kind)),
        },
        Kind::Whole { min, max } => {
            if scalar.style == Style::Quoted {
                return Err(unquote(text, kind));
            }
            let digits = text.strip_prefix('-').unwrap_or(text);
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(not(kind));
            }
            match text.parse::<u64>() {
                Ok(value) if (*min..=*max).contains(&value) => Ok(Datum::Whole(value)),
                _ => Err(format!("{} is out of range ({min} to {max})", clip(text))),
            }
        }
        Kind::Number { min, max } => {
            if scalar.style == Style::Quoted {
                return Err(unquote(text, kind));
            }
            match text.parse::<f64>() {
                Ok(value) if (*min..=*max).contains(&value) => Ok(Datum::Number(value)),
                Ok(value) if value.is_finite() => {
                    Err(format!("{} is out of range ({min} to {max})", clip(text)))
                }
                _ => Err(not(kind)),
            }
        }
        Kind::Duration { min_ms, max_ms, step_ms } => {
            let duration = parse_duration(text)?;
            let millis = duration.as_millis();
            let bound = |millis: u64| print_duration(Duration::from_millis(millis));
            if millis < u128::from(*min_ms) {
                Err(format!("{text} is too short (at least {})", bound(*min_ms)))
            } else if millis > u128::from(*max_ms) {
                Err(format!("{text} is too long (at most {})", bound(*max_ms)))
            } else if millis % u128::from(*step_ms) != 0 {
                Err(format!("{text} is too fine (a multiple of {})", bound(*step_ms)))
            } else {
                Ok(Datum::Duration(duration))
            }
        }
        Kind::Size => parse_size(text).map(Datum::Whole),
        Kind::Percent => parse_percent(text).map(Datum::Share),
        Kind::Rate => parse_rate(text).map(Datum::Number),
        Kind::Choice(words) => match words.iter().find(|word| **word == text) {
            Some(word) => Ok(Datum::Word(word)),
            None => {
                let advice = advice(text, "choices", words.iter().copied());
                Err(format!("{shown} is unknown ({advice})"))
            }
        },
        Kind::Prefixed(prefix) => match text.strip_prefix(prefix) {
            Some(rest) if !rest.is_empty() => Ok(Datum::Text(text.to_owned())),
            _ => Err(not(kind)),
        },
        Kind::Name => {
            let fits =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
            text_of(scalar)?;
            if (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(fits) {
                Ok(Datum::Text(text.to_owned()))
            } else {
                Err(not(kind))
            }
        }
        Kind::Text => text_of(scalar).map(Datum::Text),
        Kind::Path => {
            let text = text_of(scalar)?;
            if text.contains('/') && !text.ends_with('/') && !text.contains('\0') {
                Ok(Datum::Path(PathBuf::from(text)))
            } else {
                Err(not(kind))
            }
        }
        Kind::Bind => parse_bind(text).map(Datum::Bind),
        Kind::Target => parse_target(text).map(Datum::Target),
        Kind::Source => parse_source(text).map(Datum::Source),
        Kind::Network => parse_network(text).map(|_| Datum::Idle),
        Kind::List(_)
        | Kind::Map(_)
        | Kind::Override(_)
        | Kind::Texts
        | Kind::Any
        | Kind::OneOf(_) => Err(not(kind)),
    }
}

/// A text, unless the notation says it is something else.
fn text_of(scalar: &Scalar) -> Result<String, String> {
    let text = &scalar.text;
    let is_other = scalar.is_null()
        || matches!(text.as_str(), "true" | "false")
        || text.parse::<f64>().is_ok_and(|_| {
            text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'))
        });
    if scalar.style == Style::Plain && is_other {
        return Err(format!("{} must be text (write \"{}\" in quotes)", clip(text), clip(text)));
    }
    Ok(text.clone())
}

/// What would be right, after "must be" or "is not".
pub(super) fn describe(kind: &Kind) -> String {
    match kind {
        Kind::Bool => "true or false".to_owned(),
        Kind::Whole { min, max } => format!("a whole number ({min} to {max})"),
        Kind::Number { min, max } => format!("a number ({min} to {max})"),
        Kind::Duration { .. } => "a duration such as 5s".to_owned(),
        Kind::Size => "a size such as 16KiB".to_owned(),
        Kind::Percent => "a share such as 10%".to_owned(),
        Kind::Rate => "a rate such as 50/s".to_owned(),
        Kind::Choice(words) => words.join(" or "),
        Kind::Prefixed(prefix) => format!("{prefix}NAME"),
        Kind::Name => {
            format!("a name of letters, digits, \"_\", \"-\" and \".\", at most {NAME_MAX} long")
        }
        Kind::Text => "text".to_owned(),
        Kind::Path => "a path with a slash in it".to_owned(),
        Kind::Bind => "an address such as 0.0.0.0:80".to_owned(),
        Kind::Target => "an address such as 10.0.0.1:80".to_owned(),
        Kind::Source => "an IP address such as 10.0.0.9".to_owned(),
        Kind::Network => "a network such as 10.0.0.0/8".to_owned(),
        Kind::List(_) => "a list".to_owned(),
        Kind::Map(_) | Kind::Override(_) | Kind::Texts => "a map".to_owned(),
        Kind::Any => "anything".to_owned(),
        Kind::OneOf(kinds) => kinds.iter().map(describe).collect::<Vec<_>>().join(" or "),
    }
}

/// A scalar as the operator wrote it, give or take the kind of quotes.
pub(super) fn show(scalar: &Scalar) -> String {
    let text = &scalar.text;
    let is_bare = scalar.style == Style::Plain
        && (text.parse::<f64>().is_ok() || matches!(text.as_str(), "true" | "false" | "~"));
    if scalar.is_null() {
        "an empty value".to_owned()
    } else if is_bare {
        clip(text)
    } else {
        quote(text)
    }
}

/// A number may be as long as its author likes; a message may not.
fn clip(text: &str) -> String {
    let quoted = quote(text);
    quoted.replace('"', "")
}

fn unquote(text: &str, kind: &Kind) -> String {
    let kind = describe(kind);
    format!("{} is text because of its quotes, not {kind}", quote(text))
}

/// Names end up in metric labels, which people have to read.
const NAME_MAX: usize = 64;
