//! Runs the real binary against real servers, with topics and a data directory that
//! no other test knows. It must not assert anything about deliveries: that is for the tests.

use std::collections::HashSet;
use std::fs::File;
use std::future::Future;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// How long anything may take to happen before a test gives up.
pub(crate) const BOUND: Duration = Duration::from_mins(2);

/// The address of Kafka, or none where this test is to be skipped; says so, and refuses to skip
/// where nothing may be.
pub(crate) fn kafka() -> Option<String> {
    let address = std::env::var("KAFKA_BOOTSTRAP")
        .ok()
        .filter(|address| !address.is_empty());
    if address.is_none() {
        let strict = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(
            !strict,
            "KAFKA_BOOTSTRAP is not set, and CI=true skips nothing"
        );
        println!("skipped: KAFKA_BOOTSTRAP is not set; scripts/test sets it");
    }
    address
}

/// Asks again and again until `condition` gives something; panics with `what` when `bound` is up.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    bound: Duration,
    mut condition: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + bound;
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    loop {
        ticks.tick().await;
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {bound:?}: {what}");
    }
}

/// As [`eventually`], for what is at hand without waiting.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    eventually(what, BOUND, || {
        std::future::ready(condition().then_some(()))
    })
    .await;
}

/// A subscription that was made for a test.
#[derive(Debug, Clone)]
pub(crate) struct Subscribed {
    pub(crate) id: String,
    pub(crate) secret: String,
}

/// A record of the dead-letter topic.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetter {
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<(String, String)>,
}

impl DeadLetter {
    /// The last header of that name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().rev().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Why it is here, with everything that was told on the way.
    pub(crate) fn reason(&self) -> &str {
        self.header("wd-reason").unwrap_or("")
    }
}

/// Reads the dead letters of one service in the background.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    letters: Arc<Mutex<Vec<DeadLetter>>>,
    reader: JoinHandle<()>,
}

impl DeadLetters {
    /// Those read so far.
    pub(crate) fn so_far(&self) -> Vec<DeadLetter> {
        self.letters.lock().unwrap().clone()
    }
}

impl Drop for DeadLetters {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The service: one process at a time, which may be killed and started again.
#[derive(Debug)]
pub(crate) struct Service {
    name: String,
    kafka: String,
    address: String,
    settings: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
    client: reqwest::Client,
    _data: TempDir,
}

impl Service {
    /// Starts the binary with `settings` (`section.key` and its text) beyond the harness's own,
    /// and waits until it is ready.
    pub(crate) async fn start(kafka: String, test: &str, settings: &[(&str, &str)]) -> Self {
        let name = format!("e2e-{test}-{}", Uuid::now_v7().simple());
        let data = tempfile::tempdir().unwrap();
        let store = data.path().join("subscriptions.db");
        let address = format!("127.0.0.1:{}", free_port());
        let mut all = vec![
            ("application_id".to_owned(), name.clone()),
            ("store".to_owned(), format!("sqlite:{}", store.display())),
            ("data_dir".to_owned(), data.path().display().to_string()),
            ("log".to_owned(), "kafka".to_owned()),
            ("kafka.bootstrap_servers".to_owned(), kafka.clone()),
            ("kafka.topics.payload".to_owned(), format!("{name}-payload")),
            ("kafka.topics.retry".to_owned(), format!("{name}-retry")),
            (
                "kafka.topics.dead_letter".to_owned(),
                format!("{name}-dead-letter"),
            ),
            ("kafka.topics.payload_partitions".to_owned(), "4".to_owned()),
            ("api.listen".to_owned(), address.clone()),
            ("egress.allow".to_owned(), "127.0.0.0/8".to_owned()),
        ];
        let own = settings.iter();
        all.extend(own.map(|(key, text)| ((*key).to_owned(), (*text).to_owned())));
        let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.log"));
        let mut service = Self {
            name,
            kafka,
            address,
            settings: all,
            log,
            child: None,
            client: reqwest::Client::builder().build().unwrap(),
            _data: data,
        };
        service.spawn();
        service.ready().await;
        service
    }

