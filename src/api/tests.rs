//! Tests of the API through its routes, on a store and a log that can be made to fail.

mod cache;
mod fakes;
mod ingestion;
mod seed;
mod subscriptions;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use poem::http::{HeaderMap, Method, StatusCode};
use poem::test::{TestClient, TestResponse};
use poem::{Body, Endpoint, Response};
use serde_json::Value;

use super::*;
use crate::subscriptions::CacheConfig;
use crate::telemetry::Metrics;
use fakes::{FakeHealth, FakeLog, FakeStore};

const ID: &str = "363294be-37e5-482f-b7fd-5a1be84c2713";
const KEY: &str = "0123456789abcdef";

/// The API with what it works on.
struct App {
    store: Arc<FakeStore>,
    log: Arc<FakeLog>,
    config: Api,
}

impl App {
    fn new() -> Self {
        Self {
            store: Arc::default(),
            log: Arc::default(),
            config: Api {
                listen: ([127, 0, 0, 1], 8000).into(),
                keys: Vec::new(),
                body_bytes_max: 256 << 10,
                request_timeout: Duration::from_secs(30),
                ingestion_timeout: Duration::from_secs(5),
                create_missing: false,
            },
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
            log: self.log.clone(),
            payload_topic: "webhook_payload".into(),
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
        Answer::read(request.send().await).await
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
    async fn read(response: TestResponse) -> Self {
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

    /// Checks the status and the kind of an error, and what every problem document has.
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

    /// Returns the names in `errors` of a problem document.
    fn members(&self) -> Vec<&str> {
        let errors = self.document["errors"].as_array().into_iter().flatten();
        errors
            .filter_map(|error| error["member"].as_str())
            .collect()
    }
}

#[tokio::test]
async fn every_operation_in_the_table_is_served() {
    let app = App::new();
    for operation in OPERATIONS.iter() {
        let (method, path) = (operation.method(), operation.path());
        let answer = app
            .send(method.clone(), &path.replace("{id}", ID), "")
            .await;
        let kind = answer.document["type"].as_str().unwrap_or_default();
        let missing = kind.ends_with(":no-such-path") || kind.ends_with(":method-not-allowed");
        assert!(!missing, "{method} {path}: {answer:?}");
    }
}

#[tokio::test]
async fn framework_errors_are_problem_documents() {
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
async fn oversized_body_is_refused_even_without_a_length() {
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
async fn body_that_never_arrives_times_out() {
    let never = futures::stream::pending::<Result<Vec<u8>, io::Error>>();
    let never = Body::from_bytes_stream(never);
    let answer = App::new()
        .request(Method::POST, "/ingestion", &[], never)
        .await;
    answer.check_problem(StatusCode::REQUEST_TIMEOUT, "slow-body");
}

#[tokio::test(start_paused = true)]
async fn hanging_store_ends_in_a_response() {
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
async fn with_keys_only_probes_and_documentation_are_open() {
    let mut app = App::new();
    app.config.keys = vec![KEY.to_owned().into()];
    for operation in OPERATIONS.iter() {
        let (method, path) = (operation.method(), operation.path());
        let answer = app
            .send(method.clone(), &path.replace("{id}", ID), "")
            .await;
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
async fn readiness_names_the_components_that_are_not_ready() {
    let answer = App::new().send(Method::GET, "/readyz", "").await;
    answer.check_problem(StatusCode::SERVICE_UNAVAILABLE, "not-ready");
    assert_eq!(answer.document["checks"]["log"], "waiting");
    assert_eq!(
        App::new().send(Method::GET, "/livez", "").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn panic_is_an_internal_error_with_a_trace_id() {
    let app = App::new();
    app.store.panic();
    let path = format!("/subscription/{ID}");
    let answer = app.send(Method::GET, &path, "").await;
    answer.check_problem(StatusCode::INTERNAL_SERVER_ERROR, "internal-error");
    let trace_id = answer.document["trace_id"].as_str().unwrap();
    assert_eq!(trace_id.len(), 32);
    assert!(!answer.document.to_string().contains("a test wants it"));
}

#[tokio::test]
async fn head_is_served_like_get_without_a_body() {
    let answer = App::new().send(Method::HEAD, "/livez", "").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.document, Value::Null);
    let answer = App::new().send(Method::HEAD, "/ingestion", "").await;
    answer.check_problem(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed");
}

#[tokio::test]
async fn served_document_is_the_one_that_is_kept() {
    let answer = App::new().send(Method::GET, "/openapi.json", "").await;
    assert_eq!(answer.headers["content-type"], "application/json");
    let kept: Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
    assert_eq!(answer.document, kept);
}

#[tokio::test]
async fn every_invalid_query_parameter_is_named() {
    let answer = App::new()
        .send(Method::GET, "/subscription?limit=0&after=x&page=1", "")
        .await;
    answer.check_problem(StatusCode::BAD_REQUEST, "bad-request");
    assert_eq!(answer.members(), ["after", "limit", "page"]);
}
