//! The way of one record on one worker: the operators, the calls that they make, what is written, and
//! what becomes of what fails. Runs on one thread; knows of no partition's queue and no group.

pub(crate) mod call_options;
pub(crate) mod context;
pub(crate) mod dead_letter;
mod failing_writes;
pub(crate) mod handlers;
pub(crate) mod node;
pub(crate) mod operators;
pub(crate) mod permits;
pub(crate) mod replay;
pub(crate) mod write;
