//! Which part of a record a completion is for.

use std::fmt;
use std::rc::Rc;

/// Identifies a child of a fan-out among its siblings. A child that failed is replayed by its id, so the
/// id must be the same whenever the child is made of the same record, and never another child's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildId(u128);

impl ChildId {
    /// Wraps a number that the application chose.
    pub const fn new(number: u128) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn get(self) -> u128 {
        self.0
    }
}

impl fmt::Display for ChildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The ids of the children that lead from a record to one part of it; none for the record itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChildPath(Ids);

/// One fan-out is the usual depth, and takes no memory of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Ids {
    #[default]
    None,
    One([ChildId; 1]),
    Many(Rc<[ChildId]>),
}

impl ChildPath {
    /// Returns the ids, beginning with the first fan-out's.
    pub fn ids(&self) -> &[ChildId] {
        match &self.0 {
            Ids::None => &[],
            Ids::One(id) => id,
            Ids::Many(ids) => ids,
        }
    }

    /// Whether this is the record itself, and no child.
    pub fn is_root(&self) -> bool {
        self.ids().is_empty()
    }

    pub(super) fn child(&self, id: ChildId) -> Self {
        Self(match &self.0 {
            Ids::None => Ids::One([id]),
            _ => Ids::Many(self.ids().iter().copied().chain([id]).collect()),
        })
    }
}

impl fmt::Display for ChildPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for id in self.ids() {
            write!(f, "/{id}")?;
        }
        Ok(())
    }
}
