//! The real binary as a process, with topics and a data directory that no other test knows.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use tempfile::TempDir;
use uuid::Uuid;

use super::{BOUND, DeadLetters, Kafka, Producer, eventually};

/// A subscription that was made for a test.
#[derive(Debug, Clone)]
pub(crate) struct Subscribed {
    pub(crate) id: String,
    pub(crate) secret: String,
}

/// One instance of the service: a process at a time, which may be killed and started again.
#[derive(Debug)]
pub(crate) struct Service {
    /// The consumer group, and what the topics' names begin with.
    pub(crate) name: String,
    pub(super) kafka: String,
    pub(super) address: String,
    pub(super) client: reqwest::Client,
    settings: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
    data: TempDir,
}

impl Service {
    /// Starts the binary with `settings` (`section.key` and its text) beyond the harness's own,
    /// and waits until it is ready.
    pub(crate) async fn start(kafka: &Kafka, test: &str, settings: &[(&str, &str)]) -> Self {
        let mut service = Self::prepare(kafka, test, settings);
        service.spawn();
        service.ready().await;
        service
    }

    /// As [`Service::start`], without a process yet.
    pub(crate) fn prepare(kafka: &Kafka, test: &str, settings: &[(&str, &str)]) -> Self {
        let name = format!("e2e-{test}-{}", Uuid::now_v7().simple());
        let topic = |role: &str| format!("{name}-{role}");
        let mut all = vec![
            ("application_id".to_owned(), name.clone()),
            ("log".to_owned(), "kafka".to_owned()),
            ("kafka.bootstrap_servers".to_owned(), kafka.address.clone()),
            ("kafka.topics.payload".to_owned(), topic("payload")),
            ("kafka.topics.retry".to_owned(), topic("retry")),
            ("kafka.topics.dead_letter".to_owned(), topic("dead-letter")),
            ("kafka.topics.payload_partitions".to_owned(), "4".to_owned()),
            ("egress.allow".to_owned(), "127.0.0.0/8".to_owned()),
        ];
        let own = settings.iter();
        all.extend(own.map(|(key, text)| ((*key).to_owned(), (*text).to_owned())));
        Self::of(name, kafka.address.clone(), all)
    }

    /// Another instance of the same group, with a data directory and an address of its own.
    pub(crate) async fn join(&self) -> Self {
        let (name, kafka) = (self.name.clone(), self.kafka.clone());
        let mut other = Self::of(name, kafka, self.settings.clone());
        other.spawn();
        other.ready().await;
        other
    }

    fn of(name: String, kafka: String, settings: Vec<(String, String)>) -> Self {
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

    /// Starts the process, which must not be running.
    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_webhook-delivery"));
        let folder = self.data.path().display();
        let own = [
            ("data_dir", folder.to_string()),
            ("store", format!("sqlite:{folder}/subscriptions.db")),
            ("api.listen", self.address.clone()),
        ];
        let own = own.iter().map(|(path, text)| (*path, text));
        let given = self
            .settings
            .iter()
            .map(|(path, text)| (path.as_str(), text));
        for (path, text) in own.chain(given) {
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

    /// Ends the process as a supervisor does, and waits for it.
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

    /// What all its processes said so far.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// The most memory that the process had so far, in bytes.
    pub(crate) fn memory_peak(&self) -> usize {
        let pid = self.child.as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<usize>().unwrap() << 10
    }

    /// A producer for the payload topic, of someone else's, compressing with `codec`.
    pub(crate) fn producer(&self, codec: &str) -> Producer {
        Producer::new(&self.kafka, self.topic("payload"), codec)
    }

    /// Reads the dead letters, all of them from the first on.
    pub(crate) fn dead_letters(&self) -> DeadLetters {
        DeadLetters::read(&self.kafka, &self.topic("dead-letter"))
    }

    /// Reads what is parked, in the same way.
    pub(crate) fn parked(&self) -> DeadLetters {
        DeadLetters::read(&self.kafka, &self.topic("retry"))
    }

    /// The name of the topic of this role.
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
