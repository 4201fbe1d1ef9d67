//! From the raw file to the checked configuration. All problems are collected, so that one run shows them all; a value
//! that is wrong is noted and its default used, which nobody sees because the noted problem refuses the file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::error::{Problem, problem, suggest};
use super::raw::{
    RawAdmin, RawCluster, RawConfig, RawCutover, RawLimits, RawListener, RawTee, RawTopics, Reserved, Text,
};
use super::tee::Patterns;
use super::units::{self, PortRange, show_duration, show_size};
use super::{
    Admin, Cluster, Config, ConfigError, Cutover, Groups, Limits, Listener, LossPolicy, Metrics, OnDelete, Secret,
    TeeMode, TeeRules, Topics,
};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Kafka's own `socket.request.max.bytes`: a smaller bound would refuse what brokers take.
const DEFAULT_MAX_FRAME: u64 = 100 << 20;
/// Below this, fetch replies of ordinary consumers (50 MiB at most, one partition 1 MiB) could not pass.
const LEAST_MAX_FRAME: u64 = 1 << 20;
/// The length of a Kafka frame is a signed 32-bit number.
const GREATEST_MAX_FRAME: u64 = 1 << 30;
/// Metric label and state key; keeps both small.
const LONGEST_NAME: usize = 64;

struct Checker<'a> {
    file: &'a Path,
    text: &'a str,
    problems: Vec<Problem>,
}

pub(super) fn check(file: &Path, text: &str, raw: RawConfig) -> Result<Config, ConfigError> {
    let mut checker = Checker { file, text, problems: Vec::new() };
    let config = checker.config(raw);
    if checker.problems.is_empty() {
        return Ok(config);
    }
    checker.problems.sort_by_key(|problem| (problem.line, problem.column));
    Err(ConfigError::Invalid(checker.problems))
}

