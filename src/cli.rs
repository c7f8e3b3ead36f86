//! The subcommands, one file each.

pub mod dead_letters;
pub mod listen;
pub mod redrive;
