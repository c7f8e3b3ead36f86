//! Records whose value is a text, for tests on the driver.

use bytes::Bytes;
use topology::{ConsumedRecord, Named, Produced, ProducerRecord};

pub fn text(record: &ConsumedRecord) -> String {
    String::from_utf8(record.value.clone().unwrap_or_default().to_vec()).unwrap()
}

pub fn record(topic: &str, value: &str) -> ProducerRecord {
    ProducerRecord {
        topic: topic.into(),
        partition: Some(0),
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
    }
}

/// Writes each value to `topic`, by an operator of that name.
pub fn to(topic: &'static str) -> Produced<String> {
    Produced::with(
        move |value: String| record(topic, &value).into(),
        Named::new(topic),
    )
}

pub fn values(records: &[ProducerRecord]) -> Vec<String> {
    let value = |record: &ProducerRecord| {
        String::from_utf8_lossy(record.value.as_ref().unwrap()).into_owned()
    };
    records.iter().map(value).collect()
}
