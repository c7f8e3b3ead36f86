//! What Kafka's topics are checked for.

use std::time::Duration;

use topology::{TopicError, TopicSpec};

use crate::harness::on_kafka;

#[test]
fn a_topic_with_settings_that_lose_records_is_refused_with_the_command() {
    on_kafka(|subject| {
        let lenient = TopicSpec {
            retention: None,
            record_bytes_max: None,
            log_append_time: false,
            ..subject.spec(1)
        };
        subject
            .wait(subject.log().ensure_topics(std::slice::from_ref(&lenient)))
            .unwrap();
        let strict = TopicSpec {
            retention: Some(Duration::from_secs(14 * 86_400)),
            record_bytes_max: Some(2_000_000),
            log_append_time: true,
            ..lenient.clone()
        };
        let refused = subject.wait(subject.log().ensure_topics(&[strict]));
        let Err(TopicError::Unfit { remedy, .. }) = refused else {
            panic!("{refused:?}");
        };
        let name = lenient.name;
        let expected = format!(
            "kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config \
             retention.ms=1209600000,max.message.bytes=2000000,message.timestamp.type=LogAppendTime"
        );
        assert_eq!(remedy, expected);
    });
}
