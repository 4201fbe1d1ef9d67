use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::offsets::Run;

fn apply(image: &mut Image, key: &Key, generation: Generation, seq: u64, data: Value) {
    let value = serde_json::to_vec(&json!({"generation": generation, "seq": seq, "data": data})).unwrap();
    image.apply(key.encode().as_bytes(), Some(&value)).unwrap();
}

fn generation(n: Generation, active: &str) -> Value {
    json!({"generation": n, "active": active, "cluster_id": "c", "at_ms": 0})
}

fn ix(name: &str) -> Option<ClusterIx> {
    ["east", "west"].iter().position(|n| *n == name).map(|i| ClusterIx::BOTH[i])
}

const NAMES: fn() -> [String; 2] = || ["east".into(), "west".into()];

#[test]
fn highest_generation_wins_whichever_cluster_says_it() {
    let (mut a, mut b) = (Image::default(), Image::default());
    apply(&mut a, &Key::Generation, 1, 99, generation(1, "west"));
    apply(&mut b, &Key::Generation, 2, 5, generation(2, "east"));
    a.merge(b);
    assert_eq!(a.generation().unwrap().active, "east");
}

#[test]
fn a_cluster_that_was_away_is_told_all_that_it_missed_the_generation_last() {
    let (mut here, mut there) = (Image::default(), Image::default());
    let cut = Key::Cut { generation: 1, part: 0 };
    let cuts = json!({"to": "west", "planned": false, "cuts": []});
    for (image, n) in [(&mut there, 0), (&mut here, 1)] {
        apply(image, &Key::Owner, 0, 50 - u64::from(n), json!({}));
        apply(image, &Key::Generation, n, 10 + u64::from(n), generation(n, "x"));
        apply(image, &Key::Brokers { cluster: "east".into() }, 0, 3, json!([1]));
    }
    apply(&mut here, &cut, 1, 9, cuts);
    apply(&mut there, &Key::Brokers { cluster: "west".into() }, 0, 4, json!([1]));
    fn news(of: &Image, other: &Image) -> Vec<Key> {
        of.news_for(other).map(|(key, _)| key.clone()).collect()
    }
    assert_eq!(news(&here, &there), [cut, Key::Generation]);
    assert_eq!(news(&there, &here), [Key::Brokers { cluster: "west".into() }]);
    here.merge(there.clone());
    there.merge(here.clone());
    assert!(news(&here, &there).is_empty() && news(&there, &here).is_empty());
}

#[test]
fn cuts_count_only_once_committed_and_rebuild_the_maps() {
    let mut image = Image::default();
    apply(&mut image, &Key::Generation, 0, 1, generation(0, "east"));
    let map = Key::Map { cluster: "west".into(), topic: "t".into(), partition: 0, part: 0 };
    apply(&mut image, &map, 0, 2, json!({"runs": [[100, 0, -1]]}));
    apply(
        &mut image,
        &Key::Cut { generation: 1, part: 0 },
        1,
        3,
        json!({"to": "west", "cuts": [["t", 0, 160, 50, 150]], "completed": [["t", 0, 155, 157], ["t", 1, 3, 4]]}),
    );
    assert!(image.cuts(ix).is_empty(), "not committed");
    apply(&mut image, &Key::Generation, 1, 4, generation(1, "west"));
    let cuts = image.cuts(ix);
    let cuts = &cuts[&("t".to_string(), 0)];
    let offsets = image.offsets(&NAMES(), "t", 0, (ClusterIx::FIRST, 0), cuts).unwrap();
    let mut live = PartitionOffsets::born(ClusterIx::FIRST, 0);
    live.map_mut(ClusterIx::SECOND).append(100, 0, 50);
    live.cut(&cuts[0]);
    assert_eq!(offsets, live, "rebuilt state is the state that was");
    // after the cut the west map is stored again: the cut is in it already
    apply(&mut image, &map, 1, 9, json!({"runs": [[100, 0, 50], [60, 50, -1]]}));
    assert_eq!(image.offsets(&NAMES(), "t", 0, (ClusterIx::FIRST, 0), cuts).unwrap(), live);
}

#[test]
fn a_map_whose_first_parts_were_forgotten_is_read_without_them() {
    let mut image = Image::default();
    let key = |part| Key::Map { cluster: "west".into(), topic: "t".into(), partition: 0, part };
    let first = 64 * 3;
    for (part, runs) in [(0, json!([[0, 0, 1]])), (3, json!([[100, 50, 5], [7, 6, 5]])), (4, json!([[200, 90, -1]]))] {
        apply(&mut image, &key(part), 0, 2, json!({ "runs": runs }));
    }
    let (_, map) = image.map("west", "t", 0).unwrap().unwrap();
    assert_eq!((map.forgotten(), map.runs().len(), map.to_cluster(108)), (first, 3, Some(57)));
    // A topic of that name that was created anew begins from the start; the old parts were emptied.
    for part in [3, 4] {
        apply(&mut image, &key(part), 0, 3, json!({ "runs": [] }));
    }
    apply(&mut image, &key(0), 0, 4, json!({"runs": [[0, 0, -1]]}));
    assert_eq!(image.map("west", "t", 0).unwrap().unwrap().1, OffsetMap::identity());
    apply(&mut image, &key(0), 0, 5, json!({"runs": []}));
    assert_eq!(image.map("west", "t", 0).unwrap().unwrap().1, OffsetMap::default());
    assert_eq!(image.map("east", "t", 0), Ok(None));
}

#[test]
fn a_stamp_lasts_for_its_generation() {
    let mut image = Image::default();
    let key = |partition| Key::Stamped { topic: "t".into(), partition };
    apply(&mut image, &key(0), 1, 2, json!({"from": 5}));
    apply(&mut image, &key(3), 2, 3, json!({"from": 9}));
    assert_eq!(image.stamped(2), [("t".to_string(), 3)]);
    assert_eq!(image.stamped(3), []);
}

