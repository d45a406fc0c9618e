//! Products with one row of activations or a few: the groups of a thread's part, several at once, times up to four rows
//! at a time. The kernels are in the files of the formats.

use crate::base::simd::Width;
use crate::device::cpu::linear::{Epilogue, Product};
use crate::threads::pool::Stripe;

/// Groups that are multiplied at once with one, two and more rows of activations: the fastest numbers in Chromium.
pub const STREAMS: usize = 4;
pub const STREAMS_OF_TWO: usize = 2;
pub const STREAMS_OF_FEW: usize = 3;

/// The most rows of activations for which quantised weights are unpacked in registers, in vectors of one group. The
/// wider the vectors of the panels, the earlier these are faster.
pub fn few_rows(width: Width) -> usize {
    match width.groups() {
        1 => 12,
        2 => 8,
        _ => 4,
    }
}

/// The product with a few rows of activations, written to a stripe whose first column is row `first` of W.
pub struct FewRows<'a, P> {
    pub product: &'a P,
    pub epilogue: &'a Epilogue<'a>,
    pub t_rows: usize,
    pub first: usize,
}

impl<P: Product> FewRows<'_, P> {
    /// The groups `start .. start + n`, `N` at once from as many regions.
    pub fn run<const N: usize>(&self, start: usize, n: usize, stripe: &mut Stripe) {
        let region = n / N;
        for i in 0..region {
            let groups: [usize; N] = std::array::from_fn(|s| start + s * region + i);
            self.groups(groups, stripe);
        }
        for group in start + region * N..start + n {
            self.groups([group], stripe);
        }
    }

    /// All rows of activations: four at a time, or three where one or two would be left over.
    fn groups<const N: usize>(&self, groups: [usize; N], stripe: &mut Stripe) {
        let mut t = 0;
        while t < self.t_rows {
            t += match self.t_rows - t {
                1 => self.tile::<N, 1>(groups, t, stripe),
                2 => self.tile::<N, 2>(groups, t, stripe),
                3 | 5 | 6 => self.tile::<N, 3>(groups, t, stripe),
                _ => self.tile::<N, 4>(groups, t, stripe),
            };
        }
    }

    /// Rows `t .. t + T` of the activations; returns T.
    fn tile<const N: usize, const T: usize>(
        &self,
        groups: [usize; N],
        t: usize,
        stripe: &mut Stripe,
    ) -> usize {
        let sums = self.product.rows::<N, T>(groups, t);
        for (group, sums) in groups.into_iter().zip(sums) {
            self.epilogue.write(stripe, self.first, group, t, sums);
        }
        T
    }
}
