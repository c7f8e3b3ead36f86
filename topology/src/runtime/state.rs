//! The states of a running topology, named as Kafka Streams'.
//!
//! ```text
//! Created → Rebalancing ⇄ Running
//!    any of these → PendingShutdown → NotRunning
//!    any of these → PendingError → Error
//! ```

use parking_lot::{Mutex, MutexGuard};
use std::fmt;
use std::sync::Arc;

use crate::metrics::ClientMetrics;

/// Where a running topology stands. Numbered as in Kafka Streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No group was joined.
    Created,
    /// At least one source waits for its assignment.
    Rebalancing,
    /// Every source has its assignment, which may be empty.
    Running,
    /// It is being closed.
    PendingShutdown,
    /// It was closed.
    NotRunning,
    /// It cannot go on, and is to be closed.
    PendingError,
    /// It could not go on, and was closed.
    Error,
}

impl State {
    fn can_become(self, next: Self) -> bool {
        use State::{
            Created, Error, NotRunning, PendingError, PendingShutdown, Rebalancing, Running,
        };
        match self {
            Created => matches!(next, Rebalancing | PendingShutdown | PendingError),
            Rebalancing => matches!(next, Running | PendingShutdown | PendingError),
            Running => matches!(next, Rebalancing | PendingShutdown | PendingError),
            PendingShutdown => next == NotRunning,
            PendingError => next == Error,
            NotRunning | Error => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Told of each change of state, with the new state and the old one, on the thread that made it,
/// one change at a time. Must not block, nor ask for the state.
#[derive(Clone)]
pub struct StateListener(Arc<dyn Fn(State, State) + Send + Sync>);

impl StateListener {
    /// Calls `listen` with the new state and the old one.
    pub fn new(listen: impl Fn(State, State) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listen))
    }
}

impl fmt::Debug for StateListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateListener").finish_non_exhaustive()
    }
}

/// The state, and which sources have their assignment.
#[derive(Debug)]
pub(crate) struct States {
    current: Mutex<Current>,
    listener: Option<StateListener>,
    metrics: Arc<ClientMetrics>,
}

#[derive(Debug)]
struct Current {
    state: State,
    has_assignment: Vec<bool>,
}

impl States {
    pub(crate) fn new(
        sources: usize,
        listener: Option<StateListener>,
        metrics: Arc<ClientMetrics>,
    ) -> Self {
        let current = Current {
            state: State::Created,
            has_assignment: vec![false; sources],
        };
        Self {
            current: Mutex::new(current),
            listener,
            metrics,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.lock().state
    }

    /// Changes the state if Kafka Streams allows that change: a topology that is being closed does not
    /// become [`State::Running`] again.
    pub(crate) fn transition_to(&self, next: State) {
        self.change(&mut self.lock(), next);
    }

    /// Ends the topology: in [`State::Error`] if it had failed.
    pub(crate) fn end(&self) {
        let mut current = self.lock();
        let end = match current.state {
            State::PendingError => State::Error,
            _ => State::NotRunning,
        };
        self.change(&mut current, end);
    }

    /// Marks a source as having its assignment.
    pub(crate) fn set_assigned(&self, source: usize) {
        self.set_assignment(source, true);
    }

    /// Marks a source as being without an assignment.
    pub(crate) fn set_unassigned(&self, source: usize) {
        self.set_assignment(source, false);
    }

    fn set_assignment(&self, source: usize, is_assigned: bool) {
        let mut current = self.lock();
        if let Some(entry) = current.has_assignment.get_mut(source) {
            *entry = is_assigned;
        }
        let all = current
            .has_assignment
            .iter()
            .all(|is_assigned| *is_assigned);
        let next = if all {
            State::Running
        } else {
            State::Rebalancing
        };
        self.change(&mut current, next);
    }

    fn change(&self, current: &mut Current, next: State) {
        let before = current.state;
        if !before.can_become(next) {
            return;
        }
        current.state = next;
        self.metrics.set_state(next as u8);
        tracing::info!(state = %next, %before, "the topology's state changed");
        if let Some(StateListener(listen)) = &self.listener {
            listen(next, before);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::State::{Rebalancing, Running};
    use super::*;

    fn states(sources: usize) -> (States, Arc<Mutex<Vec<State>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&seen);
        let listener = StateListener::new(move |new, _| told.lock().push(new));
        (States::new(sources, Some(listener), Arc::default()), seen)
    }

    #[test]
    fn it_runs_while_every_source_has_its_assignment() {
        let (states, seen) = states(2);
        states.transition_to(Rebalancing);
        states.set_assigned(0);
        states.set_assigned(1);
        states.set_unassigned(0);
        states.set_assigned(0);
        assert_eq!(*seen.lock(), [Rebalancing, Running, Rebalancing, Running]);
    }

    #[test]
    fn what_is_being_closed_never_runs_again() {
        let (states, seen) = states(1);
        states.transition_to(State::PendingError);
        states.set_assigned(0);
        states.transition_to(State::PendingShutdown);
        assert_eq!(states.state(), State::PendingError);
        states.end();
        assert_eq!(*seen.lock(), [State::PendingError, State::Error]);
    }
}
