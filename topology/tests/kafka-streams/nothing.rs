//! A table, where only its place in a topology matters.

use topology::Lookup;

/// A table of nothing.
pub(crate) struct Nothing;

impl Lookup for Nothing {
    type Key = ();
    type Value = ();
    type Error = ();

    async fn get(&self, (): ()) -> Result<Option<()>, ()> {
        Ok(None)
    }
}
