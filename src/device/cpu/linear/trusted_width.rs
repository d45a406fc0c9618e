//! The width of vectors that a device uses: the widest, if it computes what the narrowest does. In a browser, what an
//! instruction computes is up to the engine's compilers, and the baseline compiler of V8 11.3 computes the relaxed dot
//! product of fours wrongly. So the q4 kernels are tried, as they will run first, before they are used.

use std::sync::OnceLock;

use crate::base::quant::{BLOCK, StoredMatrix, WeightFormat};
use crate::base::simd::Width;
use crate::device::cpu::linear::{Activations, ArrivingWeight, GROUP, Output, WHOLE};
use crate::threads::pool::Pool;

/// Groups for whole and single streams and a panel that is not full; an odd number of blocks.
const ROWS: usize = (WHOLE + 1) * GROUP;
const COLS: usize = 5 * BLOCK;
/// One of each kind of kernel: up to four rows at a time, and panels.
const ROWS_OF_ACTIVATIONS: [usize; 5] = [1, 2, 3, 4, 17];

/// The widest vectors that have been found right; tried once in a process.
pub fn trusted_width() -> Width {
    static TRUSTED: OnceLock<Width> = OnceLock::new();
    *TRUSTED.get_or_init(|| {
        let narrowest = Width::available().next().expect("a width");
        widest_if_equal(Width::widest(), narrowest, q4_products)
    })
}

fn widest_if_equal(widest: Width, narrowest: Width, products: impl Fn(Width) -> Vec<u32>) -> Width {
    if widest != narrowest && products(widest) == products(narrowest) {
        widest
    } else {
        narrowest
    }
}

/// The bits of products of a q4 matrix with [`ROWS_OF_ACTIVATIONS`].
fn q4_products(width: Width) -> Vec<u32> {
    let mut seed = 1u32;
    let mut numbers = |n: usize| -> Vec<f32> {
        let number = |_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / 8_388_608.0 - 1.0
        };
        (0..n).map(number).collect()
    };
    let matrix = StoredMatrix::from_values(WeightFormat::Q4, COLS, &numbers(ROWS * COLS));
    let pool = Pool::new(1);
    let mut arriving = ArrivingWeight::new(WeightFormat::Q4, ROWS, COLS);
    arriving.push_rows(&pool, &matrix.bytes);
    let weight = arriving.finish();
    let mut bits = Vec::new();
    for t_rows in ROWS_OF_ACTIVATIONS {
        let x = numbers(t_rows * COLS);
        let mut y = vec![0.0; t_rows * ROWS];
        let output = Output {
            bias: None,
            accumulate: false,
            y: &mut y,
        };
        weight.multiply(&pool, width, &mut Activations::default(), &x, output);
        bits.extend(y.iter().map(|y| y.to_bits()));
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_vectors_are_used_if_all_widths_compute_the_same() {
        assert_eq!(trusted_width(), Width::widest());
        let last = Width::available().last().expect("a width");
        assert_eq!(widest_if_equal(last, last, |_| vec![1]), last);
    }

    #[test]
    fn a_width_that_computes_something_else_is_not_used() {
        let widths: Vec<Width> = Width::available().collect();
        for widest in &widths[1..] {
            let wrong = |width| vec![u32::from(width == *widest)];
            assert_eq!(widest_if_equal(*widest, widths[0], wrong), widths[0]);
        }
    }
}
