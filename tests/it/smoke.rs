//! The test rig itself, against real Kafka without a proxy: what stands on it can be trusted only as far as it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::checker::check;
use crate::support::client;
use crate::support::cluster::{Cluster, Spec};
use crate::support::kafka::Version;
use crate::support::load::{Commit, Load, LoadSpec};
use crate::support::scan;
use crate::support::wait::{wait_for, wait_until};

const MINUTE: Duration = Duration::from_secs(60);

/// A cluster under load is paused, and its only broker killed and restarted: the clients ride through and the checker
/// agrees with the log.
#[test]
fn load_rides_through_a_pause_and_a_restart_of_its_broker() {
    let mut cluster = Cluster::start(Spec::new("alone"));
    cluster.create_topic("numbers", 6, &[]);
    let load = Load::start(LoadSpec { commit: Commit::Manual, ..LoadSpec::new(&cluster.bootstrap(), "numbers") });
    load.wait_for_more(1000, MINUTE);

    cluster.pause();
    std::thread::sleep(Duration::from_millis(700));
    cluster.resume();
    load.wait_for_more(1000, MINUTE);

    // A clean stop: one that is killed forgets all but the newest batch of each producer, which is the proxy's to mend.
    cluster.stop();
    cluster.restart();
    load.wait_for_more(1000, MINUTE);

    let outcome = load.finish(MINUTE);
    outcome.assert_no_errors("after the outages");
    assert!(outcome.longest_producer_stall >= Duration::from_millis(600), "{:?}", outcome.longest_producer_stall);
    assert!(outcome.longest_consumer_stall >= Duration::from_millis(600), "{:?}", outcome.longest_consumer_stall);
    let mut history = outcome.history;
    history.stored = Some(scan::numbered(&cluster.bootstrap(), "numbers", MINUTE).expect("a scan"));
    let verdict = check(&history);
    assert!(verdict.lost.is_empty() && verdict.skipped.is_empty() && verdict.renamed.is_empty(), "{verdict}");
    assert!(verdict.acknowledged >= 3000, "{verdict}");

    cluster.wipe();
    let metadata = client::leader_and_isr(&cluster.bootstrap(), "numbers", 0);
    assert!(metadata.is_err(), "a wiped cluster still has the topic: {metadata:?}");
}

/// Kafka 3.9 runs too, three brokers survive the loss of one.
#[test]
fn three_brokers_of_the_older_kafka_survive_the_loss_of_one() {
    let mut cluster = Cluster::start(Spec::new("three").version(Version::V3_9).brokers(3));
    cluster.create_topic("numbers", 3, &[]);
    let load = Load::start(LoadSpec::new(&cluster.bootstrap(), "numbers"));
    load.wait_for_more(500, MINUTE);
    let (leader, _) = client::leader_and_isr(&cluster.bootstrap(), "numbers", 0).expect("a leader");

    cluster.kill_broker(leader as usize - 1);
    wait_for("another leader", MINUTE, || match client::leader_and_isr(&cluster.bootstrap(), "numbers", 0)? {
        (now, _) if now != leader && now >= 0 => Ok(()),
        (now, _) => Err(format!("the leader is {now}")),
    });
    load.wait_for_more(500, MINUTE);

    cluster.restart_broker(leader as usize - 1);
    wait_until("all replicas in sync", MINUTE, || {
        client::leader_and_isr(&cluster.bootstrap(), "numbers", 0).is_ok_and(|(_, in_sync)| in_sync == 3)
    });
    let outcome = load.finish(MINUTE);
    outcome.assert_no_errors("after the outages");
    let mut history = outcome.history;
    history.stored = Some(scan::numbered(&cluster.bootstrap(), "numbers", MINUTE).expect("a scan"));
    let verdict = check(&history);
    assert!(verdict.lost.is_empty() && verdict.skipped.is_empty() && verdict.renamed.is_empty(), "{verdict}");
}

/// A guarded process dies with the rig even when the rig is killed: a shell stands in for the rig here.
#[test]
fn nothing_outlives_a_killed_rig() {
    // Started again below as the rig that gets killed.
    if let Some(report) = std::env::var_os("RIG_VICTIM") {
        let directory = crate::support::temp::TempDir::new("victim");
        let mut sleep = Command::new("sleep");
        sleep.arg("600");
        let process = crate::support::process::Process::start("sleep", &sleep, &directory.path().join("log"));
        let text = format!("{} {}\n", process.id(), directory.path().display());
        fs::write(report, text).expect("the report is written");
        std::thread::sleep(MINUTE);
        return;
    }
    let directory = crate::support::temp::TempDir::new("report");
    let report = directory.path().join("report");
    let mut rig = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "smoke::nothing_outlives_a_killed_rig", "--nocapture"])
        .env("RIG_VICTIM", &report)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("this binary starts");
    let text = wait_for("the victim's report", MINUTE, || {
        fs::read_to_string(&report).ok().filter(|text| text.ends_with('\n')).ok_or("no report".into())
    });
    let (id, path) = text.trim().split_once(' ').expect("an id and a path");
    let (process, data) = (Path::new("/proc").join(id), Path::new(path));
    assert!(process.exists() && data.exists());
    rig.kill().expect("SIGKILL is sent");
    rig.wait().expect("it is gone");
    wait_until("the process and the data to be gone", MINUTE, || !process.exists() && !data.exists());
}
