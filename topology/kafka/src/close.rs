//! Ends clients of librdkafka, whose end may hang, on threads of their own.

use std::convert::Infallible;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// Drops a client on a thread of its own, and waits for that; `false` when it takes longer than
/// `limit`: the thread is left behind.
pub(super) fn drop_within<T: Send + 'static>(limit: Duration, name: &str, client: T) -> bool {
    drop_on_thread(name, client).recv_timeout(limit) != Err(RecvTimeoutError::Timeout)
}

/// Drops a client on a thread of its own; where there can be none, on this one. What is answered
/// is disconnected when it is done.
pub(super) fn drop_on_thread<T: Send + 'static>(name: &str, client: T) -> Receiver<Infallible> {
    let (closing, closed) = sync_channel(0);
    let thread = std::thread::Builder::new().name(format!("close-{name}"));
    let spawned = thread.spawn(move || {
        drop(client);
        drop(closing);
    });
    if let Err(error) = spawned {
        tracing::warn!(name, %error, "failed to start a thread that closes a client; it is closed on this thread");
    }
    closed
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::SyncSender;

    use super::*;

    const BOUND: Duration = Duration::from_secs(60);

    /// Ends when its other end does.
    struct Hanging(Receiver<Infallible>);

    impl Drop for Hanging {
        fn drop(&mut self) {
            assert_eq!(self.0.recv(), Err(std::sync::mpsc::RecvError));
        }
    }

    fn hanging() -> (SyncSender<Infallible>, Hanging) {
        let (ends, end) = sync_channel(0);
        (ends, Hanging(end))
    }

    #[test]
    fn a_client_that_does_not_end_is_left_behind() {
        let (ends, client) = hanging();
        assert!(!drop_within(Duration::from_millis(1), "client", client));
        drop(ends);
    }

    #[test]
    fn a_client_that_ends_is_waited_for() {
        let (ends, client) = hanging();
        drop(ends);
        assert!(drop_within(BOUND, "client", client));
    }
}
