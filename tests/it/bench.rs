//! The unit tests of the data plane's bench: its figures, ratios, readers and plots. Nothing is measured here.

// The bench uses all of it; its tests do not.
#![allow(dead_code)]

#[path = "../../bench/dataplane/book.rs"]
mod book;
#[path = "../../bench/dataplane/fetched.rs"]
mod fetched;
#[path = "../../bench/dataplane/svg.rs"]
mod svg;
#[path = "../../bench/dataplane/targets.rs"]
mod targets;
#[path = "../../bench/dataplane/usage.rs"]
mod usage;
