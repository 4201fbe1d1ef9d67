//! The wire as clients see it, by raw requests: every API against the broker's own answer, bad frames, order, ids.

mod apis;
mod cases;
mod expect;
pub mod frames;
mod ids;
mod produce;
pub mod raw;
