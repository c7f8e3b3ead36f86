//! Asynchronous calls that a test ends by hand, or by a seed.

use parking_lot::{Mutex, MutexGuard};
use std::future::Future;
use std::sync::Arc;

use fastrand::Rng;
use tokio::sync::oneshot;

use crate::exec::context::WorkerContext;

/// Calls that stay pending until the test ends them. Clones share them.
///
/// ```
/// # use topology::testing::PendingCalls;
/// # use topology::{Async, Consumed, Named, StreamsBuilder};
/// let calls = PendingCalls::<String, u64>::seeded(1);
/// let builder = StreamsBuilder::new();
/// builder
///     .stream("in", Consumed::with(|record| format!("{:?}", record.key), Named::new("in")))
///     .process_values_async(calls.supplier(), Async::named(Named::new("call")))
///     .for_each(|length| println!("{length}"), Named::new("show"));
/// ```
#[derive(Debug)]
pub struct PendingCalls<V, W>(Arc<Mutex<CallState<V, W>>>);

#[derive(Debug)]
struct CallState<V, W> {
    pending: Vec<(V, oneshot::Sender<W>)>,
    random: Rng,
}

impl<V, W> Clone for PendingCalls<V, W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V: Clone + Send + 'static, W: Send + 'static> PendingCalls<V, W> {
    /// No calls yet; `seed` decides the order in which [`end_any`](Self::end_any) takes them.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(CallState {
            pending: Vec::new(),
            random: Rng::with_seed(seed),
        })))
    }

    /// For [`process_values_async`](crate::KStream::process_values_async).
    pub fn supplier(
        &self,
    ) -> impl Fn(&WorkerContext) -> Box<dyn Fn(V) -> Call<W>> + Send + Sync + use<V, W> {
        let calls = self.clone();
        move |_| {
            let calls = calls.clone();
            Box::new(move |value| calls.begin(value))
        }
    }

    /// Begins a call, which is pending until the test ends it.
    pub fn begin(&self, value: V) -> Call<W> {
        let (end, ended) = oneshot::channel();
        self.lock().pending.push((value, end));
        Box::pin(async move {
            match ended.await {
                Ok(result) => result,
                Err(_) => std::panic::resume_unwind(Box::new("the test failed this call")),
            }
        })
    }

    /// What is pending, in the order in which the calls began.
    pub fn pending(&self) -> Vec<V> {
        let state = self.lock();
        state
            .pending
            .iter()
            .map(|(value, _)| value.clone())
            .collect()
    }

    /// Ends the pending call at `index` with what `result` makes of its value; with `None` the
    /// call panics. `false` when there is no such call.
    pub fn end(&self, index: usize, result: impl FnOnce(&V) -> Option<W>) -> bool {
        let mut state = self.lock();
        if index >= state.pending.len() {
            return false;
        }
        let (value, end) = state.pending.remove(index);
        drop(state);
        if let Some(result) = result(&value) {
            drop(end.send(result));
        }
        true
    }

    /// As [`end`](Self::end), with one that the seed picks.
    pub fn end_any(&self, result: impl FnOnce(&V) -> Option<W>) -> bool {
        let mut state = self.lock();
        let count = state.pending.len();
        let index = if count == 0 {
            0
        } else {
            state.random.usize(..count)
        };
        drop(state);
        self.end(index, result)
    }

    /// Calls whose worker is gone are pending no more.
    fn lock(&self) -> MutexGuard<'_, CallState<V, W>> {
        let mut state = self.0.lock();
        state.pending.retain(|(_, end)| !end.is_closed());
        state
    }
}

/// A pending call.
pub type Call<W> = std::pin::Pin<Box<dyn Future<Output = W>>>;
