//! A table, where only its place in a topology matters.

use topology::Lookup;

/// A table of nothing.
#[derive(Debug)]
pub struct Nothing;

impl Lookup for Nothing {
    type Key = ();
    type Value = ();
    type Error = ();

    async fn get(&self, (): ()) -> Result<Option<()>, ()> {
        Ok(None)
    }
}
