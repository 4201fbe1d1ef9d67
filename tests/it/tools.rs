//! Kafka's own command line tools against the proxy: what they print is what they print against the cluster itself, before
//! and after a switchover, and what they change is changed there.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::support::client;
use crate::support::cluster::{Cluster, Spec};
use crate::support::java_group::JavaGroup;
use crate::support::kafka::Version;
use crate::support::load::{Load, LoadSpec};
use crate::support::proxy::{Proxy, ProxySpec};
use crate::support::wait::{wait_for, wait_until};

const MINUTE: Duration = Duration::from_secs(60);
const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const SHARE_GROUPS: &str = "org.apache.kafka.tools.consumer.group.ShareGroupCommand";
const ALL_GROUPS: &str = "org.apache.kafka.tools.GroupsCommand";
const ACLS: &str = "org.apache.kafka.tools.AclCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const RECORDS: &str = "org.apache.kafka.tools.DeleteRecordsCommand";

/// Words before an id of a topic or broker.
const IDS: [&str; 4] = ["TopicId:", "Leader:", "Replicas:", "Isr:"];

const SHARE_OFFSETS: &str = "--describe --group sharing";

/// What only asks, and how many lines it prints at least.
const QUESTIONS: [(&str, &str, usize); 16] = [
    (TOPICS, "--list", 2),
    (TOPICS, "--describe --topic t", 4),
    (TOPICS, "--describe --unavailable-partitions", 0),
    (OFFSETS, "--topic t", 3),
    (OFFSETS, "--topic t --time earliest", 3),
    (OFFSETS, "--topic t --time max-timestamp", 3),
    (GROUPS, "--list", 2),
    (ALL_GROUPS, "--list", 3),
    (GROUPS, "--describe --group idle", 4),
    (GROUPS, "--describe --group live --offsets", 4),
    (GROUPS, "--describe --group live --members --verbose", 2),
    (SHARE_GROUPS, "--list", 1),
    (SHARE_GROUPS, SHARE_OFFSETS, 4),
    (SHARE_GROUPS, "--describe --group sharing --members", 0),
    (CONFIGS, "--describe --entity-type topics --entity-name t", 2),
    (ACLS, "--list", 1),
];

/// A process that runs tools, and what it answers.
struct Tools {
    process: Child,
    answers: BufReader<ChildStdout>,
}

impl Tools {
    fn start() -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/Tools.java");
        let mut command = Version::V4_3.java(&source.display().to_string(), "128m");
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("java starts");
        let answers = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { process, answers }
    }

    /// Exit code, stdout, stderr.
    fn run(&mut self, class: &str, args: &str) -> (i32, String, String) {
        let stdin = self.process.stdin.as_mut().expect("a pipe");
        writeln!(stdin, "{class}\t{}", args.replace(' ', "\t")).expect("it reads");
        let mut head = String::new();
        self.answers.read_line(&mut head).expect("an answer");
        let numbers: Vec<usize> = head.split_whitespace().map(|n| n.parse().expect("a number")).collect();
        let mut text = |length: usize| {
            let mut bytes = vec![0; length];
            self.answers.read_exact(&mut bytes).expect("an answer");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        (numbers[0] as i32, text(numbers[1]), text(numbers[2]))
    }
}

