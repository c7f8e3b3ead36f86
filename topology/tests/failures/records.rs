//! Records whose value is a text, as most tests on the driver use them.

use bytes::Bytes;
use topology::{ConsumedRecord, Named, Produced, ProducerRecord};

pub(crate) fn text(record: &ConsumedRecord) -> String {
    String::from_utf8(record.value.clone().unwrap_or_default().to_vec()).unwrap()
}

pub(crate) fn record(topic: &str, value: &str) -> ProducerRecord {
    ProducerRecord {
        topic: topic.into(),
        partition: Some(0),
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
    }
}

/// Writes each value to `topic`, by an operator of that name.
pub(crate) fn to(topic: &'static str) -> Produced<String> {
    Produced::with(
        move |value: String| record(topic, &value).into(),
        Named::new(topic),
    )
}

pub(crate) fn values(records: &[ProducerRecord]) -> Vec<String> {
    let value = |record: &ProducerRecord| {
        String::from_utf8_lossy(record.value.as_ref().unwrap()).into_owned()
    };
    records.iter().map(value).collect()
}
