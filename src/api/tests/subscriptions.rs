//! Tests of the operations on subscriptions.

use super::*;

#[tokio::test]
async fn only_the_creation_shows_the_secret() {
    let app = App::new();
    let body = r#"{"target_url": "https://example.com/a", "name": "n", "event_types": ["b", "a"]}"#;
    let created = app.send(Method::POST, "/subscription", body).await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    assert!(
        created.document["secret"]
            .as_str()
            .unwrap()
            .starts_with("whsec_")
    );
    assert_eq!(created.document["tenant"], "default");
    assert_eq!(created.document["enabled"], true);
    assert_eq!(
        created.document["event_types"],
        serde_json::json!(["a", "b"])
    );
    assert_eq!(created.document["created_at"], "1970-01-01T00:00:00.000Z");
    assert_eq!(created.headers["etag"], "\"1\"");
    let location = created.headers["location"].to_str().unwrap();
    let read = app.send(Method::GET, location, "").await;
    assert_eq!(read.status, StatusCode::OK);
    assert!(read.document.get("secret").is_none());
    let listed = app.send(Method::GET, "/subscription", "").await;
    assert!(!listed.document.to_string().contains("whsec_"));
}

#[tokio::test]
async fn client_id_can_be_used_once() {
    let app = App::new().with_subscription().await;
    let body = format!(r#"{{"id": "{ID}", "target_url": "https://example.com/other"}}"#);
    let answer = app.send(Method::POST, "/subscription", &body).await;
    answer.check_problem(StatusCode::CONFLICT, "id-taken");
}

#[tokio::test]
async fn every_invalid_field_has_a_reason_and_a_fix() {
    let app = App::new();
    let body = r#"{"id": "1", "name": "", "target_url": "ftp://h", "tenant": 3, "enabled": "yes",
                   "event_types": [1], "secret": "hunter2", "colour": "red", "version": 4}"#;
    let answer = app.send(Method::POST, "/subscription", body).await;
    answer.check_problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid-members");
    let mut members = answer.members();
    members.sort_unstable();
    let all = [
        "colour",
        "enabled",
        "event_types",
        "id",
        "name",
        "secret",
        "target_url",
        "tenant",
        "version",
    ];
    assert_eq!(members, all);
    for error in answer.document["errors"].as_array().unwrap() {
        assert!(
            error["reason"].is_string() && error["fix"].is_string(),
            "{error}"
        );
    }
    assert!(!answer.document.to_string().contains("hunter2"));
    let missing = app.send(Method::POST, "/subscription", "{}").await;
    assert_eq!(missing.members(), ["target_url"]);
}

#[tokio::test]
async fn body_other_than_a_json_object_is_refused() {
    let app = App::new();
    for body in [
        "",
        "{",
        "[]",
        "null",
        "\"text\"",
        "{\"target_url\": \"https://h\"} x",
    ] {
        for method in [Method::POST, Method::PUT] {
            let answer = app.send(method, "/subscription", body).await;
            answer.check_problem(StatusCode::BAD_REQUEST, "malformed-body");
        }
    }
    let deep = "[".repeat(200_000);
    let answer = app.send(Method::POST, "/subscription", &deep).await;
    answer.check_problem(StatusCode::BAD_REQUEST, "malformed-body");
}

#[tokio::test]
async fn update_keeps_absent_fields_and_clears_null_fields() {
    let app = App::new().with_subscription().await;
    let put = async |members: &str| {
        let body = format!(r#"{{"id": "{ID}", {members}}}"#);
        app.send(Method::PUT, "/subscription", &body).await
    };
    let answer = put(r#""name": "n", "event_types": ["a"], "enabled": false"#).await;
    assert_eq!(answer.document["name"], "n");
    assert_eq!(answer.document["enabled"], false);
    let answer = put(r#""target_url": "https://example.org/""#).await;
    assert_eq!(answer.document["name"], "n");
    assert_eq!(answer.document["target_url"], "https://example.org/");
    let answer = put(r#""name": null, "event_types": null"#).await;
    assert_eq!(answer.document["name"], Value::Null);
    assert_eq!(answer.document["event_types"], serde_json::json!([]));
    assert_eq!(answer.headers["etag"], "\"4\"");
    let answer = put(r#""target_url": null, "enabled": null, "tenant": "t", "secret": null"#).await;
    answer.check_problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid-members");
    let mut members = answer.members();
    members.sort_unstable();
    assert_eq!(members, ["enabled", "secret", "target_url", "tenant"]);
}

#[tokio::test]
async fn change_is_refused_if_the_version_has_changed() {
    let app = App::new().with_subscription().await;
    let path = format!("/subscription/{ID}");
    let delete = async |tag: &str| {
        app.request(Method::DELETE, &path, &[("if-match", tag)], "")
            .await
    };
    let body = format!(r#"{{"id": "{ID}"}}"#);
    let answer = app
        .request(Method::PUT, "/subscription", &[("if-match", "\"7\"")], body)
        .await;
    answer.check_problem(StatusCode::PRECONDITION_FAILED, "version-mismatch");
    assert_eq!(answer.document["version"], 1);
    delete("\"7\"")
        .await
        .check_problem(StatusCode::PRECONDITION_FAILED, "version-mismatch");
    delete("seven")
        .await
        .check_problem(StatusCode::BAD_REQUEST, "bad-request");
    assert_eq!(delete("\"1\"").await.status, StatusCode::NO_CONTENT);
    assert_eq!(delete("*").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn list_has_pages() {
    let app = App::new();
    for tenant in ["a", "b", "a", "a"] {
        let body = format!(r#"{{"target_url": "https://h", "tenant": "{tenant}"}}"#);
        app.send(Method::POST, "/subscription", &body).await;
    }
    let count = |answer: &Answer| answer.document["subscriptions"].as_array().unwrap().len();
    let first = app
        .send(Method::GET, "/subscription?tenant=a&limit=2", "")
        .await;
    assert_eq!(count(&first), 2);
    let next = first.document["next"].as_str().unwrap();
    let path = format!("/subscription?tenant=a&limit=2&after={next}");
    let second = app.send(Method::GET, &path, "").await;
    assert_eq!(count(&second), 1);
    assert_eq!(second.document["next"], Value::Null);
    for query in ["limit=0", "limit=1001", "limit=x", "after=x", "page=2"] {
        let answer = app
            .send(Method::GET, &format!("/subscription?{query}"), "")
            .await;
        answer.check_problem(StatusCode::BAD_REQUEST, "bad-request");
    }
}

#[tokio::test]
async fn invalid_id_differs_from_an_unknown_one() {
    let app = App::new();
    let answer = app.send(Method::GET, "/subscription/one", "").await;
    answer.check_problem(StatusCode::BAD_REQUEST, "bad-request");
    assert_eq!(answer.members(), ["id"]);
}

#[tokio::test]
async fn unavailable_store_is_reported() {
    let app = App::new().with_subscription().await;
    app.store.take_down();
    let answer = app
        .send(Method::GET, &format!("/subscription/{ID}"), "")
        .await;
    answer.check_problem(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable");
    assert_eq!(answer.headers["retry-after"], "5");
}
