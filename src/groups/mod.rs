//! Consumer groups over a cutover: members are re-homed, committed offsets are kept on the standby.

pub mod members;
