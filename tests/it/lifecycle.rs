//! Topics that are deleted, created anew, or removed from the standby while they are copied: what clients see is one topic or
//! the other, and a copy is built again from the start.

use kafka_standby::records::{Codec, NewRecord, Stamp, build};
use serde_json::Value;

use crate::divergence::hour_ago;
use crate::reading::{MINUTE, Raw, RawRig as Rig, all, assert_verified, switch, wait_level};
use crate::support::client;
use crate::support::wait::wait_for;

const PARTITIONS: i32 = 2;

fn rig(on_delete: &str) -> Rig {
    Rig::start(&["kept", "other"], PARTITIONS, &format!("on_delete = \"{on_delete}\"\n"))
}

impl Rig {
    fn fill(&self, topic: &str, text: &str) {
        for partition in 0..PARTITIONS {
            for n in 0..5 {
                let value = format!("{text} {partition} {n}");
                let record = NewRecord { value: Some(value.as_bytes()), timestamp: hour_ago(), ..Default::default() };
                let batch = build(&[record.clone(), record], Codec::None, Stamp::NONE).expect("a batch");
                self.through.produce(topic, partition, batch);
            }
        }
    }

    fn wait_stream(&self, topic: &str, what: &str) -> Value {
        self.proxy.wait_status(&format!("{topic} to be {what}"), MINUTE, |status| {
            let mut rows = status["partitions"].as_array().into_iter().flatten().filter(|p| p["topic"] == topic);
            rows.any(|p| p["stream"] == what)
        })
    }

    fn wait_gone(&self, topic: &str, from: &Raw) {
        wait_for(&format!("{topic} to be gone"), MINUTE, || match from.partitions(topic) {
            0 => Ok(()),
            n => Err(format!("{n} partitions")),
        });
    }
}

/// A copy that somebody deletes on the standby comes again, whole, and holds over restarts and cutovers.
#[test]
fn a_copy_that_is_deleted_or_a_standby_that_is_wiped_is_built_again() {
    let mut rig = rig("keep");
    rig.fill("kept", "first");
    rig.fill("other", "other");
    wait_level(&rig.proxy, &rig.east, "kept", PARTITIONS);
    client::delete_topic(&rig.clusters[1].bootstrap(), "kept");
    rig.fill("kept", "second");
    wait_level(&rig.proxy, &rig.east, "kept", PARTITIONS);
    assert_verified(&rig.proxy, None);
    rig.proxy.kill();
    rig.proxy.restart();
    rig.fill("kept", "third");
    wait_level(&rig.proxy, &rig.east, "kept", PARTITIONS);
    assert_verified(&rig.proxy, None);

    // All of the standby at once, with its state topic.
    rig.clusters[1].wipe();
    rig.west = Raw::new("west", &rig.clusters[1].bootstrap());
    wait_for("the copies to be there again", MINUTE, || match rig.west.partitions("kept") {
        0 => Err("not yet".to_owned()),
        _ => Ok(()),
    });
    rig.fill("kept", "fourth");
    for topic in ["kept", "other"] {
        wait_level(&rig.proxy, &rig.east, topic, PARTITIONS);
    }
    let before = all(&rig.through, "kept", PARTITIONS);
    assert_verified(&rig.proxy, None);
    switch(&rig.proxy);
    assert_eq!(all(&rig.through, "kept", PARTITIONS), before, "the same records under the same offsets");
    wait_level(&rig.proxy, &rig.west, "kept", PARTITIONS);
    assert_verified(&rig.proxy, None);
}

/// Under `keep` the new topic's copy waits for somebody to remove the old one's; nothing is deleted behind anybody's back.
#[test]
fn a_topic_created_anew_is_another_topic_and_the_old_copy_is_kept_until_it_is_removed() {
    let mut rig = rig("keep");
    rig.fill("kept", "old");
    wait_level(&rig.proxy, &rig.east, "kept", PARTITIONS);
    let old = all(&rig.west, "kept", PARTITIONS);
    client::delete_topic(&rig.clusters[0].bootstrap(), "kept");
    rig.wait_gone("kept", &rig.east);
    rig.clusters[0].create_topic("kept", PARTITIONS, &[]);
    wait_for("the new topic to be served", MINUTE, || match rig.through.ends("kept", PARTITIONS)[..] {
        [0, 0] => Ok(()),
        ref ends => Err(format!("{ends:?}")),
    });
    rig.fill("kept", "new");
    rig.wait_stream("kept", "diverged");
    assert_eq!(all(&rig.west, "kept", PARTITIONS), old, "what was copied is still there");
    let new = all(&rig.through, "kept", PARTITIONS);
    assert!(new.values().all(|records| records.len() == 10 && records[0].offset == 0), "offsets begin anew");
    client::delete_topic(&rig.clusters[1].bootstrap(), "kept");
    wait_level(&rig.proxy, &rig.east, "kept", PARTITIONS);
    assert_verified(&rig.proxy, None);
    rig.proxy.kill();
    rig.proxy.restart();
    wait_level(&rig.proxy, &rig.east, "kept", PARTITIONS);
    switch(&rig.proxy);
    assert_eq!(all(&rig.through, "kept", PARTITIONS), new);
}

/// Under `follow` the copy goes with its topic.
#[test]
fn a_deleted_topic_takes_its_copy_along_where_that_is_configured() {
    let rig = rig("follow");
    rig.fill("kept", "old");
    wait_level(&rig.proxy, &rig.east, "kept", PARTITIONS);
    client::delete_topic(&rig.proxy.bootstrap(), "kept");
    rig.wait_gone("kept", &rig.east);
    rig.wait_gone("kept", &rig.west);
    client::create_topic(&rig.proxy.bootstrap(), "kept", PARTITIONS, 1, &[]);
    rig.fill("kept", "new");
    wait_level(&rig.proxy, &rig.east, "kept", PARTITIONS);
    assert_verified(&rig.proxy, None);
    let new = all(&rig.through, "kept", PARTITIONS);
    switch(&rig.proxy);
    assert_eq!(all(&rig.through, "kept", PARTITIONS), new);
}
