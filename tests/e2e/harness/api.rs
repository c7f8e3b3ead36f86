//! The service's HTTP API, as a client uses it.

use serde_json::{Value, json};

use super::{BOUND, Service, Subscribed, eventually};

impl Service {
    /// Creates a subscription of `url` to the events that name it.
    pub(crate) async fn subscribe(&self, url: &str) -> Subscribed {
        self.subscribe_as(json!({ "target_url": url })).await
    }

    /// Creates the subscription that a document describes.
    pub(crate) async fn subscribe_as(&self, document: Value) -> Subscribed {
        let answer = self.post("/subscription", &[], document.to_string());
        let (status, document) = answer.await;
        assert_eq!(status, 201, "{document}");
        let member = |name: &str| document[name].as_str().unwrap().to_owned();
        Subscribed {
            id: member("id"),
            secret: member("secret"),
        }
    }

    /// Posts an event with this id, which the service must accept; returns its answer.
    pub(crate) async fn ingest(&self, id: &str, value: Vec<u8>) -> Value {
        let value = String::from_utf8(value).unwrap();
        let (status, answer) = self.post("/ingestion", &[("webhook-id", id)], value).await;
        assert_eq!(status, 202, "{answer}");
        assert_eq!(answer["id"], *id);
        answer
    }

    /// Posts a document; returns the status and the document of the answer.
    pub(crate) async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> (u16, Value) {
        let mut request = self.client.post(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.header("content-type", "application/json");
        answer(request.body(body)).await.unwrap()
    }

    /// Waits until `/readyz` reports that the database is there.
    pub(crate) async fn wait_for_database(&self) {
        eventually("the database is there", BOUND, || async {
            let (_, readiness) = self.readiness().await?;
            (readiness["checks"]["database"] == "ok").then_some(())
        })
        .await;
    }

    /// Returns what `/readyz` answers, or `None` while nothing listens.
    pub(crate) async fn readiness(&self) -> Option<(u16, Value)> {
        let url = format!("http://{}/readyz", self.address);
        answer(self.client.get(url)).await.ok()
    }
}

async fn answer(request: reqwest::RequestBuilder) -> reqwest::Result<(u16, Value)> {
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    let document = answer.bytes().await?;
    Ok((
        status,
        serde_json::from_slice(&document).unwrap_or_default(),
    ))
}