#[test]
fn who_claimed_last_owns_the_topic_whatever_the_clocks_say() {
    let mut image = Image::default();
    let owner = |pid| json!({"instance": uuid::Uuid::nil(), "host": "h", "pid": pid, "since_ms": 0});
    apply(&mut image, &Key::Owner, 0, 900, owner(1));
    apply(&mut image, &Key::Owner, 0, 100, owner(2));
    assert_eq!(image.owner().map(|o| o.pid), Some(2));
}

#[test]
fn what_cannot_be_read_is_an_error_not_a_guess() {
    let mut image = Image::default();
    assert!(image.apply(b"generation", Some(b"{")).is_err());
    let map = Key::Map { cluster: "west".into(), topic: "t".into(), partition: 0, part: 0 };
    apply(&mut image, &map, 0, 2, json!({"runs": [[5, 5, 2], [1, 1, 1]]}));
    assert!(image.map("west", "t", 0).is_err());
    image.apply(map.encode().as_bytes(), None).unwrap();
    assert_eq!(image.map("west", "t", 0), Ok(None));
}

const EAST: ClusterIx = ClusterIx::FIRST;

/// One partition as a process knows it, and what it has stored.
struct Life {
    offsets: PartitionOffsets,
    image: Image,
    generation: Generation,
    active: ClusterIx,
    /// Log ends by cluster.
    ends: [i64; 2],
    seq: u64,
}

impl Life {
    fn new() -> Self {
        let (offsets, image) = (PartitionOffsets::born(EAST, 0), Image::default());
        Life { offsets, image, generation: 0, active: EAST, ends: [0; 2], seq: 0 }
    }

    fn write(&mut self, key: &Key, data: Value) {
        self.seq += 1;
        apply(&mut self.image, key, self.generation, self.seq, data);
    }

    fn store(&mut self, cluster: ClusterIx) {
        let map = self.offsets.map_mut(cluster);
        let (parts, kept) = (MapRecord::unstored(map).collect::<Vec<_>>(), map.storing());
        for (part, record) in parts {
            let key = Key::Map { cluster: NAMES()[cluster.ix()].clone(), topic: "t".into(), partition: 0, part };
            self.write(&key, serde_json::to_value(&record).unwrap());
        }
        self.offsets.map_mut(cluster).stored(kept);
    }

    /// The active log goes on by a record that does not cross, and one that does, or is only about to.
    fn copy(&mut self, lands: bool) {
        let (active, standby) = (self.active, self.active.other());
        let place = self.ends[standby.ix()];
        let logical = self.offsets.map(active).to_logical(self.ends[active.ix()] + 1).unwrap();
        self.ends[active.ix()] += 2;
        let map = self.offsets.map_mut(standby);
        map.close_at_cluster(place);
        map.append(logical, place, Run::OPEN);
        self.store(standby);
        self.ends[standby.ix()] += i64::from(lands);
    }

    fn cut(&mut self, jump: i64) {
        let to = self.active.other();
        let logical = self.offsets.map(self.active).position_out(self.ends[self.active.ix()]) + jump;
        let (to_end, from_end) = (self.ends[to.ix()], self.ends[self.active.ix()]);
        let (name, generation) = (NAMES()[to.ix()].clone(), self.generation + 1);
        (self.generation, self.active) = (generation, to);
        let cuts = json!({"to": name, "planned": true, "cuts": [["t", 0, logical, to_end, from_end]]});
        self.write(&Key::Cut { generation, part: 0 }, cuts);
        self.write(&Key::Generation, self::generation(generation, &name));
        let completed = Vec::new();
        self.offsets.cut(&Cut { generation, to, logical, to_end, from_end, planned: true, completed });
    }

    fn restored(&self) -> Result<PartitionOffsets, String> {
        let cuts = self.image.cuts(ix).remove(&("t".to_owned(), 0)).unwrap_or_default();
        self.image.offsets(&NAMES(), "t", 0, (EAST, 0), &cuts)
    }
}

/// A cutover may end a run that is the last of its record: what comes behind it, in another generation, is stored with it.
#[test]
fn a_run_that_a_cut_has_ended_is_stored_anew_with_what_follows() {
    for runs in [1, 63, 64, 65, 128] {
        let mut life = Life::new();
        (0..runs).for_each(|_| life.copy(true));
        life.cut(5);
        life.cut(5);
        life.copy(true);
        assert_eq!(life.restored().as_ref(), Ok(&life.offsets), "{runs} runs");
    }
}

proptest! {
    #[test]
    fn what_is_stored_of_maps_is_what_they_are(
        steps in prop::collection::vec((0u8..8, 1usize..70, any::<bool>()), 1..30)
    ) {
        let mut life = Life::new();
        for (step, count, lands) in steps {
            match step {
                0..=3 => (0..count).for_each(|_| life.copy(true)),
                4 => life.copy(lands),
                5 => life.cut(i64::from(lands) * 3),
                6 => {
                    let active = life.active;
                    let at = (life.ends[active.ix()] - count as i64).max(0);
                    let seen = life.offsets.map(active).position_out(life.ends[active.ix()]);
                    life.offsets.truncate(active, at, seen);
                    life.ends[active.ix()] = at;
                    life.store(active);
                    // The copy of what was lost is masked: its map goes on behind it.
                }
                _ => life.offsets = life.restored().map_err(TestCaseError::fail)?,
            }
            let restored = life.restored().map_err(TestCaseError::fail)?;
            prop_assert_eq!(&restored, &life.offsets);
        }
    }
}
