//! Keys of one length, packed, and orders to visit them in.

/// So many different keys of one length.
#[derive(Debug)]
pub struct Keys {
    bytes: Vec<u8>,
    key_bytes: usize,
}

impl Keys {
    /// `count` keys of `key_bytes` bytes, at least ten.
    pub fn new(count: u32, key_bytes: usize) -> Self {
        assert!(key_bytes >= 10, "ten digits tell four billion keys apart");
        let mut bytes = Vec::with_capacity(count as usize * key_bytes);
        for n in 0..count {
            bytes.extend_from_slice(format!("{n:0>key_bytes$}").as_bytes());
        }
        Self { bytes, key_bytes }
    }

    /// One of them.
    pub fn get(&self, n: u32) -> &[u8] {
        let start = n as usize * self.key_bytes;
        &self.bytes[start..start + self.key_bytes]
    }
}

/// The numbers below `count`, shuffled.
pub fn shuffled(count: u32, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count).collect();
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for index in (1..order.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(index, (state % (index as u64 + 1)) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_orders_are_whole() {
        let keys = Keys::new(1_000, 15);
        assert_eq!(keys.get(17), b"000000000000017");
        let mut order = shuffled(1_000, 7);
        assert_ne!(order, (0..1_000).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..1_000).collect::<Vec<_>>());
    }
}
