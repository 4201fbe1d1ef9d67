//! Logs: to stderr, as text or JSON lines, filtered by `KAFKA_STANDBY_LOG`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::{Exit, Failure, LogFormat};

/// Such as `info` or `info,kafka_standby::stream=debug`.
const FILTER_VARIABLE: &str = "KAFKA_STANDBY_LOG";
const DEFAULT_FILTER: &str = "info";

/// Sets up the logs of this process.
pub(super) fn init(format: LogFormat) -> Result<(), Failure> {
    let filter = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| DEFAULT_FILTER.to_owned());
    let wrong = |error| Failure::new(Exit::Usage, format!("{FILTER_VARIABLE}: `{filter}`: {error}"));
    let filter = EnvFilter::try_new(&filter).map_err(wrong)?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match format {
        LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| Failure::new(Exit::Failed, error))
}
