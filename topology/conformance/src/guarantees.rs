//! The guarantees of the engine, one function for each, on the test driver and on every log.

mod application;
pub mod close;
mod driver;
pub mod metadata;
pub mod ordinary;
pub mod restart;
mod running;
mod stand;

pub use application::{Application, Fate, Work};
pub use driver::{Driver, InMemory};
pub use running::Running;
pub use stand::{Guard, How, Stand, Stands};
