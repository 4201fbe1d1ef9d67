//! Virtual member epochs (KIP-848): the generation in the high bits, the coordinator's own member epoch in the low ones.
//! Every cluster counts a group's epochs by itself, so without a mark an epoch that the old cluster gave could be taken
//! for the new one's own, and the member would keep partitions that the new coordinator has given to others.
//!
//! All of it stays below 2^24: librdkafka (2.12 and before) reads the member id of a heartbeat's reply up to a zero byte,
//! and finds one only because the first byte of the epoch behind it is zero.

use crate::model::Generation;

/// Bits kept for the coordinator's own member epoch: a million rebalances of one group. A higher one is shown as it is,
/// which looks like one of another generation; what the proxy has noted of the member then says what it is.
pub const MEMBER_EPOCH_BITS: u32 = 20;
const MAX_REAL: i32 = (1 << MEMBER_EPOCH_BITS) - 1;
/// Marks of the generations above 0, used in turn: a member that slept through 15 cutovers is told apart only by what is
/// noted of it.
const MARKS: u32 = 15;

/// Generation 0 has no mark: before the first cutover nothing is changed.
fn mark(generation: Generation) -> i32 {
    let mark = generation.checked_sub(1).map_or(0, |later| later % MARKS + 1);
    (mark as i32) << MEMBER_EPOCH_BITS
}

/// What clients see of a member epoch. Epochs of 0 and below (joining, leaving, refused) stay, and so does one beyond the
/// limit.
pub fn member_epoch_out(generation: Generation, real: i32) -> i32 {
    if (1..=MAX_REAL).contains(&real) { mark(generation) | real } else { real }
}

/// The coordinator's own epoch if the virtual one was given in `generation`; `None` for one of another generation. Epochs
/// of 0 and below stay.
pub fn member_epoch_in(generation: Generation, shown: i32) -> Option<i32> {
    if shown <= 0 {
        return Some(shown);
    }
    (shown & !MAX_REAL == mark(generation)).then_some(shown & MAX_REAL)
}

/// Whether it is certain that this epoch was given to a KIP-848 member after a cutover: the generations of classic groups,
/// which share a field with it in some requests, have no mark.
pub fn is_marked(shown: i32) -> bool {
    shown > MAX_REAL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_of_one_generation() {
        assert_eq!(member_epoch_out(0, 7), 7, "before the first cutover nothing is rewritten");
        for generation in [0, 1, 2, 15, 16, u32::MAX] {
            for real in [1, 7, MAX_REAL] {
                let shown = member_epoch_out(generation, real);
                assert!(shown > 0 && shown < 1 << 24, "librdkafka needs the zero byte");
                assert_eq!(member_epoch_in(generation, shown), Some(real));
                for other in [generation.wrapping_add(1), generation.wrapping_sub(1)] {
                    assert_eq!(member_epoch_in(other, shown), None, "{generation} is not {other}");
                }
                assert_eq!(is_marked(shown), generation > 0);
            }
            for symbolic in [0, -1, -2] {
                assert_eq!(member_epoch_out(generation, symbolic), symbolic);
                assert_eq!(member_epoch_in(generation, symbolic), Some(symbolic));
            }
        }
        assert_ne!(member_epoch_out(15, 1), member_epoch_out(0, 1), "the marks in turn leave out that of generation 0");
    }
}
