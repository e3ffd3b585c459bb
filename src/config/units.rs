//! Durations, sizes, shares and rates as an operator writes them, and back.

use std::time::Duration;

/// `500ms`, `2s`, `5m`, `1h`, `1d`, `1h30m`, `1.5s`, in whole milliseconds.
///
/// # Errors
/// With what is wrong and how to write it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{} is not a duration (write it like 500ms, 2s, 5m or 1h)", quote(text));
    if text.parse::<f64>().is_ok_and(f64::is_finite) && !text.starts_with('-') {
        return Err(format!("{text} has no unit (write {text}s or {text}ms)"));
    }
    let mut millis: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(number_len);
        let unit_len = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let unit_millis: u128 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let part = scaled(number, unit_millis).map_err(|fault| match fault {
            Fault::Shape => wrong(),
            Fault::TooLarge => too_long(text),
            Fault::TooFine => format!("{text} is finer than 1ms (write whole milliseconds)"),
        })?;
        millis = millis.checked_add(part).ok_or_else(|| too_long(text))?;
        rest = tail;
    }
    if text.is_empty() {
        return Err(wrong());
    }
    match u64::try_from(millis) {
        Ok(millis) if Duration::from_millis(millis) <= DURATION_MAX => {
            Ok(Duration::from_millis(millis))
        }
        _ => Err(too_long(text)),
    }
}

/// The shortest way to write it with one unit; reads back to the same.
pub(super) fn print_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    [(3_600_000, "h"), (60_000, "m"), (1_000, "s")]
        .into_iter()
        .find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit))
        .map(|(unit, name)| format!("{}{name}", millis / unit))
        .unwrap_or_else(|| if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") })
}

/// `64KiB`, `1MiB`, `10MB`, `512B`, in bytes.
///
/// # Errors
/// With what is wrong and how to write it.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{} is not a size (write it like 16KiB or 1MiB)", quote(text));
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{text} has no unit (write {text}B or {text}KiB)"));
    }
    let number_len = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .filter(|len| *len > 0)
        .ok_or_else(wrong)?;
    let (number, unit) = text.split_at(number_len);
    let unit_bytes: u128 = match unit {
        "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    scaled(number, unit_bytes)
        .ok()
        .and_then(|bytes| u64::try_from(bytes).ok())
        .ok_or_else(|| format!("{} is not a size we can hold", quote(text)))
}

/// `10%` as 0.1; at most four digits after the point, so that it can be printed again.
pub(super) fn parse_percent(text: &str) -> Result<f64, String> {
    let wrong = || format!("{} is not a share (write it like 10%)", quote(text));
    let Some(number) = text.strip_suffix('%') else {
        return Err(match text.parse::<f64>() {
            Ok(value) if value.is_finite() => format!("{text} has no unit (write it like 10%)"),
            _ => wrong(),
        });
    };
    if number.starts_with('-') {
        return Err(format!("{text} is out of range (0% to 100%)"));
    }
    match scaled(number, 10_000) {
        Ok(parts) if parts <= 1_000_000 => Ok(parts as f64 / 1_000_000.0),
        Ok(_) | Err(Fault::TooLarge) => Err(format!("{text} is out of range (0% to 100%)")),
        Err(Fault::TooFine) => Err(format!("{text} has more than four digits after the point")),
        Err(Fault::Shape) => Err(wrong()),
    }
}

