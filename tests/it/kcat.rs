//! kcat against the proxy: it produces, reads, queries and lists as it does against the cluster itself, before and after a
//! switchover. Skipped, and said so, where it is not installed (Debian package `kcat`).

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::rig::Rig;
use crate::support::cluster::Cluster;

const MINUTE: Duration = Duration::from_secs(60);

/// What it prints, line by line.
fn kcat(bootstrap: &str, args: &str, input: &str) -> Vec<String> {
    let mut command = Command::new("timeout");
    command.args(["60", "kcat", "-b", bootstrap]).args(args.split(' '));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("it starts");
    process.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    let output = process.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kcat -b {bootstrap} {args}: {errors}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// Through the proxy and at the cluster itself.
fn both(rig: &Rig, active: &Cluster, args: &str) -> Vec<String> {
    let through = kcat(&rig.proxy.bootstrap(), args, "");
    assert_eq!(through, kcat(&active.bootstrap(), args, ""), "{args}");
    through
}

/// The lines of a listing that name no broker.
fn listing(bootstrap: &str) -> Vec<String> {
    let lines = kcat(bootstrap, "-L -t t", "").into_iter().map(|line| line.trim().to_owned());
    let about = |line: &str| line.starts_with("topic ") || line.starts_with("partition ");
    lines.filter(|line| about(line)).map(|line| line.split(", leader").next().unwrap_or_default().to_owned()).collect()
}

fn drive(rig: &Rig, active: &Cluster, round: usize) {
    let input: String = (0..100).map(|n| format!("k{n}:{round}-{n}\n")).collect();
    kcat(&rig.proxy.bootstrap(), "-P -t t -K: -z lz4 -X enable.idempotence=true -H made=here", &input);
    let read = both(rig, active, "-C -t t -p 0 -o beginning -e -q -f %p|%o|%k|%s|%h\\n");
    assert!(read.iter().any(|line| line.contains(&format!("|{round}-")) && line.ends_with("|made=here")), "{read:?}");
    let all: usize = (0..3).map(|p| both(rig, active, &format!("-C -t t -p {p} -o beginning -e -q")).len()).sum();
    assert_eq!(all, 100 * (round + 1));
    assert_eq!(both(rig, active, "-C -t t -p 0 -o -3 -e -q -f %o\\n").len(), 3);
    for at in ["-1", "-2", "0"] {
        assert_eq!(both(rig, active, &format!("-Q -t t:1:{at}")).len(), 1);
    }
    let shown = listing(&rig.proxy.bootstrap());
    assert_eq!((shown.len(), &shown), (4, &listing(&active.bootstrap())), "a topic and its partitions");
    // A group of its own, by which nothing is read twice.
    let group = kcat(&rig.proxy.bootstrap(), "-G group -c 100 -e -q -X auto.offset.reset=earliest t", "");
    assert_eq!(group.len(), 100, "{group:?}");
    assert!(group.iter().all(|line| line.starts_with(&format!("{round}-"))), "{group:?}");
}

#[test]
fn kcat_does_through_the_proxy_what_it_does_at_a_cluster() {
    if Command::new("kcat").arg("-V").output().is_err() {
        eprintln!("SKIPPED: kcat is not installed (Debian package kcat)");
        return;
    }
    let rig = Rig::start_with("sync", |east, _| east.create_topic("t", 3, &[]));
    rig.proxy.wait_in_sync(MINUTE);
    drive(&rig, &rig.east, 0);
    rig.switch();
    drive(&rig, &rig.west, 1);
}
