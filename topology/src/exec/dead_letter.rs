//! Builds the record that describes one that could not be processed, with the headers of Kafka
//! Streams (KIP-1034). Knows neither the reason nor the topic.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::record::{ConsumedRecord, Headers, Record};

/// What the names of all headers begin with that a [`DeadLetter`] has of its own.
const PREFIX: &str = "__streams.errors.";

/// A dead letter: key, value and headers of the record that failed, byte for byte, and the
/// headers `__streams.errors.{exception,message,topic,partition,offset}` as text.
///
/// A header of the original by the name of one that is added is replaced, so that each name says
/// one thing: Kafka Streams keeps both. It writes a stack trace, too; errors here have none.
///
/// A letter that no topic can hold whole is written as a [summary](Self::into_summary).
#[derive(Clone, Debug)]
pub struct DeadLetter {
    record: ConsumedRecord,
    added: Headers,
    errors: Headers,
}

impl DeadLetter {
    /// The most characters of a text about the error that are kept: a sentence, for a message may
    /// quote the whole value of the record.
    pub const TEXT_CHARS_MAX: usize = 400;
    /// The most bytes that an added header's value has in a [summary](Self::into_summary);
    /// headers with longer ones are left out there.
    pub const SUMMARY_HEADER_BYTES_MAX: usize = 2 * 1_024;
    /// What a header's frame takes in a log, at most: two lengths.
    const HEADER_FRAME_BYTES: usize = 8;

    /// A letter for `record`, which failed with `exception`: the name of an error or a reason in
    /// one word. `message` says it in a sentence. What is longer than
    /// [`TEXT_CHARS_MAX`](Self::TEXT_CHARS_MAX) characters is cut.
    pub fn new(record: ConsumedRecord, exception: &str, message: &str) -> Self {
        let position = record.position.clone();
        let letter = Self {
            record,
            added: Headers::new(),
            errors: Headers::new(),
        };
        letter
            .error("exception", exception)
            .error("message", message)
            .error("topic", &position.topic)
            .error("partition", &position.partition.to_string())
            .error("offset", &position.offset.to_string())
    }

