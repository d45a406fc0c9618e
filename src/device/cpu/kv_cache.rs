//! The KV cache of one hybrid block, in f32 or in i8 with a scale per head and position. Keys and values are stored in
//! the order in which attention reads them: panels of sixteen lanes, of which each computes one sum. The products are
//! in `attention/`.

use crate::base::simd::{F32x4, SHIFT, fold};
use crate::ops::device::{AttentionShape, KvFormat};

/// The cache of one hybrid block.
pub enum CpuKvRows {
    F32(F32Cache),
    I8(I8Cache),
}

impl CpuKvRows {
    pub fn new(shape: &AttentionShape, context: usize, format: KvFormat) -> CpuKvRows {
        match format {
            KvFormat::I8 if shape.head_dim <= MAX_HEAD_DIM => {
                CpuKvRows::I8(I8Cache::new(shape, context))
            }
            KvFormat::I8 | KvFormat::F32 => CpuKvRows::F32(Panels::new(shape, context)),
        }
    }

    pub fn format(&self) -> KvFormat {
        match self {
            CpuKvRows::F32(_) => KvFormat::F32,
            CpuKvRows::I8(_) => KvFormat::I8,
        }
    }

    /// Stores one position's keys and values of all heads. // k, v [kv heads · head_dim]
    pub fn append(&mut self, position: usize, k: &[f32], v: &[f32]) {
        match self {
            CpuKvRows::F32(rows) => rows.append(position, k, v),
            CpuKvRows::I8(rows) => rows.append(position, k, v),
        }
    }

    /// Appends one position's keys and values to `bytes` in the storage format. // [kv heads][k, v]
    pub fn save(&self, position: usize, bytes: &mut Vec<u8>) {
        match self {
            CpuKvRows::F32(rows) => rows.save(position, bytes),
            CpuKvRows::I8(rows) => rows.save(position, bytes),
        }
    }

    /// Restores a position from the bytes of `save`.
    pub fn restore(&mut self, position: usize, bytes: &[u8]) {
        match self {
            CpuKvRows::F32(rows) => rows.restore(position, bytes),
            CpuKvRows::I8(rows) => rows.restore(position, bytes),
        }
    }
}

/// Positions per attention block. In i8 a block's sum stays below 2³¹: 256 · 127 · 32767.
pub const BLOCK: usize = 256;
/// Sums that are computed side by side.
pub const PANEL: usize = 16;
/// The largest head_dim in i8; the published models have 128 to 224.
const MAX_HEAD_DIM: usize = 512;

/// Keys and values of all heads. In a panel of keys the lanes are positions, in one of values they are columns of the
/// head. A lane holds `N` steps of its sum together: columns of a key, positions of a value. Heads are padded to whole
/// panels.
pub struct Panels<T, const N: usize> {
    k: Vec<T>, // [kv heads, context / PANEL, d / N, PANEL, N]
    v: Vec<T>, // [kv heads, context / BLOCK, d / PANEL, BLOCK / N, PANEL, N]
    n_kv_heads: usize,
    /// A multiple of [`BLOCK`].
    context: usize,
    pub head_dim: usize,
    /// head_dim padded to a multiple of [`PANEL`].
    pub d: usize,
}

impl<T: Copy + Default, const N: usize> Panels<T, N> {
    fn new(shape: &AttentionShape, context: usize) -> Self {
        let d = shape.head_dim.next_multiple_of(PANEL);
        let context = context.next_multiple_of(BLOCK);
        let len = shape.n_kv_heads * context * d;
        Panels {
            k: vec![T::default(); len],
            v: vec![T::default(); len],
            n_kv_heads: shape.n_kv_heads,
            context,
            head_dim: shape.head_dim,
            d,
        }
    }

    /// The row of a head's position among those of all heads.
    fn row(&self, head: usize, position: usize) -> usize {
        head * self.context + position
    }

    /// The panel of keys of the positions from `position` on, a multiple of [`PANEL`]. // [head_dim / N, PANEL, N]
    #[inline(always)]
    pub fn keys(&self, head: usize, position: usize) -> &[T] {
        let len = self.head_dim.next_multiple_of(N) * PANEL;
        &self.k[self.row(head, position) * self.d..][..len]
    }

    /// The panel of values of the columns from `column` on, for the block of positions from `start` on.
    /// // [BLOCK / N, PANEL, N]
    #[inline(always)]
    pub fn values(&self, head: usize, start: usize, column: usize) -> &[T] {
        &self.v[self.row(head, start) * self.d + column * BLOCK..][..BLOCK * PANEL]
    }
}

/// The index of a step of a lane in its panel.
fn in_panel<const N: usize>(step: usize, lane: usize) -> usize {
    (step / N * PANEL + lane) * N + step % N
}

/// The index of column `i` of the key in a row of `d` columns.
fn key_at<const N: usize>(row: usize, d: usize, i: usize) -> usize {
    let lane = row % PANEL;
    (row - lane) * d + in_panel::<N>(i, lane)
}

/// The index of column `i` of the value in a row of `d` columns.
fn value_at<const N: usize>(row: usize, d: usize, i: usize) -> usize {
    let position = row % BLOCK;
    let (column, lane) = (i - i % PANEL, i % PANEL);
    (row - position) * d + column * BLOCK + in_panel::<N>(position, lane)
}

/// Keys and values in f32.
pub type F32Cache = Panels<f32, 1>;

impl F32Cache {
    fn append(&mut self, position: usize, k: &[f32], v: &[f32]) {
        let heads = k.chunks(self.head_dim).zip(v.chunks(self.head_dim));
        for (head, (k, v)) in heads.enumerate() {
            let row = self.row(head, position);
            for (i, (k, v)) in k.iter().zip(v).enumerate() {
                self.k[key_at::<1>(row, self.d, i)] = *k;
                self.v[value_at::<1>(row, self.d, i)] = *v;
            }
        }
    }

