//! Frames, headers and message layouts of the Kafka protocol, and what of it the proxy serves. Pure: no I/O, no clock.
//!
//! The order of use for bytes from a socket: [`frame`] cuts, [`header`] reads key, version and correlation id,
//! [`versions`] says whether that is served and how ([`apis`]), [`guard`] checks a body before the codec may see it.

pub mod apis;
pub mod body;
pub mod frame;
pub mod guard;
pub mod header;
pub mod reader;
pub mod schema;
pub mod versions;
