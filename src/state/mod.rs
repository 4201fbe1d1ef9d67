//! What outlives the proxy: generation, cuts, offset maps, topic identities, kept as records of a compacted internal topic
//! on each cluster, so that any instance can rebuild its state from the clusters alone.
//!
//! `records` is the format (pure), `image` what a set of records means (pure), `reader` and `writer` do that to one
//! cluster's topic, `store` to both, `level` sees to it that both say the same.

pub mod image;
mod level;
mod reader;
pub mod records;
pub mod store;
mod writer;

pub use image::Image;
pub use records::{
    CutRecord, DivergenceRecord, GenerationRecord, Handling, InSyncRecord, Key, MapRecord, Owner, StampedRecord,
    Stored, TopicRecord,
};
pub use store::{Entry, StateError, Store};
pub use writer::Superseded;
