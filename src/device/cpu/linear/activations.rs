//! Quantised activations: integers with a scale per block of 64 (q4) or 32 (q8) columns, computed once per product and
//! used by all its rows. Buffers are reused between calls. The products are in `q4.rs` and `q8.rs`.

use crate::base::quant::BLOCK;
use crate::base::simd::{F32x4, I32x4, Narrow};
use crate::threads::pool::{Pieces, Pool};

/// Columns of a q4 activation block, which is multiplied with two blocks of weights: their products are added as
/// integers.
pub const Q4_COLUMNS: usize = 2 * BLOCK;

/// int8 activations for q4: [`Q4_COLUMNS`] columns with one scale.
#[derive(Clone, Copy)]
pub struct Q4Activation {
    pub halves: [Q4Half; 2],
    pub scale: f32,
}

/// The columns of one block of weights, in groups of four as the kernels load them.
#[derive(Clone, Copy)]
pub struct Q4Half {
    pub quads: [[Narrow; 4]; 8],
    /// −8·Σ over the columns 0 and 1 of every four, and over 2 and 3: it corrects for the offset of 8 in the nibbles.
    pub correction: [i16; 2],
}

/// 16-bit activations for q8: one block. 16 bits keep their error two orders of magnitude below that of the weights.
#[derive(Clone, Copy)]
pub struct Q8Activation {
    pub pairs: [[i16; 2]; 16],
    pub scale: f32,
}

#[derive(Default)]
pub struct Activations {
    q8: Vec<Q8Activation>, // [T, blocks]
    q4: Vec<Q4Activation>, // [T, ⌈blocks / 2⌉]
}

impl Activations {
    /// `x [T, cols]` → `[T, ⌈blocks / 2⌉]`
    pub fn q4(&mut self, pool: &Pool, x: &[f32], cols: usize) -> &[Q4Activation] {
        let half = Q4Half {
            quads: [[0; 4]; 8],
            correction: [0; 2],
        };
        let empty = Q4Activation {
            halves: [half; 2],
            scale: 0.0,
        };
        fill(&mut self.q4, empty, pool, x, cols, Q4Activation::new)
    }

    /// `x [T, cols]` → `[T, blocks]`
    pub fn q8(&mut self, pool: &Pool, x: &[f32], cols: usize) -> &[Q8Activation] {
        let empty = Q8Activation {
            pairs: [[0; 2]; 16],
            scale: 0.0,
        };
        fill(&mut self.q8, empty, pool, x, cols, Q8Activation::new)
    }
}

/// Quantises the rows in parallel; a single row is done by the caller, because waking a thread would take as long.
fn fill<'a, T: Copy + Send + Sync, const COLUMNS: usize>(
    out: &'a mut Vec<T>,
    empty: T,
    pool: &Pool,
    x: &[f32],
    cols: usize,
    quantize: impl Fn(&[f32; COLUMNS]) -> T + Sync,
) -> &'a [T] {
    let (t_rows, n_blocks) = (x.len() / cols, cols.div_ceil(COLUMNS));
    if out.len() < t_rows * n_blocks {
        out.resize(t_rows * n_blocks, empty);
    }
    let used = &mut out[..t_rows * n_blocks];
    pool.run(t_rows, Pieces::new(used, n_blocks), |t, out| {
        let (blocks, tail) = x[t * cols..][..cols].as_chunks::<COLUMNS>();
        for (out, block) in out.iter_mut().zip(blocks) {
            *out = quantize(block);
        }
        if !tail.is_empty() {
            let mut block = [0.0; COLUMNS];
            block[..tail.len()].copy_from_slice(tail);
            out[blocks.len()] = quantize(&block);
        }
    });
    used
}

/// The nearest integers within ±high, ties to even, and their scale. A block with a NaN or an infinity gets a NaN
/// scale, so that the error propagates to the result.
#[inline(always)]
fn quantize<const V: usize>(block: &[[f32; 4]], high: f32) -> ([I32x4; V], f32) {
    let x: [F32x4; V] = std::array::from_fn(|i| F32x4::load(&block[i]));
    let mut peak = F32x4::splat(0.0);
    let mut poison = F32x4::splat(0.0);
    for x in x {
        peak = peak.max(x.abs());
        poison = poison.add(x.mul(F32x4::splat(0.0)));
    }
    let [a, b, c, d] = peak.to_array();
    let peak = a.max(b).max(c.max(d));
    let inverse = high / peak;
    // Zeros, and values so small that their inverse overflows f32: multiplying by infinity would give wrong quants.
    if inverse.is_infinite() {
        return ([I32x4::splat(0); V], 0.0);
    }
    // Adding 1.5·2²³ leaves the nearest integer in the low bits of the sum.
    const SHIFT: f32 = 12_582_912.0;
    let inverse = F32x4::splat(inverse);
    let quants = x.map(|x| {
        let shifted = x.mul(inverse).add(F32x4::splat(SHIFT));
        shifted.bits().sub(I32x4::splat(SHIFT.to_bits() as i32))
    });
    (quants, peak / high + poison.sum())
}

impl Q4Activation {
    fn new(block: &[f32; Q4_COLUMNS]) -> Self {
        let (quants, scale) = quantize::<16>(block.as_chunks().0, 127.0);
        let [low, high] = [0, 8].map(|first| Q4Half::new(&quants[first..]));
        Q4Activation {
            halves: [low, high],
            scale,
        }
    }
}

impl Q4Half {
    fn new(quants: &[I32x4]) -> Self {
        let quants: [I32x4; 8] = std::array::from_fn(|i| quants[i]);
        let mut bytes = [[0i8; 16]; 2];
        let [a, b, c, d, e, f, g, h] = quants;
        a.narrow(b).narrow(c.narrow(d)).store(&mut bytes[0]);
        e.narrow(f).narrow(g.narrow(h)).store(&mut bytes[1]);
        let mut sums = [0i32; 4];
        let sum = (a.add(b).add(c.add(d))).add(e.add(f).add(g.add(h)));
        sum.store(&mut sums);
        let quads = bytes.as_flattened().as_chunks::<4>().0;
        // Quants of a block with an infinity are arbitrary, and its NaN scale hides them; others don't overflow.
        let correction = |a: i32, b: i32| a.wrapping_add(b).wrapping_mul(-8) as i16;
        Q4Half {
            quads: std::array::from_fn(|i| quads[i].map(Narrow::from)),
            correction: [correction(sums[0], sums[1]), correction(sums[2], sums[3])],
        }
    }
}

impl Q8Activation {
    fn new(block: &[f32; BLOCK]) -> Self {
        let (quants, scale) = quantize::<8>(block.as_chunks().0, 32767.0);
        let mut eights = [[0i16; 8]; 4];
        for (eight, two) in eights.iter_mut().zip(quants.as_chunks::<2>().0) {
            two[0].narrow(two[1]).store(eight);
        }
        let pairs = eights.as_flattened().as_chunks::<2>().0;
        Q8Activation {
            pairs: std::array::from_fn(|i| pairs[i]),
            scale,
        }
    }
}
