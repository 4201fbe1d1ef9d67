use super::*;

const TWO: &str = r#"active = "east"
standby = "west"
[clusters.east]
bootstrap = ["127.0.0.1:19092"]
[clusters.west]
bootstrap = ["127.0.0.1:29092"]
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("k.toml"), text)
}

/// The error text of the two-cluster file with `more` behind it, its lines counted from the first of `more`.
fn error_of(more: &str) -> String {
    parse(&format!("{TWO}{more}")).unwrap_err().to_string()
}

#[test]
fn defaults() {
    let config = parse(TWO).unwrap();
    assert_eq!(config.cluster(ClusterIx::FIRST).unwrap().name, "east");
    assert_eq!(config.cluster_named("west"), Some(ClusterIx::SECOND));
    assert_eq!(config.cluster_named("north"), None);
    assert_eq!(config.listener.brokers.count(), 100);
    assert_eq!(config.listener.advertise, "127.0.0.1");
    assert_eq!(config.limits.max_frame, 104_857_600);
    assert_eq!(config.limits.tee_buffer, 64 << 20);
    assert_eq!(config.limits.reply_buffer, 32 << 20);
    assert_eq!(config.limits.hold_deadline, Duration::from_secs(30));
    assert_eq!(config.groups.sync_interval, Duration::from_secs(1));
    assert_eq!(config.topics.on_delete, OnDelete::Keep);
    assert_eq!(config.tee.mode("t"), TeeMode::Async);
    assert_eq!(config.tee.on_standby_loss, LossPolicy::Degrade);
    assert!(config.state_file.is_none() && config.admin.token.is_none() && config.assume_active.is_none());
}

#[test]
fn plain_proxy_without_standby() {
    let config = parse(&TWO.replace("standby = \"west\"\n", "")).unwrap();
    assert!(config.standby.is_none());
    assert_eq!(config.cluster_named("west"), None);
}

#[test]
fn relative_paths_start_at_the_files_folder() {
    let config = Config::parse(Path::new("/etc/ks/k.toml"), &format!("state_file = \"s\"\n{TWO}")).unwrap();
    assert_eq!(config.state_file, Some(PathBuf::from("/etc/ks/s")));
}

#[test]
fn shape_errors() {
    for (text, error) in [
        ("active = ", "k.toml:1:10: "),
        ("active = \"e\"\n", "k.toml:1:1: the key `clusters` is missing"),
        ("clusters = {}\n", "k.toml:1:1: the key `active` is missing"),
        ("actve = \"e\"\n", "k.toml:1:1: unknown key `actve`; did you mean `active`?"),
    ] {
        let found = parse(text).unwrap_err().to_string();
        assert!(found.starts_with(error), "{text}: {found}");
    }
}

