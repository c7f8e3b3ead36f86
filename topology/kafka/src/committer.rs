//! Commits on a thread of its own. librdkafka waits for a coordinator that is away, with KIP-848
//! for 45 seconds that no setting shortens, and who commits has a group to serve meanwhile.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use rdkafka::consumer::BaseConsumer;

use super::member::Member;
use super::offsets;
use topology::log::{CommitError, Committable, SourceError};

/// How long the coordinator has to answer.
const LIMIT: Duration = Duration::from_secs(5);

type Answer = Result<(), CommitError>;

struct Request {
    consumer: Arc<BaseConsumer<Member>>,
    offsets: Vec<Committable>,
    done: SyncSender<Answer>,
}

/// The one that commits for a source. Its thread ends with it, or with the commit under way.
pub(super) struct Committer {
    requests: SyncSender<Request>,
    /// That of a commit that took too long, and may still be made.
    late: Option<Receiver<Answer>>,
}

impl Committer {
    pub(super) fn spawn(topic: &str) -> std::io::Result<Self> {
        // One under way at a time.
        let (requests, requested) = sync_channel::<Request>(1);
        let thread = std::thread::Builder::new().name(format!("commit-{topic}"));
        thread.spawn(move || {
            for Request {
                consumer,
                offsets,
                done,
            } in requested
            {
                let answer = offsets::commit(&consumer, &offsets);
                // Before its owner hears of the end, who may drop the consumer then.
                drop(consumer);
                drop(done.send(answer));
            }
        })?;
        Ok(Self {
            requests,
            late: None,
        })
    }

    /// Waits for the answer to a commit that took too long, for at most five seconds.
    pub(super) fn wait_for_late(&mut self) {
        let answered = |late: &mut Receiver<Answer>| {
            !matches!(late.recv_timeout(LIMIT), Err(RecvTimeoutError::Timeout))
        };
        drop(self.late.take_if(answered));
    }

    /// Commits, and waits for the answer for at most five seconds, or not at all while a commit
    /// before it has none: offsets are committed in their order.
    pub(super) fn commit(
        &mut self,
        consumer: Arc<BaseConsumer<Member>>,
        offsets: &[Committable],
    ) -> Answer {
        let is_late = |late: &Receiver<Answer>| matches!(late.try_recv(), Err(TryRecvError::Empty));
        if self.late.as_ref().is_some_and(is_late) {
            return Err(transient(
                "the coordinator has not answered the commit before",
            ));
        }
        let (done, answered) = sync_channel(1);
        let request = Request {
            consumer,
            offsets: offsets.to_vec(),
            done,
        };
        let sent = self.requests.try_send(request);
        sent.map_err(|error| transient(&error.to_string()))?;
        match answered.recv_timeout(LIMIT) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Disconnected) => Err(transient("the thread of commits is gone")),
            Err(RecvTimeoutError::Timeout) => {
                self.late = Some(answered);
                Err(transient("the coordinator does not answer"))
            }
        }
    }
}

fn transient(reason: &str) -> CommitError {
    SourceError::Transient(reason.to_owned()).into()
}
