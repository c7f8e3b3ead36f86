//! A log of one process in a file of SQLite: partitions, keys, headers, groups and retention as
//! Kafka has them. The only user of `sqlx` in the engine.
//!
//! One thread owns the file. Its writer takes all appends and offset commits that wait into one
//! transaction (`synchronous=FULL`) and acknowledges them after the commit; its reader fills the
//! bounded buffers from which workers read.

#![warn(missing_docs)]

mod buffer;
mod fetch;
mod group;
mod headers;
mod open;
mod reader;
mod retention;
mod row;
mod sink;
mod source;
mod topics;
mod writer;

use parking_lot::{Condvar, Mutex};
use std::collections::HashSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use buffer::Fetches;
pub use open::OpenError;
pub use reader::EmbeddedReader;
use sink::EmbeddedSink;
use source::EmbeddedSource;
use topics::Topics;
use topology::log::{Log, LogReader, RebalanceListener, RecordSink, RecordSource, SourceError};
use topology::{ConsumedRecord, Position, TopicPartition};
use topology::{TopicError, TopicSpec};
use writer::{Request, Writer};

/// How long a stop waits for what was appended: at most `sink::QUEUE_BYTES`.
const STOP: Duration = Duration::from_secs(10);
/// Requests in the writer's queue: one from each source and a caller or two.
const REQUESTS: usize = 64;

/// Where the log is, and how it is kept.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// The file. Two more of its name are beside it while it is open, and a lock file.
    pub path: PathBuf,
    /// How often records past their topic's retention are looked for.
    pub retention_interval: Duration,
    /// The longest metadata that is kept beside an offset, in bytes; Kafka's brokers have 4096.
    pub offset_metadata_max: usize,
}

/// What the threads share.
#[derive(Debug, Default)]
struct Shared {
    topics: Topics,
    fetches: Fetches,
    /// Group and topic of every source: one member has all partitions.
    members: Mutex<HashSet<(String, String)>>,
    closed: Mutex<bool>,
    closes: Condvar,
}

/// A log that this process owns.
pub struct EmbeddedLog {
    id: String,
    reader: EmbeddedReader,
    shared: Arc<Shared>,
    sink: Arc<EmbeddedSink>,
    requests: mpsc::Sender<Request>,
    stop: CancellationToken,
    offset_metadata_max: usize,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedLog {
    /// Opens the log, or makes it. Blocks its thread until the file is ready.
    ///
    /// # Errors
    /// Another process owns it, a newer version wrote it, or the file cannot be used.
    pub fn open(config: &EmbeddedConfig) -> Result<Self, OpenError> {
        let (appends, appended) = mpsc::channel(sink::QUEUE_RECORDS);
        let (requests, requested) = mpsc::channel(REQUESTS);
        let (opened, ready) = sync_channel(1);
        let shared = Arc::new(Shared::default());
        let stop = CancellationToken::new();
        let lock = open::lock(&config.path)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| OpenError::file(&config.path, error))?;
        let run = run(
            config.clone(),
            Arc::clone(&shared),
            appended,
            requested,
            stop.clone(),
            opened,
        );
        let closes = Closes(Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("embedded-log".into())
            .spawn(move || {
                let _closes = closes;
                let _lock = lock;
                runtime.block_on(run);
            })
            .map_err(|error| OpenError::file(&config.path, error))?;
        let ended = || OpenError::file(&config.path, std::io::Error::other("its thread ended"));
        let id = ready.recv().unwrap_or_else(|_dropped| Err(ended()))?;
        Ok(Self {
            id,
            reader: EmbeddedReader::new(&config.path),
            sink: Arc::new(EmbeddedSink::new(Arc::clone(&shared), appends)),
            shared,
            requests,
            stop,
            offset_metadata_max: config.offset_metadata_max,
            thread: Some(thread),
        })
    }
}

/// Runs the writer and the reader until `stop`, and tells `opened` the id or what is wrong.
async fn run(
    config: EmbeddedConfig,
    shared: Arc<Shared>,
    appends: mpsc::Receiver<sink::Append>,
    requests: mpsc::Receiver<Request>,
    stop: CancellationToken,
    opened: SyncSender<Result<String, OpenError>>,
) {
    let prepared = async {
        let refused = OpenError::database(&config.path);
        let mut connection = open::connect(&config.path).await.map_err(&refused)?;
        let id = open::prepare(&mut connection, &config.path).await?;
        let known = shared.topics.refresh(&mut connection).await;
        known.map_err(&refused)?;
        Ok::<_, OpenError>((connection, id))
    };
    let connection = match prepared.await {
        Ok((connection, id)) => {
            drop(opened.send(Ok(id)));
            connection
        }
        Err(error) => return drop(opened.send(Err(error))),
    };
    let writer = Writer::new(&config, connection, Arc::clone(&shared), stop.clone());
    let read = fetch::run(&config.path, &shared.fetches, &stop);
    tokio::join!(writer.run(appends, requests), read);
}

impl Shared {
    /// Waits until the log is closed, at most for `limit`; answers whether it is.
    fn wait_closed(&self, limit: Duration) -> bool {
        let mut closed = self.closed.lock();
        self.closes
            .wait_while_for(&mut closed, |closed| !*closed, limit);
        *closed
    }
}

/// Tells that the log is closed when its thread ends, whatever ended it.
struct Closes(Arc<Shared>);

impl Drop for Closes {
    fn drop(&mut self) {
        *self.0.closed.lock() = true;
        self.0.closes.notify_all();
    }
}

impl LogReader for EmbeddedLog {
    fn partitions<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<i32, SourceError>> {
        self.reader.partitions(topic)
    }

