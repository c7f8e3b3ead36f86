//! Random numbers for policy such as jitter, as a value that tests replace. Keys and ids do not use
//! it.

use std::fmt;
use std::sync::Arc;

#[derive(Clone)]
pub struct Random(Arc<dyn Fn() -> f64 + Send + Sync>);

impl Random {
    pub fn system() -> Self {
        Self::from_fn(rand::random::<f64>)
    }

    pub fn from_fn(fraction: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(fraction))
    }

    /// Returns a number from 0 to 1.
    pub fn fraction(&self) -> f64 {
        (self.0)()
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}