impl Drop for Tools {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

thread_local! {
    static TOOLS: RefCell<Option<Tools>> = const { RefCell::new(None) };
}

/// Runs a tool; what it prints.
fn output(class: &str, bootstrap: &str, args: &str) -> Result<String, String> {
    let args = format!("--bootstrap-server {bootstrap} {args}");
    let (code, text, errors) = TOOLS.with_borrow_mut(|tools| tools.get_or_insert_with(Tools::start).run(class, &args));
    match code == 0 && !text.contains("Exception") && !text.contains("Error:") {
        true => Ok(text),
        false => Err(format!("{class} {args}: {text}{errors}")),
    }
}

/// What a tool prints, in order, without the client's log, blank lines and the topic that the proxy hides.
fn print(class: &str, bootstrap: &str, args: &str) -> Vec<String> {
    let text = output(class, bootstrap, args).unwrap_or_else(|e| panic!("{e}"));
    let is_log = |line: &str| line.split('.').next().is_some_and(|at| at.len() == 8 && at.matches(':').count() == 2);
    let own = |line: &&str| !line.trim().is_empty() && !is_log(line) && !line.contains("__kafka_standby_state");
    let mut lines: Vec<String> =
        text.lines().filter(own).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    lines.sort();
    lines
}

/// As [`print`], without ids that are virtual: of topics (`TopicId: x`) and brokers (`Leader: 0`).
fn run(class: &str, bootstrap: &str, args: &str) -> Vec<String> {
    let mut lines = print(class, bootstrap, args);
    for line in &mut lines {
        let mut after_id = false;
        let words = line.split(' ').map(|word| {
            let shown = if after_id { "*" } else { word };
            after_id = IDS.contains(&word);
            shown
        });
        *line = words.collect::<Vec<_>>().join(" ");
    }
    lines
}

/// The ids that clients see of topic `t` and its brokers.
fn ids(proxy: &Proxy) -> Vec<String> {
    let lines = print(TOPICS, &proxy.bootstrap(), "--describe --topic t");
    let words: Vec<&str> = lines.iter().flat_map(|line| line.split(' ')).collect();
    let pairs = words.iter().zip(words.iter().skip(1));
    let ids: Vec<String> =
        pairs.filter(|(name, _)| IDS.contains(name)).map(|(name, id)| format!("{name}{id}")).collect();
    assert!(ids.len() >= 10, "{lines:#?}");
    ids
}

/// Through the proxy and at the cluster itself, side by side.
fn compare(proxy: &Proxy, active: &Cluster, phase: &str) {
    for (class, args, least) in QUESTIONS {
        let (through, mut direct) = (run(class, &proxy.bootstrap(), args), run(class, &active.bootstrap(), args));
        if (class, args) == (SHARE_GROUPS, SHARE_OFFSETS) {
            // The codec does not know the version that has the lag, so through the proxy a dash stands for it.
            let no_lag = |line: &String| match line.rsplit_once(' ') {
                Some((rest, last)) if last != "LAG" => format!("{rest} -"),
                _ => line.clone(),
            };
            direct = direct.iter().map(no_lag).collect();
        }
        assert_eq!(through, direct, "{phase}: {class} {args}");
        assert!(through.len() >= least, "{phase}: {class} {args} says little: {through:#?}");
    }
}

/// Commits and leaves.
fn commit(proxy: &Proxy, group: &str, offset: i64) {
    let consumer: BaseConsumer =
        client::config(&proxy.bootstrap()).set("group.id", group).create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    (0..3).for_each(|p| list.add_partition_offset("t", p, Offset::Offset(offset)).expect("an offset"));
    consumer.commit(&list, CommitMode::Sync).expect("committed");
}

fn contains(lines: &[String], words: &[&str]) -> bool {
    lines.iter().any(|line| words.iter().all(|word| line.split(' ').any(|w| w == *word)))
}

/// Changes through the proxy are the active cluster's.
fn change(proxy: &Proxy, active: &Cluster, generation: u32) {
    let (through, direct) = (&proxy.bootstrap(), &active.bootstrap());
    let group = format!("reset-{generation}");
    commit(proxy, &group, 50);
    run(GROUPS, through, &format!("--group {group} --topic t --reset-offsets --to-offset 7 --execute"));
    for bootstrap in [through, direct] {
        let told = run(GROUPS, bootstrap, &format!("--describe --group {group}"));
        assert!((0..3).all(|p| contains(&told, &[&group, "t", &p.to_string(), "7"])), "{told:#?}");
    }
    run(GROUPS, through, &format!("--delete --group {group}"));
    assert!(!run(GROUPS, direct, "--list").contains(&group), "deleted");

    run(SHARE_GROUPS, through, "--reset-offsets --group sharing --topic t --to-earliest --execute");
    let told = run(SHARE_GROUPS, direct, "--describe --group sharing");
    let start = (5 * generation).to_string();
    assert!(contains(&told, &["sharing", "t", "0", &start]), "{told:#?}");

    let retention = format!("retention.ms={}", 86_400_000 + generation);
    run(CONFIGS, through, &format!("--alter --entity-type topics --entity-name t --add-config {retention}"));
    let told = run(CONFIGS, direct, "--describe --entity-type topics --entity-name t");
    assert!(told.iter().any(|line| line.contains(&retention)), "{told:#?}");

    run(ACLS, through, &format!("--add --allow-principal User:u{generation} --operation Read --topic t"));
    let told = run(ACLS, direct, "--list");
    assert!(told.iter().any(|line| line.contains(&format!("User:u{generation}"))), "{told:#?}");

    let topic = format!("made-{generation}");
    run(TOPICS, through, &format!("--create --topic {topic} --partitions 2"));
    run(TOPICS, through, &format!("--alter --topic {topic} --partitions 4"));
    assert_eq!(run(TOPICS, direct, &format!("--describe --topic {topic}")).len(), 5, "a line and four partitions");
    run(TOPICS, through, &format!("--delete --topic {topic}"));
    wait_until("the topic to be gone", MINUTE, || !run(TOPICS, direct, "--list").contains(&topic));

    let file = std::env::temp_dir().join(format!("kafka-standby-delete-{}-{generation}.json", std::process::id()));
    let low = 5 * (i64::from(generation) + 1);
    let wanted = serde_json::json!({"partitions": [{"topic": "t", "partition": 0, "offset": low}], "version": 1});
    std::fs::write(&file, wanted.to_string()).expect("a file");
    run(RECORDS, through, &format!("--offset-json-file {}", file.display()));
    let _ = std::fs::remove_file(&file);
    for bootstrap in [through, direct] {
        let told = run(OFFSETS, bootstrap, "--topic t --time earliest");
        assert!(told.contains(&format!("t:0:{low}")), "{told:?}");
    }
}

#[test]
fn kafkas_tools_print_and_change_through_the_proxy_what_they_do_at_a_cluster() {
    let with_acls = |name: &str| {
        Spec::new(name)
            .set("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
            .set("super.users", "User:ANONYMOUS")
            .set("allow.everyone.if.no.acl.found", "true")
    };
    let [east, west] = Cluster::start_all([with_acls("east"), with_acls("west")]);
    ["t", "empty"].iter().for_each(|topic| east.create_topic(topic, 3, &[("retention.ms", "86400000")]));
    let proxy = Proxy::start(ProxySpec::new(&east, &west, "sync"));
    // Plain records: offsets are the same on both clusters.
    let load = Load::start(LoadSpec { consumers: 0, ..LoadSpec::new(&proxy.bootstrap(), "t") });
    load.wait_for_more(1000, MINUTE);
    load.finish(MINUTE);
    commit(&proxy, "idle", 40);
    let live = Load::start(LoadSpec {
        producers: Vec::new(),
        consumers: 1,
        group: "live".into(),
        consumer_config: vec![("enable.auto.commit".into(), "false".into())],
        ..LoadSpec::new(&proxy.bootstrap(), "t")
    });
    live.wait_for_more(500, MINUTE);

    let sharing = JavaGroup::start_share(&proxy.bootstrap(), "t", "sharing", 1, &["reset=earliest"]);
    sharing.wait_for(1000, 3 * MINUTE);
    assert!(sharing.finish().errors.is_empty());
    let before = ids(&proxy);
    change(&proxy, &east, 0);
    compare(&proxy, &east, "before");
    proxy.wait_switchable(MINUTE);
    assert_eq!(proxy.switchover()["outcome"], "done");
    // The new cluster does not know a group without commits before its member is back.
    wait_for("the live member to be back", MINUTE, || {
        let told = output(GROUPS, &proxy.bootstrap(), "--describe --group live --members")?;
        if told.lines().any(|line| line.starts_with("live ")) { Ok(()) } else { Err(told) }
    });
    change(&proxy, &west, 1);
    compare(&proxy, &west, "after");
    assert_eq!(ids(&proxy), before, "topic ids and broker ids stay");
}
