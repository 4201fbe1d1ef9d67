use std::sync::Arc;

use clap::Parser;

use super::*;
use crate::admin::fake::{Fake, served};
use crate::admin::types::tests as samples;

struct Ran {
    exit: Exit,
    out: String,
    err: String,
}

/// Runs a command line against a served `fake`; `typed`: what someone at the terminal answers.
fn run_on(fake: &Arc<Fake>, line: &str, typed: Option<&str>) -> Ran {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let url = runtime.block_on(served(fake, None));
    run_at(&url, line, typed)
}

fn run_at(url: &str, line: &str, typed: Option<&str>) -> Ran {
    let line = format!("kafka-standby {line} --admin {url}");
    let args = Args::try_parse_from(line.split_whitespace()).unwrap();
    let (mut out, mut err, mut input) = (Vec::new(), Vec::new(), typed.unwrap_or_default().as_bytes());
    let answers = typed.is_some();
    let result = run(args, &mut Terminal { out: &mut out, err: &mut err, input: &mut input, answers, screen: false });
    let (exit, told) = result.map_or_else(|failure| (failure.exit, failure.message), |exit| (exit, String::new()));
    let err = String::from_utf8(err).unwrap() + &told;
    Ran { exit, out: String::from_utf8(out).unwrap(), err }
}

#[test]
fn results_are_tables_or_one_json_document() {
    let fake = Arc::default();
    let ran = run_on(&fake, "status --json", None);
    assert_eq!(serde_json::from_str::<Status>(&ran.out).unwrap(), samples::status());
    let ran = run_on(&fake, "status", None);
    assert!(ran.out.contains("standby     west (in sync)"), "{}", ran.out);
    let ran = run_on(&fake, "report --json", None);
    assert_eq!(serde_json::from_str::<Vec<Report>>(&ran.out).unwrap(), [samples::report()]);
    assert!(run_on(&fake, "report 1", None).out.starts_with("switchover east -> west: done"));
}

#[test]
fn exit_codes() {
    let fake = Arc::<Fake>::default();
    for (line, exit, told) in [
        ("status", Exit::Done, ""),
        ("verify --topic t", Exit::Failed, ""),
        ("report 9", Exit::Failed, "no cutover began generation 9"),
        ("reload", Exit::Usage, "k.toml:1:1: unknown key `x`"),
        ("translate --topic t --partition 0 --offset 7", Exit::Done, ""),
        ("translate --topic t --partition 0 --offset 99 --cluster west", Exit::Failed, ""),
        ("translate --topic gone --partition 0 --offset 1", Exit::Failed, "east cannot be reached"),
    ] {
        let ran = run_on(&fake, line, None);
        assert_eq!((ran.exit, ran.err.as_str()), (exit, told), "{line}");
    }
    assert_eq!(fake.asked.lock().first().map(String::as_str), Some("verify Some(\"t\")"));
    assert_eq!(run_at("http://127.0.0.1:1", "status", None).exit, Exit::Unreachable);
    assert_eq!(run_at("nonsense", "status", None).exit, Exit::Usage);
}

#[test]
fn not_built_yet() {
    for command in ["backup", "restore"] {
        let args = Args::try_parse_from(["kafka-standby", command, "x"]).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut terminal =
            Terminal { out: &mut out, err: &mut err, input: &mut std::io::empty(), answers: false, screen: false };
        let failure = run(args, &mut terminal).unwrap_err();
        assert_eq!((failure.exit, failure.message), (Exit::Usage, format!("`{command}` is not built yet")));
    }
}

#[test]
fn a_switchover_shows_its_phases_and_its_outcome() {
    let fake = Arc::<Fake>::default();
    let ran = run_on(&fake, "switchover --timeout 30s", None);
    assert_eq!(ran.exit, Exit::Done);
    assert_eq!(*fake.asked.lock(), ["switchover false Some(30000)"]);
    assert_eq!(ran.err.lines().count(), 5);
    assert!(ran.err.starts_with("preflight       12.1 ms\n"), "{}", ran.err);
    for outcome in [Outcome::Refused, Outcome::RolledBack] {
        *fake.outcome.lock() = Some(outcome);
        let ran = run_on(&fake, "switchover --json", None);
        assert_eq!(ran.exit, Exit::Failed);
        assert_eq!(serde_json::from_str::<Report>(&ran.out).unwrap().reasons, ["west is not in sync"]);
    }
}

#[test]
fn a_failover_asks_first() {
    let fake = Arc::<Fake>::default();
    let asked = |fake: &Fake| std::mem::take(&mut *fake.asked.lock());

    let ran = run_on(&fake, "failover", Some("yes\n"));
    assert_eq!(
        (ran.exit, asked(&fake)),
        (Exit::Done, vec!["failover true None".to_owned(), "failover false None".to_owned()])
    );
    assert!(ran.err.contains("acknowledged records would be lost: 2"), "{}", ran.err);
    assert!(ran.err.contains("Fail over from east to west?"), "{}", ran.err);
    assert!(ran.out.starts_with("failover east -> west: done\n"), "{}", ran.out);

    for typed in ["no\n", "y\n", ""] {
        let ran = run_on(&fake, "failover", Some(typed));
        assert_eq!((ran.exit, asked(&fake)), (Exit::Failed, vec!["failover true None".to_owned()]));
        assert!(ran.err.ends_with("not confirmed; nothing was changed"));
    }

    let ran = run_on(&fake, "failover", None);
    assert_eq!((ran.exit, asked(&fake)), (Exit::Usage, vec![]));
    let ran = run_on(&fake, "failover --yes", None);
    assert_eq!((ran.exit, asked(&fake)), (Exit::Done, vec!["failover false None".to_owned()]));
    let ran = run_on(&fake, "failover --dry-run", None);
    assert_eq!((ran.exit, asked(&fake)), (Exit::Done, vec!["failover true None".to_owned()]));

    *fake.outcome.lock() = Some(Outcome::Refused);
    let ran = run_on(&fake, "failover", Some("yes\n"));
    assert_eq!((ran.exit, asked(&fake)), (Exit::Failed, vec!["failover true None".to_owned()]));
}
