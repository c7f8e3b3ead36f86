//! What the service can not run with, it refuses at start and says what to do.

use super::harness::{On, Service};

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_retry_topic_is_refused_with_the_command_that_mends_it() {
    let Some(kafka) = On::Kafka.beside_others().await else {
        return;
    };
    let mut service = Service::prepare(&kafka, "compacted", &[]);
    let topic = service.topic("retry");
    kafka.create_topic(&topic, 24, "compact").await;

    service.spawn();

    assert_eq!(service.ended().await.code(), Some(1));
    let command = format!(
        "kafka-configs.sh --alter --entity-type topics --entity-name {topic} \
         --add-config cleanup.policy=delete"
    );
    let said = service.said();
    assert!(said.contains(&command), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_wrong_in_the_configuration_is_told_at_once() {
    let Some(kafka) = On::Kafka.beside_others().await else {
        return;
    };
    let settings = [
        ("delivery.concurency", "5"),
        ("delivery.timeout", "soon"),
        ("kafka.properties.acks", "1"),
    ];
    let mut service = Service::prepare(&kafka, "misconfigured", &settings);

    service.spawn();

    assert_eq!(service.ended().await.code(), Some(78));
    let said = service.said();
    for (path, _) in settings {
        assert!(said.contains(path), "{path} is not in {said}");
    }
}