    fn offsets<'a>(
        &'a self,
        partition: &'a TopicPartition,
    ) -> BoxFuture<'a, Result<Range<i64>, SourceError>> {
        self.reader.offsets(partition)
    }

    fn read<'a>(
        &'a self,
        from: &'a Position,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ConsumedRecord>, SourceError>> {
        self.reader.read(from, limit)
    }
}

impl Log for EmbeddedLog {
    fn ensure_topics<'a>(
        &'a self,
        specs: &'a [TopicSpec],
    ) -> BoxFuture<'a, Result<(), TopicError>> {
        async {
            let closed = || TopicError::Unavailable("the log was closed".into());
            let (done, ensured) = oneshot::channel();
            let specs = specs.to_vec();
            let request = Request::EnsureTopics { specs, done };
            let sent = self.requests.send(request).await;
            sent.map_err(|_closed| closed())?;
            ensured.await.unwrap_or_else(|_dropped| Err(closed()))
        }
        .boxed()
    }

    fn id(&self) -> BoxFuture<'_, Option<String>> {
        futures::future::ready(Some(self.id.clone())).boxed()
    }

    fn subscribe(
        &self,
        group: &str,
        topic: &str,
        listener: Box<dyn RebalanceListener>,
    ) -> Result<Box<dyn RecordSource>, SourceError> {
        let source = EmbeddedSource::subscribe(
            Arc::clone(&self.shared),
            self.requests.clone(),
            group,
            topic,
            listener,
            self.offset_metadata_max,
        )?;
        Ok(Box::new(source))
    }

    fn sink(&self) -> Arc<dyn RecordSink> {
        Arc::clone(&self.sink) as Arc<dyn RecordSink>
    }
}

impl Drop for EmbeddedLog {
    /// Ends the thread: what is in its queue is still written and acknowledged.
    fn drop(&mut self) {
        self.stop.cancel();
        if !self.shared.wait_closed(STOP) {
            return tracing::error!(
                "the thread of the log did not end in time; it keeps running until the process ends"
            );
        }
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the thread of the log panicked");
        }
    }
}

impl std::fmt::Debug for EmbeddedLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedLog")
            .field("reader", &self.reader)
            .finish_non_exhaustive()
    }
}
