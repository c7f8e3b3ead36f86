//! What tests of a topology are made with: a driver in virtual time, guarantees that are checked
//! against what happened, and faults that a test makes active. Not in what ships.

pub(crate) mod driver;
pub mod guarantees;

pub use crate::fault::Fault;
pub use crate::offsets::complete_above;
pub use driver::{Call, DriverConfig, PendingCalls, TopologyTestDriver, Written};
