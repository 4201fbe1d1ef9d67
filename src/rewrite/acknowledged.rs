//! Ranges of offsets that share consumers (KIP-932) are given and acknowledge.

use super::{Stretch, Translate};

/// What a share consumer says of the records in a range of offsets, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Acknowledged {
    pub first: i64,
    pub last: i64,
    /// One for all, or one for each offset.
    pub types: Vec<i8>,
}

/// A client's acknowledgement in the cluster's offsets: in pieces where they do not follow each other there. What the cluster
/// has no record of is left out.
pub(super) fn acknowledged_in(t: &dyn Translate, topic: &str, partition: i32, said: Acknowledged) -> Vec<Acknowledged> {
    let Acknowledged { first, last, types } = said;
    let each = types.len() > 1;
    let count = last.checked_sub(first).and_then(|n| n.checked_add(1)).and_then(|n| usize::try_from(n).ok());
    if first < 0 || first > last || (each && count != Some(types.len())) {
        // The cluster itself is to refuse it.
        let (first, last) = (t.offset_in(topic, partition, first), t.offset_in(topic, partition, last));
        return vec![Acknowledged { first, last, types }];
    }
    let pieces = t.stretches_in(topic, partition, first, last).into_iter();
    let piece = |s: Stretch| {
        let from = usize::try_from(s.from - first).ok()?;
        let types = match each {
            true => types.get(from..from.checked_add(usize::try_from(s.count).ok()?)?)?.to_vec(),
            false => types.clone(),
        };
        Some(Acknowledged { first: s.to, last: s.to.saturating_add(s.count - 1), types })
    };
    pieces.filter_map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::FakeTranslate;
    use super::*;

    fn acked(first: i64, last: i64, types: &[i8]) -> Acknowledged {
        Acknowledged { first, last, types: types.to_vec() }
    }

    /// The logical offsets 1100 to 1109 have no record on the cluster (see [`FakeTranslate`]).
    #[test]
    fn a_range_is_cut_where_the_cluster_has_nothing() {
        let told = |first, last, types: &[i8]| acknowledged_in(&FakeTranslate, "orders", 4, acked(first, last, types));
        assert_eq!(told(1001, 1003, &[1]), [acked(1, 3, &[1])]);
        assert_eq!(told(1001, 1003, &[1, 2, 3]), [acked(1, 3, &[1, 2, 3])]);
        assert_eq!(told(1099, 1110, &[1]), [acked(99, 99, &[1]), acked(110, 110, &[1])]);
        let types = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
        assert_eq!(told(1099, 1110, &types), [acked(99, 99, &[1]), acked(110, 110, &[2])]);
        assert_eq!(told(1100, 1105, &[1]), []);
    }

    #[test]
    fn what_is_not_a_range_is_left_for_the_cluster_to_refuse() {
        for (first, last, types) in
            [(1003, 1001, &[1][..]), (-1, 1001, &[1]), (1001, 1003, &[1, 2]), (-1, i64::MAX, &[1, 1])]
        {
            let got = acknowledged_in(&FakeTranslate, "orders", 4, acked(first, last, types));
            assert_eq!(got.len(), 1, "{first}..={last}");
            assert_eq!(got[0].types, types);
        }
    }
}
