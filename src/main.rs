//! The `kafka-standby` program; all it does is in the library's `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    kafka_standby::cli::main()
}
