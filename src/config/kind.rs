//! The kinds of values that settings take: how each is written, which values are allowed, and how
//! a value is parsed. It must not know any setting.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;

use super::layers::Value;

/// A kind of value. The parser and the text that says what is allowed are made from the same
/// bounds, so they cannot differ.
pub(super) struct Kind<T> {
    /// The allowed values, as a noun phrase for errors and documentation.
    pub allowed: String,
    pub notation: Notation,
    /// Whether errors hide the value.
    pub is_secret: bool,
    parse: Parser<T>,
}

type Parser<T> = Box<dyn Fn(&Value) -> Option<T>>;

/// How a value is written in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notation {
    /// As it is: a number or a boolean.
    Bare,
    /// In quotes.
    Quoted,
    /// As an array of quoted items.
    Array,
}

impl Notation {
    /// Writes `text`, in which commas separate the items of a list, as TOML.
    pub(super) fn write(self, text: &str) -> String {
        match self {
            Self::Bare => text.to_owned(),
            Self::Quoted => format!("\"{text}\""),
            Self::Array => {
                let items = text.split(',').map(str::trim);
                let items = items.filter(|item| !item.is_empty());
                let items: Vec<String> = items.map(|item| format!("\"{item}\"")).collect();
                format!("[{}]", items.join(", "))
            }
        }
    }
}

impl<T: 'static> Kind<T> {
    /// Returns the value, or `None` where it is not allowed.
    pub(super) fn parse(&self, value: &Value) -> Option<T> {
        (self.parse)(value)
    }

    /// Hides the value in errors.
    pub(super) fn secret(mut self) -> Self {
        self.is_secret = true;
        self
    }

    /// Converts what was parsed, and refuses what `convert` refuses; `requirement` says what that
    /// is, if it is more than the kind itself allows.
    pub(super) fn and_then<U: 'static>(
        self,
        requirement: &str,
        convert: impl Fn(T) -> Option<U> + 'static,
    ) -> Kind<U> {
        let parse = self.parse;
        Kind {
            allowed: self.allowed + requirement,
            notation: self.notation,
            is_secret: self.is_secret,
            parse: Box::new(move |value| convert(parse(value)?)),
        }
    }
}

/// A text that `parse` turns into a value.
pub(super) fn text<T>(
    allowed: impl Into<String>,
    parse: impl Fn(&str) -> Option<T> + 'static,
) -> Kind<T> {
    Kind {
        allowed: allowed.into(),
        notation: Notation::Quoted,
        is_secret: false,
        parse: Box::new(move |value| parse(value.text()?)),
    }
}

/// A text that is written without quotes.
fn bare<T>(allowed: String, parse: impl Fn(&str) -> Option<T> + 'static) -> Kind<T> {
    Kind {
        notation: Notation::Bare,
        ..text(allowed, move |text| parse(text.trim()))
    }
}

/// A whole number.
pub(super) fn number<T: TryFrom<u64>>(bounds: RangeInclusive<u64>) -> Kind<T> {
    let allowed = format!("a whole number {}", range(bounds.start(), bounds.end()));
    bare(allowed, move |text| {
        let number = text.parse().ok()?;
        bounds.contains(&number).then_some(number)?.try_into().ok()
    })
}

/// A share of something.
pub(super) fn ratio() -> Kind<f64> {
    const BOUNDS: RangeInclusive<f64> = 0.0..=1.0;
    let allowed = format!("a number {}", range(BOUNDS.start(), BOUNDS.end()));
    bare(allowed, |text| {
        text.parse().ok().filter(|ratio| BOUNDS.contains(ratio))
    })
}

pub(super) fn boolean() -> Kind<bool> {
    bare("true or false".to_owned(), |text| text.parse().ok())
}

/// A length of time with its unit, such as `15s`, `250ms`, `1m30s` or `3d`.
pub(super) fn duration(bounds: RangeInclusive<Duration>) -> Kind<Duration> {
    let (shortest, longest) = (brief(*bounds.start()), brief(*bounds.end()));
    let allowed = format!("a duration {}", range(&shortest, &longest));
    text(allowed, move |text| {
        let duration = humantime::parse_duration(text.trim()).ok()?;
        bounds.contains(&duration).then_some(duration)
    })
}

/// A number of bytes, such as `262144`, `256KiB` or `64MiB`.
pub(super) fn size(bounds: RangeInclusive<ByteSize>) -> Kind<usize> {
    let shown = |size: &ByteSize| format!("{:.0}", size.display().iec()).replace(' ', "");
    let allowed = format!(
        "a size {}",
        range(shown(bounds.start()), shown(bounds.end()))
    );
    text(allowed, move |text| {
        let size = text.trim().parse().ok()?;
        let size = bounds.contains(&size).then_some(size)?;
        usize::try_from(size.as_u64()).ok()
    })
}

