//! Transactions whose EndTxn(commit) was under way when the active cluster died: what became of them is found from what
//! crossed, since only committed records do.

use super::Drive;
use crate::model::ClusterIx;
use crate::stream::Ranges;

impl Drive<'_> {
    /// A failover, when the copies stand still: a transaction of which something crossed was committed. What is open, or of
    /// which nothing crossed, ends with the generation.
    pub(super) fn lose_transactions(&mut self) {
        for doubt in self.house.doubtful_transactions() {
            let crossed: Vec<_> =
                doubt.touched.partitions.iter().map(|(tp, ranges)| (tp, self.crossed(tp, ranges))).collect();
            if crossed.iter().all(|(_, crossed)| !crossed) {
                continue;
            }
            self.house.found_committed(&doubt.id);
            let lacking: Vec<_> =
                crossed.iter().filter(|(_, crossed)| !crossed).map(|(tp, _)| tp.to_string()).collect();
            if !lacking.is_empty() {
                self.warnings.push(format!(
                    "transaction {}: committed on {}, but its records in {} did not cross",
                    doubt.id,
                    self.house.name(self.roles.active),
                    lacking.join(", ")
                ));
            }
        }
        let broken = self.house.lose_transactions();
        self.broken.extend(broken);
    }

    /// Has the copy of a partition all records at these offsets of the lost cluster?
    fn crossed(&self, tp: &crate::model::TopicPartition, ranges: &Ranges) -> bool {
        let from: ClusterIx = self.roles.active;
        let Some((partition, cut)) = self.cuts.iter().find(|(p, _)| p.tp == *tp) else { return false };
        let offsets = partition.offsets.read();
        let mut copied = offsets.map(from.other()).clone();
        copied.close_at_cluster(cut.to_end);
        let there = |offset| offsets.map(from).to_logical(offset).is_some_and(|l| copied.to_cluster(l).is_some());
        let ranges = ranges.above(0);
        !ranges.is_empty() && ranges.iter().all(|&(first, next)| there(first) && there(next - 1))
    }
}
