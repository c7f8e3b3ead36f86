//! The service as it is run: first with the role `api` only, until its log holds the events, and
//! then, which is measured, with all roles.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::bare::client;
use crate::process::Running;
use crate::{BODY_BYTES, kafka};

/// Subscriptions of the one receiver: so many, as the embedded log keeps each one's events in one
/// partition, and partitions are divided among the workers.
const SUBSCRIPTIONS: usize = 100;
/// Events of one request to `/ingestion/batch`.
const BATCH: usize = 1_000;
/// How long the service may take to start, and to stop.
const BOUND: Duration = Duration::from_secs(60);

/// Where the events wait.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Log {
    Kafka,
    Embedded,
}

/// A log that holds the events, and a subscription for them.
pub(crate) struct Filled {
    name: String,
    servers: Option<String>,
    address: String,
    client: reqwest::Client,
    folder: TempDir,
}

impl Filled {
    /// Events that a producer wrote to Kafka.
    pub(crate) async fn kafka(servers: &str, url: &str, events: u32) -> Self {
        let filled = Self::empty(Some(servers.to_owned()));
        let api = filled.serve().await;
        let bodies = filled.subscribe(url).await;
        kafka::fill(servers, &filled.topic(), &bodies, events).await;
        stop(api).await;
        filled
    }

    /// Events that the service took through `/ingestion/batch`.
    pub(crate) async fn embedded(url: &str, events: u32) -> Self {
        let filled = Self::empty(None);
        let api = filled.serve().await;
        let bodies = filled.subscribe(url).await;
        let all: Vec<&str> = round_robin(&bodies, events).collect();
        for batch in all.chunks(BATCH) {
            let document = format!(r#"{{"events":[{}]}}"#, batch.join(","));
            let (status, answer) = filled.post("/ingestion/batch", document).await;
            assert_eq!(status, 202, "{answer}; see {}", filled.log());
        }
        stop(api).await;
        filled
    }

    /// Starts the service on all of the events, in a group of its own.
    pub(crate) fn deliver(&self, in_flight: usize) -> Running {
        let group = format!("{}-{}", self.name, Uuid::now_v7().simple());
        self.spawn(&[
            ("application_id", &group),
            ("delivery.concurrency", &in_flight.to_string()),
        ])
    }

    pub(crate) fn topic(&self) -> String {
        format!("{}-payload", self.name)
    }

    fn empty(servers: Option<String>) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self {
            name: format!("bench-{}", Uuid::now_v7().simple()),
            servers,
            address: free.local_addr().unwrap().to_string(),
            client: client(),
            folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
        }
    }

    /// Runs the API only, and waits until it is ready.
    async fn serve(&self) -> Running {
        let mut running = self.spawn(&[("roles", "api")]);
        let ready = async {
            let mut polls = tokio::time::interval(Duration::from_millis(20));
            loop {
                polls.tick().await;
                let ended = running.0.try_wait().unwrap();
                assert!(ended.is_none(), "{ended:?}; see {}", self.log());
                let Ok(answer) = self.client.get(self.url("/readyz")).send().await else {
                    continue;
                };
                let report = answer.bytes().await.unwrap();
                let report: Value = serde_json::from_slice(&report).unwrap();
                // Ready it is without its database too, but not for subscriptions to be made.
                if report["ready"] == true && report["checks"]["database"] == "ok" {
                    break;
                }
            }
        };
        tokio::time::timeout(BOUND, ready).await.unwrap();
        running
    }

    fn spawn(&self, settings: &[(&str, &str)]) -> Running {
        let log = File::options().create(true).append(true).open(self.log());
        let log = log.unwrap();
        let mut command = Command::new(binary());
        let mut set = |path: &str, text: &str| {
            command.arg("--set").arg(format!("{path}={text}"));
        };
        set("application_id", &self.name);
        set(
            "store",
            &format!("sqlite:{}", self.path("subscriptions.db")),
        );
        set("data_dir", &self.path("data"));
        set("api.listen", &self.address);
        set("egress.allow", "127.0.0.0/8");
        if let Some(servers) = &self.servers {
            set("log", "kafka");
            set("kafka.bootstrap_servers", servers);
            set("kafka.topics.payload", &self.topic());
            set(
                "kafka.topics.payload_partitions",
                &kafka::PARTITIONS.to_string(),
            );
            set("kafka.topics.retry", &format!("{}-retry", self.name));
            set(
                "kafka.topics.dead_letter",
                &format!("{}-dead-letter", self.name),
            );
        }
        for (path, text) in settings {
            set(path, text);
        }
        let log = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        Running(log.spawn().unwrap())
    }

    /// Subscribes `url`; gives an event for each subscription, as long as a body is to be.
    async fn subscribe(&self, url: &str) -> Vec<String> {
        let document = json!({ "target_url": url }).to_string();
        let mut events = Vec::new();
        for _ in 0..SUBSCRIPTIONS {
            let (status, answer) = self.post("/subscription", document.clone()).await;
            assert_eq!(status, 201, "{answer}; see {}", self.log());
            let with = |data: String| json!({ "id": answer["id"], "data": data }).to_string();
            let missing = BODY_BYTES - with(String::new()).len();
            events.push(with("d".repeat(missing)));
        }
        events
    }

    async fn post(&self, path: &str, document: String) -> (u16, Value) {
        let request = self.client.post(self.url(path)).body(document);
        let request = request.header("content-type", "application/json");
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let document = answer.bytes().await.unwrap();
        (
            status,
            serde_json::from_slice(&document).unwrap_or_default(),
        )
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What the service says; kept, for those who ask why a run failed.
    fn log(&self) -> String {
        format!("{}/{}.log", env!("CARGO_TARGET_TMPDIR"), self.name)
    }

    fn path(&self, name: &str) -> String {
        let path = Path::new(self.folder.path()).join(name);
        path.display().to_string()
    }
}

/// `count` events, those of each subscription in turn.
pub(crate) fn round_robin(bodies: &[String], count: u32) -> impl Iterator<Item = &str> {
    let events = bodies.iter().map(String::as_str).cycle();
    events.take(count as usize)
}

/// Ends the process as a supervisor does, and waits for it.
async fn stop(mut running: Running) {
    let asked = Command::new("kill")
        .arg(running.0.id().to_string())
        .status();
    assert!(asked.unwrap().success());
    let ended = async {
        let mut polls = tokio::time::interval(Duration::from_millis(20));
        loop {
            polls.tick().await;
            if let Some(status) = running.0.try_wait().unwrap() {
                break status;
            }
        }
    };
    let status = tokio::time::timeout(BOUND, ended).await.unwrap();
    assert!(status.success(), "{status}");
}

/// Returns the path of the binary that ships, which `scripts/bench` builds.
fn binary() -> String {
    std::env::var("SERVICE_BINARY").expect("SERVICE_BINARY is not set: run scripts/bench")
}