    /// Starts the process, which must not be running.
    pub(crate) fn spawn(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_webhook-delivery"));
        for (path, text) in &self.settings {
            let variable = path.to_uppercase().replace('.', "__");
            command.env(format!("WEBHOOK_DELIVERY__{variable}"), text);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
    }

    /// Waits until `/readyz` answers 200.
    pub(crate) async fn ready(&mut self) {
        let url = format!("http://{}/readyz", self.address);
        let what = format!("the service is ready; its log is {}", self.log.display());
        let client = self.client.clone();
        let child = self.child.as_mut().unwrap();
        eventually(&what, BOUND, || {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "the service ended with {ended:?}: {what}");
            let request = client.get(&url).send();
            async move { request.await.ok()?.status().is_success().then_some(()) }
        })
        .await;
    }

    /// Ends the process without a chance to finish anything.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends the process as a supervisor does and waits for it.
    pub(crate) async fn finish(mut self) {
        let mut child = self.child.take().unwrap();
        let asked = Command::new("kill").arg(child.id().to_string()).status();
        assert!(asked.unwrap().success());
        let ended = eventually("the service ends when asked to", BOUND, || {
            std::future::ready(child.try_wait().unwrap())
        })
        .await;
        assert!(
            ended.success(),
            "{ended}; its log is {}",
            self.log.display()
        );
    }

    /// Subscribes `url` to the events that name the subscription.
    pub(crate) async fn subscribe(&self, url: &str) -> Subscribed {
        let answer = self.post(
            "/subscription",
            &[],
            json!({ "target_url": url }).to_string(),
        );
        let (status, document) = answer.await;
        assert_eq!(status, 201, "{document}");
        let member = |name: &str| document[name].as_str().unwrap().to_owned();
        Subscribed {
            id: member("id"),
            secret: member("secret"),
        }
    }

    /// Posts a document to the service; gives the status and the document it answers.
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
        let answer = request.body(body).send().await.unwrap();
        let status = answer.status().as_u16();
        let document = answer.bytes().await.unwrap();
        (
            status,
            serde_json::from_slice(&document).unwrap_or_default(),
        )
    }

    /// A producer of someone else's, compressing with `codec`.
    pub(crate) fn producer(&self, codec: &str) -> FutureProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.kafka);
        config.set("compression.type", codec);
        config.set("linger.ms", "5");
        config.create().unwrap()
    }

    /// Puts a record on the payload topic and waits for the broker's acknowledgement.
    pub(crate) async fn produce(
        &self,
        producer: &FutureProducer,
        event_id: &str,
        value: Option<&[u8]>,
    ) {
        let topic = self.topic("payload");
        let id = Header {
            key: "webhook-id",
            value: Some(event_id),
        };
        let mut record = FutureRecord::to(&topic)
            .key(event_id)
            .headers(OwnedHeaders::new().insert(id));
        record.payload = value;
        producer.send(record, BOUND).await.unwrap();
    }

    /// Reads the dead letters, all of them from the first on.
    pub(crate) fn dead_letters(&self) -> DeadLetters {
        let consumer: StreamConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.kafka)
            .set("group.id", format!("{}-reader", self.name))
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        let topic = self.topic("dead-letter");
        let metadata = consumer.fetch_metadata(Some(&topic), BOUND).unwrap();
        let mut partitions = TopicPartitionList::new();
        for partition in metadata.topics()[0].partitions() {
            let offset = partitions.add_partition_offset(&topic, partition.id(), Offset::Beginning);
            offset.unwrap();
        }
        assert!(partitions.count() > 0, "no topic {topic}");
        consumer.assign(&partitions).unwrap();
        let letters = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&letters);
        let reader = tokio::spawn(async move {
            loop {
                let message = consumer.recv().await.unwrap();
                let headers = message.headers().into_iter().flat_map(Headers::iter);
                let text = |value: Option<&[u8]>| {
                    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
                };
                let letter = DeadLetter {
                    value: message.payload().map(Bytes::copy_from_slice),
                    headers: headers
                        .map(|header| (header.key.to_owned(), text(header.value)))
                        .collect(),
                };
                shared.lock().unwrap().push(letter);
            }
        });
        DeadLetters { letters, reader }
    }

    /// The topic with that role.
    pub(crate) fn topic(&self, role: &str) -> String {
        format!("{}-{role}", self.name)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A test that failed leaves no process behind; there is no one to tell if it does.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// How many of `ids` are not in `seen`, and a few of them.
pub(crate) fn missing(ids: &[String], seen: &HashSet<String>) -> (usize, Vec<String>) {
    let missing: Vec<_> = ids.iter().filter(|id| !seen.contains(*id)).collect();
    (
        missing.len(),
        missing.into_iter().take(5).cloned().collect(),
    )
}