    /// Adds a header of the caller's, in place of earlier ones of its name. It is in a
    /// [summary](Self::into_summary) too, so callers add few and no name of any length.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Bytes>) -> Self {
        self.added.retain(|(added, _)| added != name);
        self.added.push((name.to_owned(), Some(value.into())));
        self
    }

    /// Whether the letter, with its headers' frames, takes at most `bytes_max` bytes.
    pub fn fits(&self, bytes_max: usize) -> bool {
        let headers = self.kept().chain(&self.added).chain(&self.errors);
        let headers = headers.map(|(name, value)| {
            Self::HEADER_FRAME_BYTES + name.len() + value.as_ref().map_or(0, Bytes::len)
        });
        let len_of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        len_of(&self.record.key) + len_of(&self.record.value) + headers.sum::<usize>() <= bytes_max
    }

    /// The whole letter; its partition is that of its key.
    pub fn into_record(self) -> Record {
        let mut headers: Headers = self.kept().cloned().collect();
        headers.extend(self.added);
        headers.extend(self.errors);
        Record {
            partition: None,
            key: self.record.key,
            value: self.record.value,
            headers,
        }
    }

    /// What is left to say where the letter does not [fit](Self::fits): no key, the size and hash
    /// of the value, `{"bytes":…,"sha256_base64url":"…"}`, and only the headers that were added,
    /// of which the errors' say where the record lies. That takes at most 8 KiB and what the
    /// caller's headers take, each at most
    /// [`SUMMARY_HEADER_BYTES_MAX`](Self::SUMMARY_HEADER_BYTES_MAX) and its name.
    pub fn into_summary(self) -> Record {
        let value = self.record.value.unwrap_or_default();
        let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(&value));
        let bytes = value.len();
        let summary = format!(r#"{{"bytes":{bytes},"sha256_base64url":"{hash}"}}"#);
        let mut headers = self.added;
        headers.extend(self.errors);
        headers.retain(|(_, value)| {
            value.as_ref().map_or(0, Bytes::len) <= Self::SUMMARY_HEADER_BYTES_MAX
        });
        Record {
            partition: None,
            key: None,
            value: Some(summary.into()),
            headers,
        }
    }

    /// The original's headers without those that are replaced.
    fn kept(&self) -> impl Iterator<Item = &(String, Option<Bytes>)> {
        let replaced = |name: &str| {
            let mut added = self.added.iter().chain(&self.errors);
            added.any(|(added, _)| added == name)
        };
        let all = self.record.headers.iter();
        all.filter(move |(name, _)| !replaced(name))
    }

    fn error(mut self, name: &str, text: &str) -> Self {
        let name = format!("{PREFIX}{name}");
        let text: String = text.chars().take(Self::TEXT_CHARS_MAX).collect();
        self.errors.retain(|(error, _)| *error != name);
        self.errors.push((name, Some(text.into())));
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::Position;

    fn record(value: Option<&'static [u8]>, headers: Headers) -> ConsumedRecord {
        ConsumedRecord {
            position: Position {
                topic: "orders".into(),
                partition: 7,
                offset: 42,
            },
            timestamp_ms: 1,
            key: Some(Bytes::from_static(b"\xffkey")),
            value: value.map(Bytes::from_static),
            headers,
        }
    }

    fn header(name: &str, value: &str) -> (String, Option<Bytes>) {
        (
            name.to_owned(),
            Some(Bytes::copy_from_slice(value.as_bytes())),
        )
    }

    fn text(headers: &Headers) -> Vec<String> {
        let line = |(name, value): &(String, Option<Bytes>)| {
            let value = value.as_deref().map(String::from_utf8_lossy);
            format!("{name}={}", value.unwrap_or_default())
        };
        headers.iter().map(line).collect()
    }

    #[test]
    fn a_letter_holds_the_original_and_says_what_failed_where() {
        let original = vec![
            header("mine", "1"),
            header("mine", "2"),
            ("null".to_owned(), None),
        ];
        let letter = DeadLetter::new(
            record(Some(b"\xfe"), original),
            "Timeout",
            "it took too long",
        )
        .header("tries", "5");
        let letter = letter.into_record();
        assert_eq!(letter.partition, None);
        assert_eq!(letter.key.as_deref(), Some(&b"\xffkey"[..]));
        assert_eq!(letter.value.as_deref(), Some(&b"\xfe"[..]));
        assert_eq!(letter.headers[2], ("null".to_owned(), None));
        assert_eq!(
            text(&letter.headers),
            [
                "mine=1",
                "mine=2",
                "null=",
                "tries=5",
                "__streams.errors.exception=Timeout",
                "__streams.errors.message=it took too long",
                "__streams.errors.topic=orders",
                "__streams.errors.partition=7",
                "__streams.errors.offset=42",
            ]
        );
    }

    #[test]
    fn a_tombstone_stays_one_and_null_keys_stay_null() {
        let record = ConsumedRecord {
            key: None,
            ..record(None, Headers::new())
        };
        let letter = DeadLetter::new(record, "e", "m").into_record();
        assert_eq!((letter.key, letter.value), (None, None));
    }

    #[test]
    fn what_is_added_replaces_what_has_its_name() {
        let original = vec![
            header("__streams.errors.offset", "forged"),
            header("tries", "9"),
        ];
        let letter = DeadLetter::new(record(None, original), "e", "m")
            .header("tries", "4")
            .header("tries", "5")
            .into_record();
        let lines = text(&letter.headers);
        let of = |name| {
            lines
                .iter()
                .filter(|line| line.starts_with(name))
                .collect::<Vec<_>>()
        };
        assert_eq!(of("tries"), ["tries=5"]);
        assert_eq!(
            of("__streams.errors.offset"),
            ["__streams.errors.offset=42"]
        );
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let long = "ü".repeat(DeadLetter::TEXT_CHARS_MAX + 1);
        let letter = DeadLetter::new(record(None, Headers::new()), "e", &long).into_record();
        let message = letter.headers[1].1.as_deref().unwrap();
        assert_eq!(message.len(), 2 * DeadLetter::TEXT_CHARS_MAX);
        assert!(std::str::from_utf8(message).is_ok());
    }

    #[test]
    fn a_summary_has_the_size_and_hash_and_none_of_the_original() {
        let letter = DeadLetter::new(record(Some(b"abc"), vec![header("mine", "1")]), "e", "m")
            .header("short", "s")
            .header("long", vec![b'l'; DeadLetter::SUMMARY_HEADER_BYTES_MAX + 1])
            .into_summary();
        // FIPS 180-2, appendix B.1: the digest of "abc".
        let expected =
            r#"{"bytes":3,"sha256_base64url":"ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0"}"#;
        assert_eq!(letter.value.as_deref(), Some(expected.as_bytes()));
        assert_eq!(letter.key, None);
        let lines = text(&letter.headers);
        assert_eq!(lines[0], "short=s");
        assert!(
            lines[1..].iter().all(|line| line.starts_with(PREFIX)),
            "{lines:?}"
        );
        assert_eq!(lines.len(), 6);
    }

    proptest! {
        #[test]
        fn a_letter_fits_exactly_what_it_takes(
            key in prop::option::of(prop::collection::vec(any::<u8>(), 0..50)),
            value in prop::option::of(prop::collection::vec(any::<u8>(), 0..50)),
            headers in prop::collection::vec(("[a-z]{0,9}", "[a-z]{0,50}"), 0..9),
        ) {
            let record = ConsumedRecord {
                key: key.map(Bytes::from),
                value: value.map(Bytes::from),
                ..record(None, headers.iter().map(|(name, value)| header(name, value)).collect())
            };
            let letter = DeadLetter::new(record, "e", "m").header("abc", "x");
            let whole = letter.clone().into_record();
            let takes = whole.bytes() + 8 * whole.headers.len();
            prop_assert!(letter.fits(takes) && !letter.fits(takes - 1));
        }

        #[test]
        fn a_summary_is_small_whatever_failed(
            message in "\\PC{0,500}",
            headers in prop::collection::vec(("[a-z]{0,9}", "[a-z]{0,3000}"), 0..4),
        ) {
            let headers = headers.iter().map(|(name, value)| header(name, value)).collect();
            let letter = DeadLetter::new(record(Some(b"original"), headers), &message, &message);
            let summary = letter.into_summary();
            prop_assert!(summary.bytes() + 8 * summary.headers.len() <= 8 * 1_024);
        }
    }
}
