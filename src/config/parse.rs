//! Turns one configured value into one typed value. Values from the environment and from flags
//! are always text, those from a file have TOML's types; every function here takes both.
//! It must not know which member it reads: bounds are the caller's.

use std::time::Duration;

use figment::value::Value;

/// Text as written; numbers and booleans of a file count as the text that they print as.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Char(_, character) => Some(character.to_string()),
        Value::Bool(_, flag) => Some(flag.to_string()),
        Value::Num(_, number) => match (value.to_i128(), number.to_f64()) {
            (Some(whole), _) => Some(whole.to_string()),
            (None, Some(fraction)) => Some(fraction.to_string()),
            (None, None) => value.to_u128().map(|whole| whole.to_string()),
        },
        Value::Empty(..) | Value::Dict(..) | Value::Array(..) => None,
    }
}

/// A whole number within `bounds`.
pub(super) fn integer(value: &Value, bounds: std::ops::RangeInclusive<u64>) -> Option<u64> {
    let number = text(value)?.trim().parse().ok()?;
    bounds.contains(&number).then_some(number)
}

/// A whole number within `bounds`, as a `usize`.
pub(super) fn count(value: &Value, bounds: std::ops::RangeInclusive<u64>) -> Option<usize> {
    usize::try_from(integer(value, bounds)?).ok()
}

/// `true` or `false`.
pub(super) fn boolean(value: &Value) -> Option<bool> {
    text(value)?.trim().parse().ok()
}

/// An array, or text with commas between the elements; empty text is the empty list. Text that
/// is an array in TOML's notation is read as one.
pub(super) fn list(value: &Value) -> Option<Vec<Value>> {
    if let Some(elements) = value.as_array() {
        return Some(elements.to_vec());
    }
    let text = text(value)?;
    let text = text.trim();
    if text.starts_with('[') {
        return text.parse::<Value>().ok()?.into_array();
    }
    let elements = text
        .split(',')
        .map(str::trim)
        .filter(|element| !element.is_empty());
    Some(elements.map(Value::from).collect())
}

/// A list of which every element can be read.
pub(super) fn list_of<T>(value: &Value, element: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    list(value)?.iter().map(element).collect()
}

/// A length of time with its unit, such as `15s`, `250ms`, `1m30s` or `3d`, within `bounds`.
pub(super) fn duration(
    value: &Value,
    bounds: std::ops::RangeInclusive<Duration>,
) -> Option<Duration> {
    let units = [
        ("ms", Duration::from_millis(1)),
        ("s", Duration::from_secs(1)),
        ("m", Duration::from_mins(1)),
        ("h", Duration::from_hours(1)),
        ("d", Duration::from_hours(24)),
    ];
    let text = text(value)?;
    let mut rest = text.trim();
    if rest == "0" {
        rest = "0s";
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let (unit_text, next) = after.split_at(
            after
                .find(|character: char| character.is_ascii_digit())
                .unwrap_or(after.len()),
        );
        let (_, unit) = units.iter().find(|(name, _)| *name == unit_text.trim())?;
        total = total.checked_add(unit.checked_mul(number)?)?;
        rest = next;
    }
    bounds.contains(&total).then_some(total)
}

/// A number of bytes, such as `262144`, `256KiB` or `64MiB`, within `bounds`.
pub(super) fn bytes(value: &Value, bounds: std::ops::RangeInclusive<u64>) -> Option<usize> {
    let units = [
        ("", 1_u64),
        ("B", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
    ];
    let text = text(value)?;
    let text = text.trim();
    let (digits, unit_text) = text.split_at(
        text.find(|character: char| !character.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    let (_, unit) = units.iter().find(|(name, _)| *name == unit_text.trim())?;
    let total = digits.parse::<u64>().ok()?.checked_mul(*unit)?;
    bounds.contains(&total).then_some(())?;
    usize::try_from(total).ok()
}

fn split_number(text: &str) -> Option<(u32, &str)> {
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_duration(text: &str, expected_ms: Option<u64>) {
        let read = duration(&Value::from(text), Duration::ZERO..=Duration::MAX);
        assert_eq!(read, expected_ms.map(Duration::from_millis), "{text:?}");
    }

    #[test]
    fn a_duration_needs_its_unit() {
        check_duration("15s", Some(15_000));
        check_duration("250ms", Some(250));
        check_duration("1m30s", Some(90_000));
        check_duration("3d", Some(259_200_000));
        check_duration("0", Some(0));
        check_duration("15", None);
        check_duration("", None);
        check_duration("s", None);
        check_duration("-1s", None);
        check_duration("1 fortnight", None);
        check_duration("99999999999d", None);
    }

    #[test]
    fn a_size_takes_binary_units() {
        let read = |text: &str| bytes(&Value::from(text), 0..=u64::MAX);
        assert_eq!(read("262144"), Some(262_144));
        assert_eq!(read("256KiB"), Some(262_144));
        assert_eq!(read("64 MiB"), Some(67_108_864));
        assert_eq!(read("64MB"), None);
        assert_eq!(read("-1"), None);
        assert_eq!(read("99999999999999GiB"), None);
    }

    #[test]
    fn a_list_is_an_array_or_text_with_commas() {
        let read = |value: &Value| list_of(value, text).unwrap();
        assert_eq!(read(&Value::from("a, b")), ["a", "b"]);
        assert_eq!(read(&Value::from("[\"a\", \"b\"]")), ["a", "b"]);
        assert_eq!(read(&Value::from(vec!["a", "b"])), ["a", "b"]);
        assert_eq!(read(&Value::from("")), [""; 0]);
    }
}
