//! The API over its own routes, on a store and a log that a test can break.

mod cache;
mod fakes;
mod ingestion;
mod seed;
mod subscriptions;

use std::sync::Arc;
use std::time::Duration;

use poem::http::{Method, StatusCode};
use poem::test::{TestClient, TestResponse};
use poem::{Body, Endpoint, Response};
use serde_json::Value;

use super::*;
use crate::config::Config;
use crate::subscriptions::CacheConfig;
use crate::telemetry::Metrics;
use fakes::{FakeHealth, FakeIngest, FakeStore};

const ID: &str = "363294be-37e5-482f-b7fd-5a1be84c2713";
const KEY: &str = "0123456789abcdef";

/// The API with what it works on.
struct App {
    store: Arc<FakeStore>,
    ingest: Arc<FakeIngest>,
    config: Api,
}

impl App {
    fn new() -> Self {
        let config = Config::default().api;
        Self {
            store: Arc::default(),
            ingest: Arc::default(),
            config,
        }
    }

    fn endpoint(&self) -> impl Endpoint<Output = Response> + use<> {
        let store: Arc<dyn SubscriptionStore> = self.store.clone();
        let handle = tokio::runtime::Handle::current();
        routes(ApiState {
            subscriptions: Subscriptions::new(
                store.clone(),
                CacheConfig::default(),
                handle,
                Metrics::off(),
            ),
            store,
            ingest: self.ingest.clone(),
            health: Arc::new(FakeHealth),
            telemetry: Telemetry::off(),
            config: self.config.clone(),
        })
    }

    /// One request with headers and a body.
    async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let client = TestClient::new(self.endpoint());
        let mut request = client.request(method, path).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request.send().await).await
    }

    /// One request with a JSON body.
    async fn send(&self, method: Method, path: &str, body: &str) -> Answer {
        self.request(
            method,
            path,
            &[("content-type", "application/json")],
            body.to_owned(),
        )
        .await
    }

    /// Creates the subscription [`ID`].
    async fn with_subscription(self) -> Self {
        let body = format!(r#"{{"id": "{ID}", "target_url": "https://example.com/hook"}}"#);
        let answer = self.send(Method::POST, "/subscription", &body).await;
        assert_eq!(answer.status, StatusCode::CREATED);
        self
    }
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    document: Value,
}

impl Answer {
    async fn of(response: TestResponse) -> Self {
        let response = response.0;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.into_body().into_bytes().await.unwrap();
        let document = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Self {
            status,
            headers,
            document,
        }
    }

    /// Holds an error to its status and its kind, and to what every problem document has.
    #[track_caller]
    fn check_problem(&self, status: StatusCode, kind: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(
            self.document["type"],
            format!("urn:webhook-delivery:problem:{kind}")
        );
        assert_eq!(self.document["status"], status.as_u16());
        for member in ["title", "detail", "fix"] {
            assert!(
                !self.document[member].as_str().unwrap().is_empty(),
                "{member}"
            );
        }
    }

    /// The members that a problem document names.
    fn members(&self) -> Vec<&str> {
        let errors = self.document["errors"].as_array().into_iter().flatten();
        errors
            .filter_map(|error| error["member"].as_str())
            .collect()
    }
}

#[tokio::test]
async fn every_operation_of_the_table_is_served() {
    let app = App::new();
    for (method, path) in OPERATIONS {
        let method: Method = method.parse().unwrap();
        let answer = app.send(method.clone(), &path.replace(":id", ID), "").await;
        let kind = answer.document["type"].as_str().unwrap_or_default();
        let missing = kind.ends_with(":no-such-path") || kind.ends_with(":method-not-allowed");
        assert!(!missing, "{method} {path}: {answer:?}");
    }
}

#[tokio::test]
async fn errors_of_the_framework_are_problem_documents() {
    let app = App::new();
    let answer = app.send(Method::GET, "/nowhere", "").await;
    answer.check_problem(StatusCode::NOT_FOUND, "no-such-path");
    let answer = app
        .send(Method::PATCH, &format!("/subscription/{ID}"), "")
        .await;
    answer.check_problem(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed");
    assert_eq!(answer.headers["allow"], "GET, DELETE");
    let answer = app.send(Method::GET, "/subscription/%FF%FE", "").await;
    assert!(answer.status.is_client_error());
    assert_eq!(answer.headers["content-type"], "application/problem+json");
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_also_without_its_length() {
    let mut app = App::new();
    app.config.body_bytes_max = 1024;
    for path in ["/subscription", "/ingestion"] {
        let answer = app.send(Method::POST, path, &" ".repeat(1025)).await;
        answer.check_problem(StatusCode::PAYLOAD_TOO_LARGE, "too-large");
        assert_eq!(answer.document["bytes_max"], 1024);
    }
    let chunk = || Ok::<_, io::Error>(vec![b' '; 1000]);
    let endless = Body::from_bytes_stream(futures::stream::repeat_with(chunk));
    let answer = app.request(Method::POST, "/ingestion", &[], endless).await;
    answer.check_problem(StatusCode::PAYLOAD_TOO_LARGE, "too-large");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_given_up() {
    let never = futures::stream::pending::<Result<Vec<u8>, io::Error>>();
    let never = Body::from_bytes_stream(never);
    let answer = App::new()
        .request(Method::POST, "/ingestion", &[], never)
        .await;
    answer.check_problem(StatusCode::REQUEST_TIMEOUT, "slow-body");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_ends_in_an_answer() {
    let app = App::new();
    app.store.hang();
    let before = tokio::time::Instant::now();
    let answer = app
        .send(Method::GET, &format!("/subscription/{ID}"), "")
        .await;
    answer.check_problem(StatusCode::SERVICE_UNAVAILABLE, "out-of-time");
    assert_eq!(before.elapsed(), Duration::from_secs(35));
}

#[tokio::test]
async fn with_keys_only_health_and_documentation_are_open() {
    let mut app = App::new();
    app.config.keys = vec![KEY.to_owned().into()];
    for (method, path) in OPERATIONS {
        let method: Method = method.parse().unwrap();
        let answer = app.send(method, &path.replace(":id", ID), "").await;
        if ["/livez", "/readyz", "/openapi.json", "/docs"].contains(&path) {
            assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        } else {
            answer.check_problem(StatusCode::UNAUTHORIZED, "unauthorized");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
    }
    let headers = [("authorization", &*format!("Bearer {KEY}"))];
    let answer = app
        .request(Method::GET, "/subscription", &headers, "")
        .await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn health_says_what_is_not_ready() {
    let answer = App::new().send(Method::GET, "/readyz", "").await;
    answer.check_problem(StatusCode::SERVICE_UNAVAILABLE, "not-ready");
    assert_eq!(answer.document["checks"]["log"], "waiting");
    assert_eq!(
        App::new().send(Method::GET, "/livez", "").await.status,
        StatusCode::OK
    );
}
