//! What outlives the proxy: generation, cuts, offset maps, topic identities, kept as records of a compacted internal topic
//! on each cluster, so that any instance can rebuild its state from the clusters alone.
//!
//! `records` is the format (pure), `image` what a set of records means (pure), `store` reads and writes the topic.

pub mod image;
pub mod records;
pub mod store;

pub use image::Image;
pub use records::{CutRecord, GenerationRecord, InSyncRecord, Key, MapRecord, Stored, TopicRecord};
pub use store::{Entry, StateError, Store};
