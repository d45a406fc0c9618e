//! Targets whose vectors have one width.

use crate::base::simd::{NibbleSums, OneGroup, RowsKernel, Wide, WideKernel};

/// Row groups of the widest vectors.
pub const MAX_GROUPS: usize = 1;

/// The width of a CPU's vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Width;

impl Width {
    /// The widest vectors of this CPU.
    pub fn widest() -> Width {
        Width
    }

    /// All widths of this CPU.
    pub fn available() -> impl Iterator<Item = Width> {
        [Width].into_iter()
    }

    /// Row groups per vector.
    pub fn groups(self) -> usize {
        <OneGroup>::GROUPS
    }

    #[inline(always)]
    pub fn run<K: WideKernel>(self, kernel: K) -> K::Output {
        kernel.run::<OneGroup>()
    }

    /// Computes in vectors of one group, whatever the width.
    #[inline(always)]
    pub fn run_rows<K: RowsKernel>(self, kernel: K) -> K::Output {
        kernel.run::<NibbleSums>()
    }
}
