//! The part of a record that is being replayed, as its completions know it. `exec::replay` describes
//! the whole of it.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use super::{ChildId, ChildPath};

/// The state that an operator kept for a part when the part failed, and takes again in its replay.
pub(crate) struct KeptState {
    /// The number of the operator.
    pub(crate) operator: usize,
    pub(crate) value: Box<dyn Any>,
}

/// What a completion knows of the replay of a part.
pub(super) struct Replay {
    /// How often the part ran before.
    runs: u8,
    /// The children that lead to the part, the next one last.
    path: Vec<ChildId>,
    kept: Rc<Cell<Vec<KeptState>>>,
}

impl Replay {
    /// `path` leads to the part. What an `earlier` replay of it did not take of its state is kept.
    pub(super) fn new(
        runs: u8,
        path: &ChildPath,
        earlier: Option<&Self>,
        kept: Option<KeptState>,
    ) -> Self {
        let earlier = earlier.map(|replay| replay.kept.take());
        let kept = earlier.into_iter().flatten().chain(kept).collect();
        Self {
            runs,
            path: path.ids().iter().rev().copied().collect(),
            kept: Rc::new(Cell::new(kept)),
        }
    }

    pub(super) fn runs(&self) -> u8 {
        self.runs
    }

    /// Whether the part is still to be reached.
    pub(super) fn is_ancestor(&self) -> bool {
        !self.path.is_empty()
    }

    /// Returns the replay for the child of this id, or `None` if the part is not in that child.
    pub(super) fn child(&self, id: ChildId) -> Option<Box<Self>> {
        let (next, rest) = self.path.split_last()?;
        (*next == id).then(|| {
            Box::new(Self {
                runs: self.runs,
                path: rest.to_vec(),
                kept: Rc::clone(&self.kept),
            })
        })
    }

    pub(super) fn take_state(&self, operator: usize) -> Option<Box<dyn Any>> {
        let mut kept = self.kept.take();
        let index = kept.iter().position(|state| state.operator == operator);
        let state = index.map(|index| kept.swap_remove(index).value);
        self.kept.set(kept);
        state
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay")
            .field("runs", &self.runs)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for KeptState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptState")
            .field("operator", &self.operator)
            .finish_non_exhaustive()
    }
}