    // Per head: the key, then the value.
    fn save(&self, position: usize, bytes: &mut Vec<u8>) {
        for head in 0..self.n_kv_heads {
            let row = self.row(head, position);
            let key = (0..self.head_dim).map(|i| self.k[key_at::<1>(row, self.d, i)]);
            let value = (0..self.head_dim).map(|i| self.v[value_at::<1>(row, self.d, i)]);
            bytes.extend(key.chain(value).flat_map(f32::to_le_bytes));
        }
    }

    fn restore(&mut self, position: usize, bytes: &[u8]) {
        for (head, bytes) in bytes.chunks(8 * self.head_dim).enumerate() {
            let row = self.row(head, position);
            let (key, value) = bytes.as_chunks().0.split_at(self.head_dim);
            for (i, (k, v)) in key.iter().zip(value).enumerate() {
                self.k[key_at::<1>(row, self.d, i)] = f32::from_le_bytes(*k);
                self.v[value_at::<1>(row, self.d, i)] = f32::from_le_bytes(*v);
            }
        }
    }
}

/// Keys and values in i8.
pub struct I8Cache {
    pub panels: Panels<i8, 2>,
    k_scale: Vec<f32>, // [kv heads, context]
    v_scale: Vec<f32>, // [kv heads, context]
}

/// Reads the scale after `n` quants.
fn scale_after(bytes: &[u8], n: usize) -> f32 {
    f32::from_le_bytes(bytes[n..].as_chunks().0[0])
}

/// Quantises to the nearest integers in −high..=high and returns the scale. If x contains NaN or infinity the scale is
/// NaN, so that the error propagates to the result.
pub fn quantize(x: &[f32], high: f32, mut put: impl FnMut(usize, i16)) -> f32 {
    let magnitude = fold(x, 0.0, |peak, x| peak.max(x.abs()));
    let peak = magnitude.to_array().into_iter().fold(0.0, f32::max);
    let poison = fold(x, 0.0, |sum, x| sum.add(x.mul(F32x4::splat(0.0))));
    let (inverse, scale) = scale_of(peak, high);
    for (i, v) in x.iter().enumerate() {
        let bits = (v * inverse + SHIFT).to_bits();
        put(i, bits.wrapping_sub(SHIFT.to_bits()) as i16);
    }
    scale + poison.sum()
}

/// What numbers up to `peak` are multiplied by to become integers up to `high`, and what these are multiplied by.
pub fn scale_of(peak: f32, high: f32) -> (f32, f32) {
    match high / peak {
        // Zeros, or values so small that the inverse overflows f32.
        inverse if inverse.is_infinite() => (0.0, 0.0),
        inverse => (inverse, peak / high),
    }
}

impl I8Cache {
    fn new(shape: &AttentionShape, context: usize) -> Self {
        let panels = Panels::new(shape, context);
        let rows = panels.row(panels.n_kv_heads, 0);
        I8Cache {
            panels,
            k_scale: vec![0.0; rows],
            v_scale: vec![0.0; rows],
        }
    }

    /// The scales of the keys from `position` on.
    #[inline(always)]
    pub fn key_scales(&self, head: usize, position: usize) -> &[f32] {
        &self.k_scale[self.panels.row(head, position)..]
    }

    /// The scales of the values from `position` on.
    #[inline(always)]
    pub fn value_scales(&self, head: usize, position: usize) -> &[f32] {
        &self.v_scale[self.panels.row(head, position)..]
    }

    fn append(&mut self, position: usize, k: &[f32], v: &[f32]) {
        let Panels { head_dim, d, .. } = self.panels;
        for (head, (k, v)) in k.chunks(head_dim).zip(v.chunks(head_dim)).enumerate() {
            let row = self.panels.row(head, position);
            let (keys, values) = (&mut self.panels.k, &mut self.panels.v);
            let put = |i, quant| keys[key_at::<2>(row, d, i)] = quant as i8;
            self.k_scale[row] = quantize(k, 127.0, put);
            let put = |i, quant| values[value_at::<2>(row, d, i)] = quant as i8;
            self.v_scale[row] = quantize(v, 127.0, put);
        }
    }

    // Per head: quants and scale of the key, then of the value.
    fn save(&self, position: usize, bytes: &mut Vec<u8>) {
        let Panels {
            k, v, head_dim, d, ..
        } = &self.panels;
        for head in 0..self.panels.n_kv_heads {
            let row = self.panels.row(head, position);
            let key = (0..*head_dim).map(|i| k[key_at::<2>(row, *d, i)]);
            bytes.extend(key.map(i8::cast_unsigned));
            bytes.extend(self.k_scale[row].to_le_bytes());
            let value = (0..*head_dim).map(|i| v[value_at::<2>(row, *d, i)]);
            bytes.extend(value.map(i8::cast_unsigned));
            bytes.extend(self.v_scale[row].to_le_bytes());
        }
    }

    fn restore(&mut self, position: usize, bytes: &[u8]) {
        let Panels { head_dim, d, .. } = self.panels;
        let half_bytes = head_dim + 4;
        for (head, bytes) in bytes.chunks(2 * half_bytes).enumerate() {
            let row = self.panels.row(head, position);
            let (key, value) = bytes.split_at(half_bytes);
            for i in 0..head_dim {
                self.panels.k[key_at::<2>(row, d, i)] = key[i].cast_signed();
                self.panels.v[value_at::<2>(row, d, i)] = value[i].cast_signed();
            }
            self.k_scale[row] = scale_after(key, head_dim);
            self.v_scale[row] = scale_after(value, head_dim);
        }
    }
}
