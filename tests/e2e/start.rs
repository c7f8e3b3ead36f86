//! The service refuses at start what it cannot run with, and its message says what to do.

use super::harness::{LogKind, Service};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_BOOTSTRAP: run scripts/test"]
async fn compacted_retry_topic_is_refused_with_the_remedy() {
    let kafka = LogKind::Kafka.shared().await;
    let mut service = Service::prepare(&kafka, "compacted", &[]);
    let topic = service.topic("retry");
    kafka.create_topic(&topic, 24, "compact").await;

    service.spawn();

    assert_eq!(service.ended().await.code(), Some(1));
    let command = format!(
        "kafka-configs.sh --alter --entity-type topics --entity-name {topic} \
         --add-config cleanup.policy=delete"
    );
    let output = service.output();
    assert!(output.contains(&command), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SERVICE_BINARY: run scripts/test"]
async fn all_errors_in_the_configuration_are_reported_at_once() {
    let log = LogKind::Embedded.shared().await;
    let settings = [
        ("delivery.concurency", "5"),
        ("delivery.timeout", "soon"),
        ("kafka.properties.acks", "1"),
    ];
    let mut service = Service::prepare(&log, "misconfigured", &settings);

    service.spawn();

    assert_eq!(service.ended().await.code(), Some(78));
    let output = service.output();
    for (path, _) in settings {
        assert!(output.contains(path), "{path} is not in {output}");
    }
}