/// A share of one as a percentage; reads back to the same.
pub(super) fn print_percent(share: f64) -> String {
    let digits = format!("{:.4}", share * 100.0);
    format!("{}%", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// `50/s`, `600/m`, `1000/h`, in events per second.
pub(super) fn parse_rate(text: &str) -> Result<f64, String> {
    let wrong = || format!("{} is not a rate (write it like 50/s)", quote(text));
    let (number, unit) = text.split_once('/').ok_or_else(wrong)?;
    let count: u32 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    Ok(f64::from(count) / seconds)
}

/// A value in a message: in quotes, on one line, not too long.
pub(super) fn quote(text: &str) -> String {
    if text.chars().count() <= QUOTE_MAX {
        format!("{text:?}")
    } else {
        format!("{:?}…", text.chars().take(QUOTE_MAX).collect::<String>())
    }
}

/// `number` (digits, at most one point) times `unit`, exactly.
fn scaled(number: &str, unit: u128) -> Result<u128, Fault> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(Fault::Shape);
    }
    let whole: u128 = whole.parse().map_err(|_| Fault::TooLarge)?;
    let whole = whole.checked_mul(unit).ok_or(Fault::TooLarge)?;
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 12 {
        return Err(Fault::TooFine);
    }
    let scale = 10u128.pow(fraction.len() as u32);
    let part: u128 =
        if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| Fault::Shape)? };
    if !(part * unit).is_multiple_of(scale) {
        return Err(Fault::TooFine);
    }
    whole.checked_add(part * unit / scale).ok_or(Fault::TooLarge)
}

fn too_long(text: &str) -> String {
    format!("{} is too long (at most {}h)", quote(text), DURATION_MAX.as_secs() / 3600)
}

enum Fault {
    Shape,
    TooLarge,
    TooFine,
}

/// Ten years: longer than any session, and far from the end of a 64-bit nanosecond clock.
const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Characters of a value that a message repeats.
const QUOTE_MAX: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact() {
        for (text, millis) in [
            ("1ms", 1),
            ("500ms", 500),
            ("2s", 2_000),
            ("1.5s", 1_500),
            ("0.001s", 1),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("0s", 0),
            ("1193h", 4_294_800_000), // 49.7 days, past 32 bits of milliseconds
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn durations_that_are_none_say_why() {
        for (text, part) in [
            ("5", "write 5s or 5ms"),
            ("1.5", "write 1.5s or 1.5ms"),
            ("", "is not a duration"),
            ("s", "is not a duration"),
            ("-5s", "is not a duration"),
            ("-5", "is not a duration"),
            ("5 s", "is not a duration"),
            ("5S", "is not a duration"),
            ("5min", "is not a duration"),
            ("1.2.3s", "is not a duration"),
            (".5s", "is not a duration"),
            ("1e3s", "is not a duration"),
            ("nan", "is not a duration"),
            ("inf", "is not a duration"),
            ("٣s", "is not a duration"),
            ("0.5ms", "finer than 1ms"),
            ("1000000000000000000s", "too long"),
            ("99999999999999999999999999999999999999999999h", "too long"),
            ("87601h", "too long"),
        ] {
            let message = parse_duration(text).expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn durations_survive_printing() {
        for millis in [0, 1, 999, 1_000, 1_500, 59_000, 60_000, 90_000, 3_600_000, 86_400_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&print_duration(duration)), Ok(duration));
        }
    }

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!(parse_size("16KiB"), Ok(16_384));
        assert_eq!(parse_size("1.5MiB"), Ok(1_572_864));
        assert_eq!(parse_size("10MB"), Ok(10_000_000));
        for text in ["16", "KiB", "", "16 KiB", "16kib", "99999999999999999999GiB", "-1B"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares_survive_printing() {
        for text in ["0%", "10%", "7%", "12.5%", "33.3333%", "100%"] {
            let share = parse_percent(text).expect(text);
            assert_eq!(print_percent(share), text);
            assert_eq!(parse_percent(&print_percent(share)), Ok(share));
        }
        for text in ["10", "101%", "-1%", "%", "nan%", "NaN", "1e1%", "0.00001%"] {
            assert!(parse_percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_per_second() {
        assert_eq!(parse_rate("50/s"), Ok(50.0));
        assert_eq!(parse_rate("60/m"), Ok(1.0));
        for text in ["50", "50/", "/s", "-1/s", "50/d", "1.5/s"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn quoted_values_stay_on_one_line() {
        assert_eq!(quote("a\nb"), "\"a\\nb\"");
        assert!(quote(&"x".repeat(1000)).len() < 100);
    }
}
