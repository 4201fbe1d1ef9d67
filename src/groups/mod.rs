//! Consumer groups over a cutover: members are re-homed, committed offsets are kept on the standby.
//!
//! `members` has the rules for classic members of an earlier generation, `rehome` applies them to requests and replies;
//! `consumers` and `heartbeats` are the same for KIP-848 members. `sync` copies committed offsets and where share groups
//! begin, which `starts` has noted where the cluster does not know it; `translate` turns them into the standby's.

mod bodies;
pub mod consumers;
mod heartbeats;
pub mod members;
mod rehome;
mod standby;
mod starts;
mod sync;
mod translate;

pub use bodies::{NO_GENERATION, join_reply};
pub use heartbeats::Heartbeats;
pub use rehome::{Rehome, Ruling, group_of_commit};
pub use starts::Met;
pub use sync::{GroupSync, Summary, Teed};
