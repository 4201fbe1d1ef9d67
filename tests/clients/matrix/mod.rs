//! The client matrix: programs of many client libraries, one at a time or several together, through cutovers, and what
//! that cost each. `make clients` runs all of them, the integration tests a short form.

#![allow(dead_code)]

pub mod errors;
pub mod events;
mod exact;
pub mod judge;
pub mod known;
pub mod program;
mod pulse;
pub mod results;
pub mod scenario;
pub mod table;
