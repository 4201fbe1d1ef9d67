//! Recognisable translations, and round trips of typed messages through the byte-level dispatch.