impl Checker<'_> {
    fn config(&mut self, raw: RawConfig) -> Config {
        let clusters =
            raw.clusters.iter().map(|(name, cluster)| (name.as_str(), self.cluster(name, cluster))).collect();
        let active = self.role("active", &raw.active, &clusters);
        let standby = raw.standby.as_ref().map(|name| (name.span(), self.role("standby", name, &clusters)));
        if let Some((span, standby)) = &standby {
            self.distinct(span.clone(), &active, standby);
        }
        let listener = self.listener(&raw.listener);
        let admin = self.admin(&raw.admin, &listener);
        Config {
            source: self.file.to_owned(),
            active,
            standby: standby.map(|(_, standby)| standby),
            state_file: raw.state_file.as_ref().map(|path| self.path(path.get_ref())),
            assume_active: None,
            listener,
            admin,
            tee: self.tee(&raw.tee),
            groups: Groups {
                sync_interval: self.duration(
                    "groups.sync_interval",
                    &raw.groups.sync_interval,
                    SECOND,
                    100 * MILLI..=HOUR,
                ),
            },
            topics: self.topics(&raw.topics),
            cutover: self.cutover(&raw.cutover),
            metrics: Metrics { per_partition: raw.metrics.per_partition.unwrap_or(true) },
            limits: self.limits(&raw.limits),
        }
    }

    fn cluster(&mut self, name: &str, raw: &Spanned<RawCluster>) -> Cluster {
        let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(sound) {
            let message = format!(
                "the cluster name `{name}` must be 1 to {LONGEST_NAME} letters, digits, `-` or `_`, as it is used in metrics"
            );
            self.fail(raw.span(), message);
        }
        let raw = raw.get_ref();
        self.reserved(&format!("clusters.{name}.tls"), &raw.tls);
        self.reserved(&format!("clusters.{name}.sasl"), &raw.sasl);
        if raw.bootstrap.get_ref().is_empty() {
            self.fail(raw.bootstrap.span(), format!("clusters.{name}.bootstrap: at least one \"host:port\" is needed"));
        }
        let key = format!("clusters.{name}.bootstrap");
        let bootstrap = raw.bootstrap.get_ref().iter().filter_map(|text| self.parsed(&key, text, units::host_port));
        Cluster { name: name.to_owned(), bootstrap: bootstrap.collect() }
    }

    fn role(&mut self, key: &str, name: &Text, clusters: &BTreeMap<&str, Cluster>) -> Cluster {
        if let Some(cluster) = clusters.get(name.get_ref().as_str()) {
            return cluster.clone();
        }
        let name_text = name.get_ref();
        let known: Vec<&str> = clusters.keys().copied().collect();
        let hint = suggest(name_text, &known, "clusters here");
        self.fail(name.span(), format!("{key}: there is no [clusters.{name_text}]{hint}"));
        Cluster { name: name_text.clone(), bootstrap: Vec::new() }
    }

    fn distinct(&mut self, span: Range<usize>, active: &Cluster, standby: &Cluster) {
        if active.name == standby.name {
            self.fail(span, format!("active and standby are the same cluster, `{}`", active.name));
        } else if let Some(shared) = active.bootstrap.iter().find(|address| standby.bootstrap.contains(address)) {
            let (a, s) = (&active.name, &standby.name);
            self.fail(span, format!("`{a}` and `{s}` share the bootstrap address {shared}: they must be two clusters"));
        }
    }

    fn listener(&mut self, raw: &RawListener) -> Listener {
        self.reserved("listener.tls", &raw.tls);
        self.reserved("listener.sasl", &raw.sasl);
        let default_range = PortRange { ip: [127, 0, 0, 1].into(), from: 9100, to: 9199 };
        let bind = self.or_default("listener.bind", &raw.bind, units::socket_addr, ([127, 0, 0, 1], 9092).into());
        let brokers = self.or_default("listener.brokers", &raw.brokers, units::port_range, default_range);
        if brokers.overlaps(bind) {
            self.fail(span_of(&raw.brokers), format!("listener.brokers: the range contains listener.bind, {bind}"));
        }
        let advertise = match &raw.advertise {
            Some(host) => self.parsed("listener.advertise", host, plain_host).unwrap_or_default(),
            None => bind.ip().to_string(),
        };
        if raw.advertise.is_none() && (bind.ip().is_unspecified() || brokers.ip.is_unspecified()) {
            let message = "listener.advertise is needed: clients cannot be told to connect to the address `any`";
            self.fail(span_of(&raw.bind), message.to_owned());
        }
        Listener { bind, brokers, advertise }
    }

    fn admin(&mut self, raw: &RawAdmin, listener: &Listener) -> Admin {
        self.reserved("admin.tls", &raw.tls);
        let bind: SocketAddr =
            self.or_default("admin.bind", &raw.bind, units::socket_addr, ([127, 0, 0, 1], 9080).into());
        if listener.brokers.overlaps(bind) || same_port(listener.bind, bind) {
            self.fail(span_of(&raw.bind), format!("admin.bind: {bind} is taken by the [listener]"));
        }
        let token = self.token(raw);
        if token.is_none() && !bind.ip().is_loopback() {
            let message = format!(
                "admin.bind: {bind} is not a loopback address, so `admin.token_file` or `admin.token_env` is needed"
            );
            self.fail(span_of(&raw.bind), message);
        }
        Admin { bind, token }
    }

    fn token(&mut self, raw: &RawAdmin) -> Option<Secret> {
        if let (Some(_), Some(second)) = (&raw.token_file, &raw.token_env) {
            self.fail(second.span(), "admin: `token_file` and `token_env` exclude each other".to_owned());
        }
        let (key, source, read) = if let Some(file) = &raw.token_file {
            let read = std::fs::read_to_string(self.path(file.get_ref())).map_err(|error| error.to_string());
            ("admin.token_file", file, read)
        } else {
            let variable = raw.token_env.as_ref()?;
            ("admin.token_env", variable, std::env::var(variable.get_ref()).map_err(|error| error.to_string()))
        };
        match read.map(|text| text.trim().to_owned()) {
            Ok(text) if text.is_empty() => self.fail(source.span(), format!("{key}: the token is empty")),
            Ok(text) => return Some(Secret::new(text)),
            Err(error) => self.fail(source.span(), format!("{key}: `{}`: {error}", source.get_ref())),
        }
        // A token that could not be read is reported once, not a second time as missing.
        Some(Secret::new(String::new()))
    }

    fn tee(&mut self, raw: &RawTee) -> TeeRules {
        let mut overrides = Vec::new();
        for rule in &raw.overrides {
            if rule.patterns.get_ref().is_empty() {
                self.fail(rule.patterns.span(), "tee.override.match: at least one pattern is needed".to_owned());
            }
            overrides.push((self.patterns("tee.override.match", rule.patterns.get_ref()), rule.mode));
        }
        let include = match &raw.include {
            Some(include) => self.patterns("tee.include", include),
            None => Patterns::new(vec!["*".to_owned()]).unwrap_or_default(),
        };
        TeeRules::new(
            raw.mode.unwrap_or(TeeMode::Async),
            self.duration("tee.sync_timeout", &raw.sync_timeout, SECOND, 10 * MILLI..=10 * MINUTE),
            raw.on_standby_loss.unwrap_or(LossPolicy::Degrade),
            include,
            self.patterns("tee.exclude", raw.exclude.as_deref().unwrap_or_default()),
            overrides,
        )
    }

    fn patterns(&mut self, key: &str, raw: &[Text]) -> Patterns {
        let mut sound = Vec::new();
        for text in raw {
            match Patterns::new(vec![text.get_ref().clone()]) {
                Ok(_) => sound.push(text.get_ref().clone()),
                Err(error) => self
                    .fail(text.span(), format!("{key}: `{}` is not a glob pattern: {}", text.get_ref(), error.kind())),
            }
        }
        Patterns::new(sound).unwrap_or_default()
    }

    fn topics(&mut self, raw: &RawTopics) -> Topics {
        let factors = 1..=i64::from(i16::MAX);
        let mut factor = |key, value: &Option<Spanned<i64>>| {
            value.as_ref().map(|value| self.number(key, &Some(value.clone()), 1, factors.clone()) as i16)
        };
        Topics {
            replication_factor: factor("topics.replication_factor", &raw.replication_factor),
            state_replication_factor: factor("topics.state_replication_factor", &raw.state_replication_factor),
            on_delete: raw.on_delete.unwrap_or(OnDelete::Keep),
            refresh_interval: self.duration(
                "topics.refresh_interval",
                &raw.refresh_interval,
                5 * SECOND,
                100 * MILLI..=HOUR,
            ),
        }
    }

    fn cutover(&mut self, raw: &RawCutover) -> Cutover {
        let lag = self.number("cutover.max_lag_records", &raw.max_lag_records, 100_000, 0..=i64::MAX);
        Cutover {
            timeout: self.duration("cutover.timeout", &raw.timeout, 30 * SECOND, 100 * MILLI..=HOUR),
            max_lag_records: lag.unsigned_abs(),
        }
    }

    fn limits(&mut self, raw: &RawLimits) -> Limits {
        let frames = LEAST_MAX_FRAME..=GREATEST_MAX_FRAME;
        let max_frame = self.size("limits.max_frame", &raw.max_frame, DEFAULT_MAX_FRAME, frames);
        let connections = self.number("limits.max_connections", &raw.max_connections, 10_000, 1..=1_000_000);
        let in_flight = self.number("limits.in_flight_per_connection", &raw.in_flight_per_connection, 256, 1..=100_000);
        Limits {
            max_frame: u32::try_from(max_frame).unwrap_or(u32::MAX),
            max_connections: u32::try_from(connections).unwrap_or(u32::MAX),
            tee_buffer: self.size("limits.tee_buffer", &raw.tee_buffer, 64 << 20, 1 << 20..=64 << 30),
            reply_buffer: self.size("limits.reply_buffer", &raw.reply_buffer, 32 << 20, 1 << 20..=64 << 30),
            in_flight_per_connection: u32::try_from(in_flight).unwrap_or(u32::MAX),
            // Clients were tried up to 35 s; most give up on a request after 30 s.
            hold_deadline: self.duration("limits.hold_deadline", &raw.hold_deadline, 30 * SECOND, 100 * MILLI..=HOUR),
        }
    }

    fn path(&self, text: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(text)
    }

    fn reserved(&mut self, key: &str, value: &Reserved) {
        if let Some(value) = value {
            self.fail(value.span(), format!("{key} is reserved but not supported yet: remove it"));
        }
    }

    fn fail(&mut self, span: Range<usize>, message: String) {
        self.problems.push(problem(self.file, self.text, Some(span), message));
    }

    fn parsed<T>(&mut self, key: &str, raw: &Text, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        parse(raw.get_ref()).map_err(|message| self.fail(raw.span(), format!("{key}: {message}"))).ok()
    }

    fn or_default<T>(
        &mut self,
        key: &str,
        raw: &Option<Text>,
        parse: impl Fn(&str) -> Result<T, String>,
        default: T,
    ) -> T {
        raw.as_ref().and_then(|text| self.parsed(key, text, parse)).unwrap_or(default)
    }

    fn duration(
        &mut self,
        key: &str,
        raw: &Option<Text>,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let parse = |text: &str| within(units::duration(text)?, &range, text, show_duration);
        self.or_default(key, raw, parse, default)
    }

    fn size(&mut self, key: &str, raw: &Option<Text>, default: u64, range: RangeInclusive<u64>) -> u64 {
        let parse = |text: &str| within(units::size(text)?, &range, text, show_size);
        self.or_default(key, raw, parse, default)
    }

    fn number(&mut self, key: &str, raw: &Option<Spanned<i64>>, default: i64, range: RangeInclusive<i64>) -> i64 {
        let Some(raw) = raw else { return default };
        let found = within(*raw.get_ref(), &range, &raw.get_ref().to_string(), |bound| bound.to_string());
        found.unwrap_or_else(|message| {
            self.fail(raw.span(), format!("{key}: {message}"));
            default
        })
    }
}

fn within<T: PartialOrd + Copy>(
    value: T,
    range: &RangeInclusive<T>,
    text: &str,
    show: impl Fn(T) -> String,
) -> Result<T, String> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(format!("`{text}` is not between {} and {}", show(*range.start()), show(*range.end())))
}

fn plain_host(text: &str) -> Result<String, String> {
    let is_v6 = text.parse::<std::net::Ipv6Addr>().is_ok();
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if is_v6 || (!text.is_empty() && text.chars().all(sound)) {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` is not a host name or IP address (without a port)"))
}

fn same_port(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

/// Where a key is written; the start of the file for one that is left out.
fn span_of(raw: &Option<Text>) -> Range<usize> {
    raw.as_ref().map_or(0..0, Spanned::span)
}
