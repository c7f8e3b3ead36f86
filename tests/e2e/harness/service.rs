//! The binary that ships as a process, with topics and a data directory that no other test uses.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use tempfile::TempDir;
use uuid::Uuid;

use super::{BOUND, Log, Producer, TopicProducer, TopicReader, eventually, provided};

/// A subscription that a test created.
#[derive(Debug, Clone)]
pub(crate) struct Subscribed {
    pub(crate) id: String,
    pub(crate) secret: String,
}

/// One instance of the service: one process at a time, which may be killed and started again.
#[derive(Debug)]
pub(crate) struct Service {
    /// The consumer group, and the prefix of the topics' names.
    pub(crate) name: String,
    pub(super) kafka: Option<String>,
    pub(super) address: String,
    pub(super) client: reqwest::Client,
    settings: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
    data: TempDir,
}

impl Service {
    /// Starts the binary with `settings` (`section.key` and its text) beside those of the harness,
    /// and waits until it is ready and has its database.
    pub(crate) async fn start(log: &Log, test: &str, settings: &[(&str, &str)]) -> Self {
        let mut service = Self::prepare(log, test, settings);
        service.spawn();
        service.ready().await;
        service.wait_for_database().await;
        service
    }

    /// Does the same without starting a process.
    pub(crate) fn prepare(log: &Log, test: &str, settings: &[(&str, &str)]) -> Self {
        let name = format!("e2e-{test}-{}", Uuid::now_v7().simple());
        let topic = |role: &str| format!("{name}-{role}");
        let mut all = vec![
            ("application_id".to_owned(), name.clone()),
            ("kafka.topics.payload".to_owned(), topic("payload")),
            ("kafka.topics.retry".to_owned(), topic("retry")),
            ("kafka.topics.dead_letter".to_owned(), topic("dead-letter")),
            ("kafka.topics.payload_partitions".to_owned(), "4".to_owned()),
            ("egress.allow".to_owned(), "127.0.0.0/8".to_owned()),
        ];
        let kind = if log.is_kafka() { "kafka" } else { "embedded" };
        all.push(("log".to_owned(), kind.to_owned()));
        if let Some(address) = &log.kafka {
            all.push(("kafka.bootstrap_servers".to_owned(), address.clone()));
        }
        let own = settings.iter();
        all.extend(own.map(|(key, text)| ((*key).to_owned(), (*text).to_owned())));
        Self::new(name, log.kafka.clone(), all)
    }

    /// Starts another instance of the same group, with its own data directory and address.
    pub(crate) async fn join(&self) -> Self {
        let settings = self.settings.clone();
        let mut other = Self::new(self.name.clone(), self.kafka.clone(), settings);
        other.spawn();
        other.ready().await;
        other
    }

    fn new(name: String, kafka: Option<String>, settings: Vec<(String, String)>) -> Self {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().file_name().unwrap().display();
        let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}{folder}.log"));
        Self {
            name,
            kafka,
            address: format!("127.0.0.1:{}", free_port()),
            client: reqwest::Client::builder().build().unwrap(),
            settings,
            log,
            child: None,
            data,
        }
    }

    /// Changes a setting for the next process.
    pub(crate) fn set(&mut self, path: &str, text: &str) {
        self.settings.push((path.to_owned(), text.to_owned()));
    }

    /// Starts the process. It must not be running.
    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "the process is running already");
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.unwrap();
        let mut command = self.command();
        let output = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap());
        self.child = Some(output.stderr(log).spawn().unwrap());
    }

    /// Returns the binary that ships with this instance's settings.
    fn command(&self) -> Command {
        let mut command = Command::new(provided("SERVICE_BINARY"));
        let folder = self.data.path().display();
        let own = [
            ("data_dir", folder.to_string()),
            ("store", format!("sqlite:{folder}/subscriptions.db")),
            ("api.listen", self.address.clone()),
        ];
        let own = own.iter().map(|(path, text)| (*path, text));
        let given = self.settings.iter();
        for (path, text) in own.chain(given.map(|(path, text)| (path.as_str(), text))) {
            command.env(variable(path), text);
        }
        command
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

    /// Kills the process, which cannot finish anything.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops the process as a supervisor does, and waits for its end.
    pub(crate) async fn stop(&mut self) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        let ended = self.ended().await;
        assert!(
            ended.success(),
            "{ended}; its log is {}",
            self.log.display()
        );
    }

    /// Waits until the process ends.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        eventually("the service ends", BOUND, || {
            std::future::ready(child.try_wait().unwrap())
        })
        .await
    }

    /// Returns what all its processes logged so far.
    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Returns the peak of the process's resident memory, in bytes.
    pub(crate) fn memory_peak(&self) -> usize {
        let pid = self.child.as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<usize>().unwrap() << 10
    }

    /// Returns a producer that writes events where the service reads them.
    pub(crate) fn producer(&self) -> Producer<'_> {
        match self.kafka {
            Some(_) => Producer::Topic(self.topic_producer("none")),
            None => Producer::Http(self),
        }
    }

    /// Returns a Kafka producer for the payload topic that compresses with `codec`.
    pub(crate) fn topic_producer(&self, codec: &str) -> TopicProducer {
        let kafka = self.kafka.as_ref().unwrap();
        TopicProducer::new(kafka, self.topic("payload"), codec)
    }

    /// Starts to read all dead letters.
    pub(crate) fn read_dead_letters(&self) -> TopicReader {
        self.read("dead-letter", "retry")
    }

    /// Starts to read all records of `retry_sub`.
    pub(crate) fn read_retries(&self) -> TopicReader {
        self.read("retry", "dead-letter")
    }

    /// Reads a topic. The command that prints dead letters prints the topic that its configuration
    /// names, so the two topics' names are swapped to read `retry_sub`.
    fn read(&self, role: &str, other: &str) -> TopicReader {
        let topics = [self.topic(role), self.topic(other)];
        if let Some(kafka) = &self.kafka {
            return TopicReader::of_kafka(kafka, &topics[0]);
        }
        let command = self.command();
        let environment = command.get_envs();
        let environment: Vec<_> = environment
            .map(|(name, value)| (name.to_owned(), value.unwrap_or_default().to_owned()))
            .collect();
        TopicReader::printed_by(move || {
            let mut command = Command::new(provided("SERVICE_BINARY"));
            command.envs(environment.iter().cloned());
            command.env(variable("kafka.topics.dead_letter"), &topics[0]);
            command.env(variable("kafka.topics.retry"), &topics[1]);
            command.env("RUST_LOG", "off");
            command.args(["dead-letters", "--limit", "100000"]);
            command
        })
    }

    /// Returns the address of its API, which differs between instances.
    pub(crate) fn at(&self) -> &str {
        &self.address
    }

    pub(super) fn data(&self) -> &Path {
        self.data.path()
    }

    /// Returns the name of the topic of a role.
    pub(crate) fn topic(&self, role: &str) -> String {
        format!("{}-{role}", self.name)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A test that failed leaves no process behind. Errors have nobody to report to.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn variable(path: &str) -> String {
    let path = path.to_uppercase().replace('.', "__");
    format!("WEBHOOK_DELIVERY__{path}")
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
