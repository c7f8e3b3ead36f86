//! The `webhook-delivery` program.
fn main() {}
