//! The CRC-32C of a batch whose header has changed, without reading its records again: the checksum is linear, so what a
//! change at the front does to it depends on the change and on how many bytes follow.

/// Castagnoli's polynomial, bits reversed as checksums have them.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// x^8, reversed: one byte further on.
const BYTE: u32 = 1 << 23;

/// x^(8 * 2^k): 2^k bytes further on.
const STEPS: [u32; 32] = {
    let mut steps = [BYTE; 32];
    let mut k = 1;
    while k < steps.len() {
        steps[k] = multiply(steps[k - 1], steps[k - 1]);
        k += 1;
    }
    steps
};

/// The product of two polynomials over GF(2), modulo [`POLYNOMIAL`].
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 1 << 31;
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = (b >> 1) ^ (POLYNOMIAL & (b & 1).wrapping_neg());
        bit >>= 1;
    }
    product
}

/// The checksum of `after` and what follows it, of `rest` bytes, where that of `before` and the same was `crc`; both are of the
/// same length. One that was wrong stays wrong.
pub(super) fn patched(crc: u32, before: &[u8], after: &[u8], rest: usize) -> u32 {
    let change = crc32c::crc32c(before) ^ crc32c::crc32c(after);
    let steps = STEPS.iter().enumerate().filter(|(k, _)| rest >> k & 1 == 1);
    crc ^ steps.fold(change, |change, (_, step)| multiply(*step, change))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_what_reading_all_of_it_gives(
            before in prop::collection::vec(any::<u8>(), 40),
            after in prop::collection::vec(any::<u8>(), 40),
            rest in prop::collection::vec(any::<u8>(), 0..3000),
            damage: u32,
        ) {
            let whole = |head: &[u8]| crc32c::crc32c(&[head, &rest[..]].concat());
            prop_assert_eq!(patched(whole(&before), &before, &after, rest.len()), whole(&after));
            let wrong = whole(&before) ^ damage;
            prop_assert_eq!(patched(wrong, &before, &after, rest.len()) ^ whole(&after), damage);
        }
    }

    #[test]
    fn long_batches_too() {
        let rest = vec![7; 3_000_001];
        let whole = |head: &[u8]| crc32c::crc32c(&[head, &rest[..]].concat());
        assert_eq!(patched(whole(b"before"), b"before", b"after!", rest.len()), whole(b"after!"));
    }
}
