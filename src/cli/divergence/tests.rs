use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::admin::fake::{Fake, served};
use crate::admin::types::{ExportFrame, Problem};
use crate::cli::args::Args;
use crate::cli::commands;
use crate::divergence::Class;
use crate::records::{Codec, NewRecord, Stamp, build};

fn range() -> DivergentRange {
    DivergentRange {
        topic: "t".into(),
        partition: 0,
        cluster: "east".into(),
        generation: 1,
        bypass: false,
        truncated: false,
        from_offset: 10,
        to_offset: 12,
        logical_from: 110,
        logical_to: 112,
        growing: false,
        records: 2,
        aborted_records: 0,
        undecided_records: 0,
        control_batches: 0,
        batches: 1,
        bytes: 80,
        first_timestamp: None,
        last_timestamp: None,
        expired_offsets: 0,
        state: DivergenceState::Open,
        handled_at: None,
        reinjected_records: 0,
        detail: None,
    }
}

fn line(frame: &ExportFrame) -> Bytes {
    format!("{}\n", serde_json::to_string(frame).unwrap()).into()
}

fn stored() -> Bytes {
    let records = [
        NewRecord { key: Some(b"k"), value: Some(b"one"), timestamp: 5, ..Default::default() },
        NewRecord { value: Some(&[0xff]), timestamp: 6, ..Default::default() },
    ];
    let mut bytes = build(&records, Codec::None, Stamp::NONE).unwrap().to_vec();
    bytes[..8].copy_from_slice(&10i64.to_be_bytes());
    bytes.into()
}

/// The parts of a whole export of one batch.
fn parts() -> Vec<Bytes> {
    let (batch, crc32c) = (stored(), crc32c::crc32c(&stored()));
    let bytes = batch.len() as u64;
    let head = ExportFrame::Batch { base_offset: 10, bytes, kind: Class::Data };
    let end = ExportFrame::End { batches: 1, bytes, crc32c };
    vec![line(&ExportFrame::Range(Box::new(range()))), line(&head), batch, line(&end)]
}

/// Runs a command line against a fake API; the exit code or the failure's message, and what was printed.
async fn ran(fake: &Arc<Fake>, line: &str) -> (Result<Exit, String>, String) {
    let url = served(fake, None).await;
    let words: Vec<String> = format!("kafka-standby {line} --admin {url}").split(' ').map(str::to_owned).collect();
    let run = tokio::task::spawn_blocking(move || {
        let args = <Args as clap::Parser>::try_parse_from(words).unwrap();
        let (mut out, mut err, mut input) = (Vec::new(), Vec::new(), &b""[..]);
        let mut terminal = Terminal { out: &mut out, err: &mut err, input: &mut input, answers: false, screen: false };
        let exit = commands::run(args, &mut terminal).map_err(|failure| failure.message);
        (exit, String::from_utf8(out).unwrap())
    });
    run.await.unwrap()
}

fn directory() -> std::path::PathBuf {
    let directory = std::env::temp_dir().join(format!("kafka-standby-export-{}", rand::random::<u64>()));
    std::fs::create_dir(&directory).unwrap();
    directory
}

#[tokio::test]
async fn an_export_is_whole_checked_and_never_overwritten() {
    let fake = Arc::<Fake>::default();
    fake.divergence.lock().ranges = vec![range()];
    *fake.exported.lock() = parts();
    let directory = directory();
    let command = format!("divergence export --dir {}", directory.display());
    let (exit, out) = ran(&fake, &command).await;
    assert_eq!(exit, Ok(Exit::Done));
    let target = directory.join("t-0.generation-1.east");
    assert_eq!(out, format!("{}\n", target.display()));
    let read = |name: &str| std::fs::read(target.join(name)).unwrap();
    let batches = read("batches");
    let head = batches.iter().position(|&b| b == b'\n').unwrap() + 1;
    assert_eq!(batches[head..], stored());
    assert_eq!(serde_json::from_slice::<Value>(&batches[..head]).unwrap()["from_offset"], 10);
    let lines: Vec<Value> =
        String::from_utf8(read("records.jsonl")).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((&lines[0]["value"], &lines[0]["logical_offset"]), (&"one".into(), &110.into()));
    assert_eq!((&lines[1]["value_base64"], &lines[1]["offset"]), (&"/w==".into(), &11.into()));
    let manifest: Value = serde_json::from_slice(&read("manifest.json")).unwrap();
    assert_eq!(manifest["files"][0]["crc32c"], format!("{:08x}", crc32c::crc32c(&batches)));
    assert_eq!(manifest["index"][0]["position"], head);
    let (again, _) = ran(&fake, &command).await;
    assert!(again.unwrap_err().contains("is there already"));
    assert_eq!(*fake.asked.lock(), ["export t-0 1"], "what is there is not even asked for");
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test]
async fn a_broken_export_leaves_nothing() {
    let (mut damaged, mut short, mut told) = (parts(), parts(), parts());
    let mut bytes = damaged[2].to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    damaged[2] = bytes.into();
    short.pop();
    told[3] = line(&ExportFrame::Error(Problem {
        kind: "about:blank".into(),
        title: "Service Unavailable".into(),
        status: 503,
        detail: "east is gone".into(),
        reasons: Vec::new(),
    }));
    let directory = directory();
    for (parts, why) in [(damaged, "damaged"), (short, "broke off"), (told, "east is gone"), (Vec::new(), "broke off")]
    {
        let fake = Arc::<Fake>::default();
        fake.divergence.lock().ranges = vec![range()];
        *fake.exported.lock() = parts;
        let (exit, _) = ran(&fake, &format!("divergence export --dir {}", directory.display())).await;
        let message = exit.unwrap_err();
        assert!(message.contains(why), "{message}");
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
    }
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test]
async fn what_changes_something_asks_first_and_says_whether_it_is_done() {
    let fake = Arc::<Fake>::default();
    fake.divergence.lock().ranges = vec![range()];
    let (exit, out) = ran(&fake, "divergence list").await;
    assert_eq!(exit, Ok(Exit::Done));
    assert!(out.starts_with("TOPIC  PART  CLUSTER  GENERATION"), "{out}");
    assert!(ran(&fake, "divergence reinject").await.0.unwrap_err().contains("--yes"));
    assert_eq!(ran(&fake, "divergence reinject --topic t --partition 0 --yes").await.0, Ok(Exit::Failed));
    fake.divergence.lock().ranges[0].state = DivergenceState::Discarded;
    assert_eq!(ran(&fake, "divergence discard --generation 1 --yes").await.0, Ok(Exit::Done));
    assert_eq!(*fake.asked.lock(), ["reinject Some(\"t\") Some(0) None", "discard None None Some(1)"]);
    fake.divergence.lock().unreachable = vec!["west: gone".into()];
    let (exit, out) = ran(&fake, "divergence list --json").await;
    assert_eq!((exit, out.contains("west: gone")), (Ok(Exit::Failed), true));
}
