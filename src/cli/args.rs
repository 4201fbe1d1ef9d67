//! The commands and their options, as clap reads them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::config::units;
use crate::model::Generation;

/// Keeps a standby Kafka cluster ready and moves every client to it in one step.
#[derive(Parser, Debug)]
#[command(name = "kafka-standby", version, after_help = EXITS)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

const EXITS: &str = "Exit codes: 0 done, 1 it does not hold or failed, 2 wrong usage or configuration, 3 the API is not \
reachable.\nResults go to stdout, progress and logs to stderr.";

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the proxy in the foreground; SIGTERM drains and ends it, SIGHUP reloads the configuration
    #[command(after_help = "Example: kafka-standby serve --config standby.toml --log-format json")]
    Serve(ServeArgs),
    /// Check a configuration file
    #[command(after_help = "Example: kafka-standby check --config standby.toml --online")]
    Check {
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Also ask both clusters whether a cutover between them could work
        #[arg(long)]
        online: bool,
    },
    /// Show roles, generation, and the lag of each partition
    #[command(after_help = "Example: kafka-standby status --watch")]
    Status {
        #[command(flatten)]
        api: Api,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
        /// Show it again every second
        #[arg(long, conflicts_with = "json")]
        watch: bool,
    },
    /// Planned cutover to the standby: nothing lost, or nothing changed
    #[command(after_help = "Example: kafka-standby switchover --dry-run && kafka-standby switchover --timeout 30s")]
    Switchover {
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        cutover: Cutover,
    },
    /// Cutover with the active cluster lost; says what may be lost before it asks
    #[command(after_help = "Example: kafka-standby failover --dry-run\n         kafka-standby failover --yes")]
    Failover {
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        cutover: Cutover,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Compare active and standby batch by batch; exits 1 on a difference
    #[command(after_help = "Example: kafka-standby verify --topic payments")]
    Verify {
        #[command(flatten)]
        api: Api,
        /// Only this topic; else every teed one
        #[arg(long)]
        topic: Option<String>,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Translate an offset between what clients see and what the clusters store
    #[command(after_help = "Example: kafka-standby translate --topic payments --partition 0 --offset 42\n         \
        kafka-standby translate --topic payments --partition 0 --offset 40 --cluster west")]
    Translate {
        #[command(flatten)]
        api: Api,
        #[arg(long)]
        topic: String,
        #[arg(long)]
        partition: i32,
        /// Logical offset; with --cluster, that cluster's
        #[arg(long)]
        offset: i64,
        #[arg(long, value_name = "NAME")]
        cluster: Option<String>,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Show what cutovers did
    #[command(after_help = "Example: kafka-standby report 3 --json")]
    Report {
        #[command(flatten)]
        api: Api,
        /// The cutover that began this generation; else all of them
        generation: Option<Generation>,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// The records that a failover left behind on the cluster that was lost: show, export, write again, or discard them
    #[command(after_help = "Example: kafka-standby divergence list\n         \
        kafka-standby divergence export --dir lost\n         \
        kafka-standby divergence reinject --topic payments --yes")]
    Divergence {
        #[command(subcommand)]
        command: DivergenceCommand,
    },
    /// Have a running proxy read its configuration file again; an invalid one changes nothing
    #[command(after_help = "Example: kafka-standby reload")]
    Reload {
        #[command(flatten)]
        api: Api,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Print a shell completion script
    #[command(after_help = "Example: kafka-standby completions bash > /etc/bash_completion.d/kafka-standby")]
    Completions { shell: clap_complete::Shell },
    #[command(hide = true)]
    Backup(NotBuilt),
    #[command(hide = true)]
    Restore(NotBuilt),
}

#[derive(Subcommand, Debug)]
pub enum DivergenceCommand {
    /// Show the ranges that clients cannot see any more, with what they hold
    List {
        #[command(flatten)]
        api: Api,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Write each range to a directory: batches as stored, records as JSON lines, a manifest with checksums
    Export {
        #[command(flatten)]
        api: Api,
        /// Where the ranges' directories are made
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        #[command(flatten)]
        selection: Selection,
    },
    /// Have the records written to the active cluster as new ones, each once however often this is asked
    Reinject(Settle),
    /// Mark the ranges as dealt with; their records stay where they are until retention takes them
    Discard(Settle),
}

#[derive(clap::Args, Debug)]
pub struct Settle {
    #[command(flatten)]
    pub api: Api,
    #[command(flatten)]
    pub selection: Selection,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Which ranges; all, if nothing is said.
#[derive(clap::Args, Debug, Default, Clone)]
pub struct Selection {
    #[arg(long)]
    pub topic: Option<String>,
    #[arg(long, requires = "topic")]
    pub partition: Option<i32>,
    /// Those that the cutover to this generation left behind
    #[arg(long)]
    pub generation: Option<Generation>,
}

/// Takes anything: the command is refused whatever its options will be.
#[derive(clap::Args, Debug)]
pub struct NotBuilt {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub rest: Vec<String>,
}

#[derive(clap::Args, Debug)]
pub struct ServeArgs {
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// Take this cluster for the active one although the other cannot be reached to confirm it
    #[arg(long, value_name = "NAME")]
    pub assume_active: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// How to find the API of a running proxy.
#[derive(clap::Args, Debug, Default)]
pub struct Api {
    /// The API's address; else that of the configuration file's [admin]
    #[arg(long, value_name = "URL", env = "KAFKA_STANDBY_ADMIN")]
    pub admin: Option<String>,
    /// Configuration file that tells the API's address and token
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// File with the API's token; else KAFKA_STANDBY_TOKEN, else the configuration file's
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

#[derive(clap::Args, Debug)]
pub struct Cutover {
    /// Say what would happen; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Roll back if not committed by then, such as 30s
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    pub timeout: Option<Duration>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Args::try_parse_from(line.split(' ')).map(|args| args.command)
    }

    #[test]
    fn the_definitions_hold() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_shown_command_has_an_example() {
        for command in Args::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                help.starts_with(&format!("Example: kafka-standby {}", command.get_name())),
                "{}",
                command.get_name()
            );
        }
    }

    #[test]
    fn options() {
        let line = "kafka-standby switchover --dry-run --timeout 250ms --admin http://h:1";
        let Command::Switchover { api, cutover } = parse(line).unwrap() else { panic!("{line}") };
        assert!(cutover.dry_run && !cutover.json);
        assert_eq!(cutover.timeout, Some(Duration::from_millis(250)));
        assert_eq!(api.admin.as_deref(), Some("http://h:1"));

        let line = "kafka-standby translate --topic t --partition 1 --offset 2 --cluster west";
        let Command::Translate { topic, partition, offset, cluster, .. } = parse(line).unwrap() else {
            panic!("{line}")
        };
        assert_eq!((topic.as_str(), partition, offset, cluster.as_deref()), ("t", 1, 2, Some("west")));

        let line = "kafka-standby serve --config f --assume-active west";
        let Command::Serve(serve) = parse(line).unwrap() else { panic!("{line}") };
        assert_eq!((serve.log_format, serve.assume_active.as_deref()), (LogFormat::Text, Some("west")));

        assert!(matches!(parse("kafka-standby report 3"), Ok(Command::Report { generation: Some(3), .. })));
        assert!(matches!(parse("kafka-standby backup create --to x"), Ok(Command::Backup(_))));
        assert!(matches!(parse("kafka-standby completions zsh"), Ok(Command::Completions { .. })));
    }

    #[test]
    fn wrong_usage_exits_2() {
        for line in [
            "kafka-standby",
            "kafka-standby serve",
            "kafka-standby frobnicate",
            "kafka-standby serve --config f --log-format xml",
            "kafka-standby switchover --timeout 30",
            "kafka-standby switchover --yes",
            "kafka-standby status --watch --json",
            "kafka-standby translate --topic t --partition 0",
            "kafka-standby report newest",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
        assert_eq!(parse("kafka-standby --version").unwrap_err().exit_code(), 0);
    }
}
