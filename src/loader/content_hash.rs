//! A streaming hash that detects equal tensors without keeping either of them in memory for comparison.
//! `WeightStream::shared_if_equal` uses it.

/// A hash of a tensor's bytes in their stored form, which is all that a device computes with. At 128 bits, two
/// different tensors do not collide by accident; a deliberate collision harms only the author's own model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentHash([u64; 2]);

const KEYS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f];

impl Default for ContentHash {
    fn default() -> Self {
        ContentHash(KEYS)
    }
}

impl ContentHash {
    /// Appends one row. All rows of a tensor have the same length, so no separator is needed.
    pub fn push_row(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.push_word(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.push_word(u64::from_le_bytes(word));
        }
    }

    fn push_word(&mut self, word: u64) {
        let [a, b] = self.0;
        // The halves of a wide product depend on all bits of both factors. The lanes see the word in two forms, so
        // that a word which makes one product 0 does not do so to the other.
        self.0 = [
            folded(a ^ word, KEYS[0]).wrapping_add(a.rotate_left(23)),
            folded(b ^ word.rotate_left(32), KEYS[1]).wrapping_add(b.rotate_left(41)),
        ];
    }
}

fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn one_changed_bit_anywhere_gives_another_hash() {
        let hash = |bytes: &[u8]| {
            let mut hash = ContentHash::default();
            bytes.chunks(21).for_each(|row| hash.push_row(row));
            hash
        };
        let mut bytes = vec![0; 84];
        let mut seen = HashSet::from([hash(&bytes)]);
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(seen.insert(hash(&bytes)), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(hash(&bytes), hash(&[0; 84]));
    }
}
