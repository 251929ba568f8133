//! Numbers in as few bytes as they need: seven bits a byte, the lowest first, the top bit says
//! that more follow (LEB128). Each number has one form: the shortest.

/// Appends a number.
#[inline]
pub(super) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number off; `None`: it is cut short, too large, or not in its shortest form.
#[inline]
pub(super) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let (first, behind) = bytes.split_first()?;
    if *first < 0x80 {
        *bytes = behind;
        return Some(*first as u64);
    }
    take_long(bytes)
}

fn take_long(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        let low = (byte & 0x7f) as u64;
        if index == 9 && low > 1 {
            return None;
        }
        number |= low << (7 * index);
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            return (index == 0 || *byte != 0).then_some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_in_their_one_form() {
        let powers = (0..64).flat_map(|bit| [1u64 << bit, (1 << bit) - 1]);
        for number in powers.chain([u64::MAX, 300]) {
            let mut bytes = Vec::new();
            put(&mut bytes, number);
            assert_eq!(bytes.len(), (64 - number.leading_zeros()).div_ceil(7).max(1) as usize);
            for cut in 0..bytes.len() {
                assert_eq!(take(&mut &bytes[..cut]), None);
            }
            bytes.push(9);
            let mut rest = &bytes[..];
            assert_eq!(take(&mut rest), Some(number));
            assert_eq!(rest, [9]);
        }
        for wrong in [&[0x80, 0][..], &[0xff; 10], &[0xff; 11], &[0x80; 12]] {
            assert_eq!(take(&mut &*wrong), None);
        }
    }
}
