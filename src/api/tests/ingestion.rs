//! Tests of the ingestion of events: what is appended, and the response if an event is not.

use topology::ProducerRecord;

use super::*;
use crate::domain::id::EventId;

fn header<'a>(record: &'a ProducerRecord, name: &str) -> Option<&'a [u8]> {
    let mut named = record.headers.iter().filter(|(header, _)| header == name);
    let found = named.next().and_then(|(_, value)| value.as_deref());
    assert!(named.next().is_none(), "{name} is there twice");
    found
}

fn event() -> String {
    format!("{{\"id\": \"{ID}\",  \"payload\": {{\"n\" : 1.0}} }}")
}

impl App {
    async fn ingest(&self, headers: &[(&str, &str)], body: &str) -> Answer {
        self.request(Method::POST, "/ingestion", headers, body.to_owned())
            .await
    }

    /// The record of an event that is accepted.
    async fn record(&self, headers: &[(&str, &str)], body: &str) -> ProducerRecord {
        let answer = self.ingest(headers, body).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        let record = self.log.records().pop().unwrap();
        let id = answer.document["id"].as_str().unwrap();
        assert_eq!(header(&record, "webhook-id"), Some(id.as_bytes()));
        record
    }
}

#[tokio::test]
async fn event_is_appended_byte_for_byte_under_its_subscription() {
    let app = App::new().with_subscription().await;
    let record = app
        .record(
            &[("traceparent", "00-0-0-01"), ("wd-attempt", "5")],
            &event(),
        )
        .await;
    assert_eq!(record.value, Some(event().into()));
    assert_eq!(record.key, Some(ID.into()));
    assert_eq!(
        header(&record, "content-type"),
        Some(&b"application/json"[..])
    );
    assert_eq!(header(&record, "traceparent"), Some(&b"00-0-0-01"[..]));
    assert_eq!(header(&record, "wd-attempt"), None);
}

#[tokio::test]
async fn client_id_precedes_idempotency_key_precedes_new_id() {
    let app = App::new().with_subscription().await;
    let id = async |headers: &[(&str, &str)]| {
        let record = app.record(headers, &event()).await;
        header(&record, "webhook-id").unwrap().to_vec()
    };
    assert_eq!(
        id(&[("webhook-id", "order-1"), ("idempotency-key", "k")]).await,
        b"order-1"
    );
    let keyed = id(&[("idempotency-key", "k")]).await;
    assert_eq!(id(&[("idempotency-key", "k")]).await, keyed);
    assert_ne!(id(&[("idempotency-key", "l")]).await, keyed);
    assert_ne!(id(&[]).await, id(&[]).await);
}

