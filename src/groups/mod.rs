//! Consumer groups over a cutover: members are re-homed, committed offsets are kept on the standby.

mod bodies;
pub mod members;
mod rehome;

pub use rehome::{JoinRule, Rehome, group_of_commit};
