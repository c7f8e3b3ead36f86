//! Which part of a record a completion is for.

use std::fmt;
use std::rc::Rc;

/// The numbers of the children that lead from a record to one part of it; none for the record
/// itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChildPath(Numbers);

/// One fan-out is the usual depth, and takes no memory of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Numbers {
    #[default]
    None,
    One([u128; 1]),
    Many(Rc<[u128]>),
}

impl ChildPath {
    /// The numbers, the first fan-out's first.
    pub fn numbers(&self) -> &[u128] {
        match &self.0 {
            Numbers::None => &[],
            Numbers::One(number) => number,
            Numbers::Many(numbers) => numbers,
        }
    }

    pub(crate) fn is_root(&self) -> bool {
        self.numbers().is_empty()
    }

    pub(super) fn child(&self, number: u128) -> Self {
        Self(match &self.0 {
            Numbers::None => Numbers::One([number]),
            _ => Numbers::Many(self.numbers().iter().copied().chain([number]).collect()),
        })
    }
}

impl fmt::Display for ChildPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for number in self.numbers() {
            write!(f, "/{number}")?;
        }
        Ok(())
    }
}