/// One of several names.
pub(super) fn choice<T: Copy + 'static>(choices: &'static [(&'static str, T)]) -> Kind<T> {
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let allowed = match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    };
    text(allowed, move |text| {
        let choice = choices.iter().find(|(name, _)| *name == text);
        choice.map(|(_, value)| *value)
    })
}

/// The characters that Kafka takes in the name of a topic, a group or an instance.
pub(super) fn name() -> Kind<String> {
    const LENGTH: RangeInclusive<usize> = 1..=249;
    let plain = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    let count = format!("{} to {}", LENGTH.start(), LENGTH.end());
    let allowed = format!("{count} characters of A-Z a-z 0-9 . _ -");
    text(allowed, move |text| {
        let is_name = LENGTH.contains(&text.len()) && text.chars().all(plain);
        is_name.then(|| text.to_owned())
    })
}

/// A list with a bounded number of items.
pub(super) fn list<T: 'static>(lengths: RangeInclusive<usize>, item: Kind<T>) -> Kind<Vec<T>> {
    let (min, max) = (*lengths.start(), *lengths.end());
    let count = match (min, max) {
        (0, usize::MAX) => "a list of any length".to_owned(),
        (1, usize::MAX) => "a list of at least 1 item".to_owned(),
        _ if min == max => format!("a list of exactly {min} items"),
        _ => format!("a list of {min} to {max} items"),
    };
    Kind {
        allowed: format!("{count}; each item is {}", item.allowed),
        notation: Notation::Array,
        is_secret: item.is_secret,
        parse: Box::new(move |value| {
            let items = value.items()?;
            let items: Option<Vec<T>> = items.iter().map(|value| item.parse(value)).collect();
            items.filter(|items| lengths.contains(&items.len()))
        }),
    }
}

fn range(min: impl Display, max: impl Display) -> String {
    format!("from {min} to {max}")
}

/// Writes a duration with the units that are documented: `30d`, not `30days`.
fn brief(duration: Duration) -> String {
    let text = humantime::format_duration(duration).to_string();
    text.replace("days", "d").replace("day", "d")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_duration(text: &str, expected_ms: Option<u64>) {
        let kind = duration(Duration::ZERO..=Duration::MAX);
        let parsed = kind.parse(&Value::Text(text.to_owned()));
        assert_eq!(parsed, expected_ms.map(Duration::from_millis), "{text:?}");
    }

    #[test]
    fn duration_needs_its_unit() {
        check_duration("15s", Some(15_000));
        check_duration("15 s", Some(15_000));
        check_duration("250ms", Some(250));
        check_duration("1m30s", Some(90_000));
        check_duration("1m 30s", Some(90_000));
        check_duration("3d", Some(259_200_000));
        check_duration("0", Some(0));
        check_duration("15", None);
        check_duration("", None);
        check_duration("s", None);
        check_duration("-1s", None);
        check_duration("1 fortnight", None);
        check_duration("999999999999999d", None);
    }

    #[test]
    fn size_takes_binary_and_decimal_units() {
        let kind = size(ByteSize::b(0)..=ByteSize::gib(64));
        let parse = |text: &str| kind.parse(&Value::Text(text.to_owned()));
        assert_eq!(parse("262144"), Some(262_144));
        assert_eq!(parse("262144B"), Some(262_144));
        assert_eq!(parse("256KiB"), Some(262_144));
        assert_eq!(parse("64 MiB"), Some(67_108_864));
        assert_eq!(parse("64MB"), Some(64_000_000));
        assert_eq!(parse("-1"), None);
        assert_eq!(parse(""), None);
        assert_eq!(parse("99999999999999GiB"), None);
    }

    #[test]
    fn list_is_an_array_or_text_with_commas() {
        let kind = list(0..=usize::MAX, text("text", |text| Some(text.to_owned())));
        let parse = |text: &str| kind.parse(&Value::Text(text.to_owned())).unwrap();
        assert_eq!(parse("a, b"), ["a", "b"]);
        assert_eq!(parse("[\"a\", \"b\"]"), ["a", "b"]);
        assert_eq!(parse("[a, \"b\"]"), ["a", "b"]);
        assert_eq!(parse(""), [""; 0]);
        assert_eq!(parse("[]"), [""; 0]);
        let array = Value::List(vec![
            Value::Text("a".to_owned()),
            Value::Text("b".to_owned()),
        ]);
        assert_eq!(kind.parse(&array).unwrap(), ["a", "b"]);
    }

    #[test]
    fn allowed_values_read_as_a_noun_phrase() {
        let allowed = |kind: Kind<Vec<Duration>>| kind.allowed;
        let waits = || duration(Duration::from_millis(1)..=Duration::from_hours(720));
        assert_eq!(
            allowed(list(5..=5, waits())),
            "a list of exactly 5 items; each item is a duration from 1ms to 30d"
        );
        assert_eq!(number::<usize>(1..=9).allowed, "a whole number from 1 to 9");
        let sizes = ByteSize::kib(1)..=ByteSize::mib(2);
        assert_eq!(size(sizes).allowed, "a size from 1KiB to 2MiB");
    }
}
