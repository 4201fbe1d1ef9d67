//! Virtual leader epochs: the generation in the high bits, the cluster's own epoch in the low ones, so that what clients
//! see rises over every cutover (a lower epoch freezes three of five client libraries for up to minutes).

use crate::model::Generation;

/// Bits kept for the cluster's own leader epoch: a million leader changes per partition, 2,047 generations.
pub const EPOCH_BITS: u32 = 20;
const MAX_REAL: i32 = (1 << EPOCH_BITS) - 1;
const MAX_GENERATION: u32 = (i32::MAX as u32) >> EPOCH_BITS;

/// Saturates rather than wraps: at the limits the epoch stays, which every client accepts. Negative epochs stay.
pub fn virtual_epoch(generation: Generation, real: i32) -> i32 {
    if real < 0 {
        return real;
    }
    let generation = generation.min(MAX_GENERATION) as i32;
    (generation << EPOCH_BITS) | real.min(MAX_REAL)
}

/// The cluster's own epoch inside a virtual one. Negative epochs stay.
pub fn real_epoch(virtual_epoch: i32) -> i32 {
    if virtual_epoch < 0 { virtual_epoch } else { virtual_epoch & MAX_REAL }
}

/// The generation inside a virtual epoch; `None` for a negative one.
pub fn generation_of(virtual_epoch: i32) -> Option<Generation> {
    (virtual_epoch >= 0).then_some((virtual_epoch >> EPOCH_BITS) as Generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_with_generation_whatever_the_clusters_say() {
        assert_eq!(virtual_epoch(0, 7), 7, "before the first cutover nothing is rewritten");
        assert!(virtual_epoch(1, 0) > virtual_epoch(0, MAX_REAL));
        assert!(virtual_epoch(2047, 3) > virtual_epoch(2046, 900));
        assert_eq!(virtual_epoch(5, -1), -1);
        for (g, e) in [(0, 0), (1, 5), (2047, 1 << 19)] {
            assert_eq!((generation_of(virtual_epoch(g, e)), real_epoch(virtual_epoch(g, e))), (Some(g), e));
        }
        assert!(virtual_epoch(u32::MAX, i32::MAX) > 0);
    }
}
