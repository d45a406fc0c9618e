//! Allocates uniform blocks to slots of the uniform buffer. Most blocks of a decode step equal those of the previous
//! step, and blocks repeat from layer to layer: each is written once and stays in its slot while it is in use.

use std::collections::HashMap;

/// Bytes of a slot: the alignment of dynamic offsets that every device supports, and the largest size of a block.
pub const SLOT_BYTES: usize = 256;
/// The most different blocks of a submission. A decode step has a tenth of that.
pub const SLOTS: usize = 256;

pub struct UniformSlots {
    slot_of: HashMap<Vec<u8>, usize>,
    /// The last submission that used each slot.
    used_in: [u64; SLOTS],
    submission: u64,
    /// Slots whose blocks are not in the buffer yet, with the blocks.
    writes: Vec<(usize, Vec<u8>)>,
}

impl UniformSlots {
    pub fn new() -> UniformSlots {
        UniformSlots {
            slot_of: HashMap::new(),
            used_in: [0; SLOTS],
            submission: 1,
            writes: Vec::new(),
        }
    }

    /// The slot of `block` in the current submission; none if other blocks of this submission occupy all slots.
    pub fn slot(&mut self, block: &[u8]) -> Option<usize> {
        if let Some(&slot) = self.slot_of.get(block) {
            self.used_in[slot] = self.submission;
            return Some(slot);
        }
        // The least recently used one. Earlier submissions have read it when it is overwritten.
        let slot = (0..SLOTS).min_by_key(|&slot| self.used_in[slot])?;
        if self.used_in[slot] == self.submission {
            return None;
        }
        self.slot_of.retain(|_, other| *other != slot);
        self.slot_of.insert(block.to_vec(), slot);
        self.used_in[slot] = self.submission;
        self.writes.push((slot, block.to_vec()));
        Some(slot)
    }

    /// Ends the current submission and returns what has to be written before it: offsets and blocks.
    pub fn submit(&mut self) -> Vec<(u64, Vec<u8>)> {
        self.submission += 1;
        let writes = self.writes.drain(..);
        let writes = writes.map(|(slot, block)| ((slot * SLOT_BYTES) as u64, block));
        writes.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_written_once_while_submissions_go_on_using_it() {
        let mut slots = UniformSlots::new();
        let slot = slots.slot(b"static").unwrap();
        assert_eq!(slots.slot(b"static"), Some(slot));
        assert_eq!(slots.submit(), [(0, b"static".to_vec())]);
        // More steps than there are slots, each with a block of its own.
        for step in 0..3 * SLOTS as u32 {
            assert_eq!(slots.slot(b"static"), Some(slot));
            let own = slots.slot(&step.to_le_bytes()).unwrap();
            assert_ne!(own, slot);
            let written = ((own * SLOT_BYTES) as u64, step.to_le_bytes().to_vec());
            assert_eq!(slots.submit(), [written]);
        }
    }

    #[test]
    fn a_submission_never_overwrites_a_block_that_it_uses() {
        let mut slots = UniformSlots::new();
        let of = |slots: &mut UniformSlots, i: usize| slots.slot(&i.to_le_bytes());
        let mut used: Vec<usize> = (0..SLOTS).map(|i| of(&mut slots, i).unwrap()).collect();
        assert_eq!(of(&mut slots, SLOTS), None);
        assert_eq!(of(&mut slots, 3), Some(used[3]));
        used.sort_unstable();
        assert!(used.iter().copied().eq(0..SLOTS));
        slots.submit();
        assert!(of(&mut slots, SLOTS).is_some());
        // The block that was evicted has to be written again.
        let n_known = (0..SLOTS)
            .filter(|&i| slots.slot_of.contains_key(&i.to_le_bytes()[..]))
            .count();
        assert_eq!(n_known, SLOTS - 1);
    }
}