#[tokio::test]
async fn event_by_type_is_keyed_by_its_id() {
    let app = App::new();
    let record = app
        .record(&[("webhook-id", "e1")], r#"{"type": "order.created"}"#)
        .await;
    assert_eq!(record.key, Some("e1".into()));
}

#[tokio::test]
async fn cloud_event_keeps_the_id_of_its_source() {
    let app = App::new();
    let expected = EventId::for_cloud_event("/orders", "7").to_string();
    let structured = r#"{"specversion": "1.0", "id": "7", "source": "/orders", "type": "t"}"#;
    let headers = [("content-type", "application/cloudevents+json")];
    let record = app.record(&headers, structured).await;
    assert_eq!(header(&record, "webhook-id"), Some(expected.as_bytes()));
    let binary = [
        ("content-type", "text/plain"),
        ("ce-specversion", "1.0"),
        ("ce-id", "7"),
        ("ce-source", "/orders"),
        ("ce-type", "t"),
    ];
    let record = app.record(&binary, "not JSON").await;
    assert_eq!(header(&record, "webhook-id"), Some(expected.as_bytes()));
    assert_eq!(header(&record, "ce_type"), Some(&b"t"[..]));
    assert_eq!(record.value, Some("not JSON".into()));
}

#[tokio::test]
async fn undeliverable_event_is_refused() {
    let app = App::new().with_subscription().await;
    let answer = app.ingest(&[], "{").await;
    answer.check_problem(StatusCode::BAD_REQUEST, "malformed-event");
    let answer = app.ingest(&[], "{}").await;
    answer.check_problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid-event");
    let other = format!(r#"{{"id": "{ID}", "target_url": "https://evil.example/"}}"#);
    let answer = app.ingest(&[], &other).await;
    answer.check_problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid-members");
    assert_eq!(answer.members(), ["target_url"]);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let answer = app.ingest(&form, &event()).await;
    answer.check_problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type");
    for (name, value) in [
        ("webhook-id", "a.b"),
        ("webhook-id", ""),
        ("idempotency-key", ""),
    ] {
        let answer = app.ingest(&[(name, value)], &event()).await;
        answer.check_problem(StatusCode::BAD_REQUEST, "bad-request");
    }
    let answer = app
        .ingest(&[("tracestate", &"x".repeat(9000))], &event())
        .await;
    answer.check_problem(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "headers-too-large",
    );
    assert!(app.log.records().is_empty());
}

#[tokio::test(start_paused = true)]
async fn unavailable_store_does_not_delay_events() {
    let app = App::new();
    app.store.take_down();
    app.record(&[], &event()).await;
    let app = App::new();
    app.store.hang();
    app.record(&[], &event()).await;
}

#[tokio::test]
async fn missing_subscription_is_not_created_without_the_store() {
    let mut app = App::new();
    app.config.create_missing = true;
    app.store.take_down();
    let body = format!(r#"{{"id": "{ID}", "target_url": "https://example.com"}}"#);
    let answer = app.ingest(&[], &body).await;
    answer.check_problem(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable");
    assert!(app.log.records().is_empty());
}

#[tokio::test(start_paused = true)]
async fn unacknowledged_event_is_answered_with_its_id() {
    for break_log in [FakeLog::fail, FakeLog::hang] {
        let app = App::new().with_subscription().await;
        break_log(&app.log);
        let answer = app.ingest(&[("webhook-id", "order-1")], &event()).await;
        answer.check_problem(StatusCode::SERVICE_UNAVAILABLE, "outcome-unknown");
        assert_eq!(answer.document["id"], "order-1");
        assert!(
            answer.document["fix"]
                .as_str()
                .unwrap()
                .contains("webhook-id: order-1")
        );
    }
}

#[tokio::test]
async fn batch_has_a_result_per_event_in_order() {
    let app = App::new().with_subscription().await;
    let unknown = "12096dc0-27b9-47b1-989a-22b105dfbe5f";
    let body = format!(
        r#"{{"events": [{{"id":"{ID}",  "event_id":"e1"}}, {{"id":"{unknown}"}}, 7,
            {{"id":"{ID}","event_id":"a.b"}}, {{"type":"t"}}]}}"#
    );
    let answer = app.send(Method::POST, "/ingestion/batch", &body).await;
    assert_eq!(answer.status, StatusCode::MULTI_STATUS, "{answer:?}");
    let results = answer.document["results"].as_array().unwrap();
    let statuses: Vec<_> = results
        .iter()
        .map(|result| result["status"].as_u64())
        .collect();
    assert_eq!(statuses.len(), 5);
    assert_eq!((statuses[0], statuses[1]), (Some(202), Some(404)));
    assert_eq!((statuses[3], statuses[4]), (Some(422), Some(202)));
    assert_eq!(results[0]["id"], "e1");
    assert!(
        results[1]["problem"]["fix"]
            .as_str()
            .unwrap()
            .contains("POST /subscription")
    );
    let records = app.log.records();
    assert_eq!(records.len(), 2);
    assert_eq!(
        records[0].value,
        Some(format!(r#"{{"id":"{ID}",  "event_id":"e1"}}"#).into())
    );
    assert_eq!(records[1].value, Some(r#"{"type":"t"}"#.into()));
}

#[tokio::test]
async fn batch_with_the_same_key_has_the_same_ids() {
    let app = App::new();
    for _ in 0..2 {
        let body = r#"{"events": [{"type":"t"}, {"type":"t"}]}"#;
        let headers = [("idempotency-key", "k")];
        let answer = app
            .request(Method::POST, "/ingestion/batch", &headers, body)
            .await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
    }
    let records = app.log.records();
    let ids: Vec<_> = records
        .iter()
        .map(|record| header(record, "webhook-id"))
        .collect();
    assert_eq!((ids[0], ids[1]), (ids[2], ids[3]));
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn batch_that_cannot_be_split_is_refused() {
    let app = App::new();
    let send = async |body: &str| app.send(Method::POST, "/ingestion/batch", body).await;
    for body in [
        "",
        "[]",
        r#"[[{"type": "t"}]]"#,
        r#"{"events": 1}"#,
        r#"{"events": [], "more": 1}"#,
    ] {
        send(body)
            .await
            .check_problem(StatusCode::BAD_REQUEST, "malformed-body");
    }
    let answer = send(r#"{"events": []}"#).await;
    answer.check_problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid-members");
    let many = format!(r#"{{"events": [{}]}}"#, vec!["1"; 1001].join(","));
    let answer = send(&many).await;
    answer.check_problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid-members");
    let body = r#"{"events": [{"type":"t"}]}"#;
    let headers = [("webhook-id", "e")];
    let answer = app
        .request(Method::POST, "/ingestion/batch", &headers, body)
        .await;
    answer.check_problem(StatusCode::BAD_REQUEST, "bad-request");
}