#[test]
fn errors_name_the_place_and_the_remedy() {
    for (more, error) in [
        ("[lisener]\n", "k.toml:7:2: unknown key `lisener`; did you mean `listener`?"),
        ("[tee]\n  mod = \"sync\"\n", "k.toml:8:3: unknown key `mod`; did you mean `mode`?"),
        ("[groups]\nzzz = 1\n", "k.toml:8:1: unknown key `zzz`; keys here: sync_interval"),
        ("[tee]\nmode = \"synk\"\n", "k.toml:8:8: unknown value `synk`; did you mean `sync`?"),
        ("[tee]\non_standby_loss = 1\n", "k.toml:8:19: wanted string or table"),
        (
            "[tee]\nsync_timeout = \"1\"\n",
            "k.toml:8:16: tee.sync_timeout: `1` is not a duration such as \"250ms\", \"30s\", \"5m\" or \"1h\"",
        ),
        ("[tee]\nsync_timeout = \"1ms\"\n", "k.toml:8:16: tee.sync_timeout: `1ms` is not between 10ms and 10m"),
        ("[tee]\ninclude = [\"a\", \"[\"]\n", "k.toml:8:17: tee.include: `[` is not a glob pattern: "),
        (
            "[[tee.override]]\nmatch = []\nmode = \"off\"\n",
            "k.toml:8:9: tee.override.match: at least one pattern is needed",
        ),
        ("[[tee.override]]\nmatch = [\"a\"]\n", "k.toml:7:1: the key `mode` is missing"),
        ("[limits]\nmax_frame = \"1KiB\"\n", "k.toml:8:13: limits.max_frame: `1KiB` is not between 1MiB and 1GiB"),
        ("[limits]\nmax_connections = 0\n", "k.toml:8:19: limits.max_connections: `0` is not between 1 and 1000000"),
        (
            "[topics]\nreplication_factor = 0\n",
            "k.toml:8:22: topics.replication_factor: `0` is not between 1 and 32767",
        ),
        ("[topics]\non_delete = \"drop\"\n", "k.toml:8:13: unknown value `drop`; it can be: keep, follow"),
        ("[listener]\nbind = \"9092\"\n", "k.toml:8:8: listener.bind: `9092` is not an IP address and a port"),
        (
            "[listener]\nbrokers = \"127.0.0.1:9090-9100\"\n",
            "k.toml:8:11: listener.brokers: the range contains listener.bind, 127.0.0.1:9092",
        ),
        (
            "[listener]\nadvertise = \"h:1\"\n",
            "k.toml:8:13: listener.advertise: `h:1` is not a host name or IP address",
        ),
        ("[listener]\nbind = \"0.0.0.0:9092\"\n", "k.toml:8:8: listener.advertise is needed: "),
        ("[listener]\ntls = { cert = \"x\" }\n", "k.toml:8:7: listener.tls is reserved but not supported yet"),
        ("[admin]\nbind = \"127.0.0.1:9150\"\n", "k.toml:8:8: admin.bind: 127.0.0.1:9150 is taken by the [listener]"),
        ("[admin]\nbind = \"127.0.0.1:9092\"\n", "k.toml:8:8: admin.bind: 127.0.0.1:9092 is taken by the [listener]"),
        (
            "[admin]\nbind = \"0.0.0.0:9080\"\n",
            "k.toml:8:8: admin.bind: 0.0.0.0:9080 is not a loopback address, so `admin.token_file` or `admin.token_env`",
        ),
        ("[admin]\ntoken_file = \"/nowhere/t\"\n", "k.toml:8:14: admin.token_file: `/nowhere/t`: No such file"),
        (
            "[admin]\ntoken_env = \"KS_NO_SUCH\"\n",
            "k.toml:8:13: admin.token_env: `KS_NO_SUCH`: environment variable not",
        ),
        ("[clusters.\"a b\"]\nbootstrap = [\"h:1\"]\n", "k.toml:7:1: the cluster name `a b` must be 1 to 64 letters"),
        ("[clusters.n]\nbootstrap = []\n", "k.toml:8:13: clusters.n.bootstrap: at least one \"host:port\" is needed"),
        ("[clusters.n]\nbootstrap = [\"h\"]\n", "k.toml:8:14: clusters.n.bootstrap: `h` is not \"host:port\""),
        (
            "[clusters.n]\nbootstrap = [\"h:1\"]\ntls = true\n",
            "k.toml:9:7: clusters.n.tls is reserved but not supported yet: remove it",
        ),
        (
            "[clusters.n]\nbootstrap = [\"h:1\"]\n[clusters.n.sasl]\npassword_file = \"p\"\n",
            "k.toml:9:1: clusters.n.sasl is reserved but not supported yet: remove it",
        ),
    ] {
        let found = error_of(more);
        assert!(found.starts_with(error), "{more}\n found: {found}\nwanted: {error}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}

#[test]
fn role_errors() {
    for (from, to, error) in [
        (
            "active = \"east\"",
            "active = \"eats\"",
            "k.toml:1:10: active: there is no [clusters.eats]; did you mean `east`?",
        ),
        ("standby = \"west\"", "standby = \"east\"", "k.toml:2:11: active and standby are the same cluster, `east`"),
        (":29092", ":19092", "k.toml:2:11: `east` and `west` share the bootstrap address 127.0.0.1:19092"),
    ] {
        let found = parse(&TWO.replace(from, to)).unwrap_err().to_string();
        assert!(found.starts_with(error), "{found}");
    }
}

#[test]
fn all_problems_are_shown_in_the_files_order() {
    let found = error_of("[limits]\nmax_connections = -1\nhold_deadline = \"x\"\n[groups]\nsync_interval = \"2\"\n");
    let lines: Vec<&str> = found.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(lines, ["k.toml:8:19:", "k.toml:9:17:", "k.toml:11:17:"]);
}

#[test]
fn an_unreadable_file_is_named() {
    let error = Config::load(Path::new("/nowhere/k.toml")).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/k.toml: cannot be read: "), "{error}");
}

#[test]
fn a_token_opens_other_addresses_and_is_not_shown() {
    let file = std::env::temp_dir().join(format!("kafka-standby-token-{}", std::process::id()));
    std::fs::write(&file, "geheim\n").unwrap();
    let text = format!("{TWO}[admin]\nbind = \"0.0.0.0:9080\"\ntoken_file = {:?}\n", file.to_str().unwrap());
    let config = parse(&text);
    std::fs::remove_file(&file).unwrap();
    let token = config.unwrap().admin.token.unwrap();
    assert_eq!(token.reveal(), "geheim");
    assert_eq!(format!("{token:?}"), "Secret(..)");
}

#[test]
fn every_file_under_config_is_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            Config::load(&path).unwrap_or_else(|error| panic!("{error}"));
            seen += 1;
        }
    }
    assert!(seen >= 2, "example.toml and minimal.toml are expected");
}

/// example.toml states the defaults, so it must stay equal to them.
#[test]
fn the_example_shows_the_defaults() {
    let file = |name: &str| Config::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)).unwrap();
    let (example, plain) = (file("example.toml"), file("minimal.toml"));
    assert_eq!(example.groups, plain.groups);
    assert_eq!(example.topics, plain.topics);
    assert_eq!(example.cutover, plain.cutover);
    assert_eq!(example.metrics, plain.metrics);
    assert_eq!(example.limits, plain.limits);
    assert_eq!(example.listener, plain.listener);
    assert_eq!(example.admin, plain.admin);
    assert_eq!(example.tee.default_mode, plain.tee.default_mode);
    assert_eq!(example.tee.sync_timeout, plain.tee.sync_timeout);
    assert_eq!(example.tee.on_standby_loss, plain.tee.on_standby_loss);
}
