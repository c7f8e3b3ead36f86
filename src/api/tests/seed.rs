//! Tests with the five requests in the README of the service that this one replaces.

use super::*;

const CREATE: &str = r#"{
  "id": "363294be-37e5-482f-b7fd-5a1be84c2713",
  "target_url": "https://webhook.site8932893892239/bd60ff53-14c3-4246-b363-0d7e4cbbbb28"
}"#;
const UPDATE: &str = r#"{
    "id": "f24feb54-b101-4431-a46c-41e4e15fc9e1",
  "name": "anshu"
}"#;
const DELETE: &str = "/subscription/12096dc0-27b9-47b1-989a-22b105dfbe5f";

#[tokio::test]
async fn all_five_requests_of_the_seed_work_unchanged() {
    let mut app = App::new();
    app.config.create_missing = true;

    let created = app.send(Method::POST, "/ingestion", CREATE).await;
    assert_eq!(created.status, StatusCode::ACCEPTED, "{created:?}");
    let secret = created.document["created_subscription"]["secret"]
        .as_str()
        .unwrap();
    assert!(secret.starts_with("whsec_"));

    let read = app
        .send(Method::GET, &format!("/subscription/{ID}"), "")
        .await;
    assert_eq!(read.status, StatusCode::OK);
    assert_eq!(read.document["id"], ID);
    assert_eq!(
        read.document["target_url"],
        "https://webhook.site8932893892239/bd60ff53-14c3-4246-b363-0d7e4cbbbb28"
    );

    let updated = app.send(Method::PUT, "/subscription", UPDATE).await;
    updated.check_problem(StatusCode::NOT_FOUND, "unknown-subscription");
    let deleted = app.send(Method::DELETE, DELETE, "").await;
    deleted.check_problem(StatusCode::NOT_FOUND, "unknown-subscription");
    assert!(
        deleted.document["fix"]
            .as_str()
            .unwrap()
            .contains("POST /subscription")
    );

    let ingested = app.send(Method::POST, "/ingestion", CREATE).await;
    assert_eq!(ingested.status, StatusCode::ACCEPTED);
    assert!(ingested.document.get("created_subscription").is_none());
    let values: Vec<_> = app
        .log
        .records()
        .into_iter()
        .map(|record| record.value.unwrap())
        .collect();
    assert_eq!(values, [CREATE, CREATE]);
}

#[tokio::test]
async fn update_and_delete_of_the_seed_work_on_existing_ids() {
    let app = App::new();
    for id in [
        "f24feb54-b101-4431-a46c-41e4e15fc9e1",
        "12096dc0-27b9-47b1-989a-22b105dfbe5f",
    ] {
        let body = format!(r#"{{"id": "{id}", "target_url": "https://example.com"}}"#);
        let created = app.send(Method::POST, "/subscription", &body).await;
        assert_eq!(created.status, StatusCode::CREATED);
    }
    let updated = app.send(Method::PUT, "/subscription", UPDATE).await;
    assert_eq!(updated.status, StatusCode::OK);
    assert_eq!(updated.document["name"], "anshu");
    assert_eq!(updated.document["target_url"], "https://example.com/");
    let deleted = app.send(Method::DELETE, DELETE, "").await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    let read = app.send(Method::GET, DELETE, "").await;
    read.check_problem(StatusCode::NOT_FOUND, "unknown-subscription");
}

#[tokio::test]
async fn event_creates_nothing_without_create_missing() {
    let app = App::new();
    let answer = app.send(Method::POST, "/ingestion", CREATE).await;
    answer.check_problem(StatusCode::NOT_FOUND, "unknown-subscription");
    assert!(app.log.records().is_empty());
}
