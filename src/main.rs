//! The `kafka-standby` program; all it does is in the library's `cli`.

use std::process::ExitCode;

/// Frames of up to a megabyte come and go all the time. The system's allocator gives such memory back to the kernel at once
/// and gets it anew page by page, which costs more than all that is done with the bytes; this one keeps it for a while.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    kafka_standby::cli::main()
}
