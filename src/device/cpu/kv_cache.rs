//! The KV cache of one hybrid block, in f32 or in i8 with a scale per head and position. In i8, queries and attention
//! weights become 16-bit integers, so both products are exact integer sums until they are scaled. The softmax is in
//! `attention.rs`.

use crate::base::simd::{F32x4, I8x16, I16x8, I32x4, dot, fold, map_with};
use crate::ops::device::{AttentionShape, KvFormat};

/// The cache of one hybrid block.
pub enum CpuKvRows {
    F32(F32Cache),
    I8(I8Cache),
}

impl CpuKvRows {
    pub fn new(shape: &AttentionShape, context: usize, format: KvFormat) -> CpuKvRows {
        match format {
            KvFormat::I8 if I8Cache::supports(shape) => CpuKvRows::I8(I8Cache::new(shape, context)),
            KvFormat::I8 | KvFormat::F32 => CpuKvRows::F32(F32Cache::new(shape, context)),
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
/// Keys in i8 that are multiplied with a query at a time.
const KEYS: usize = 4;
/// Columns of an i8 vector; a head is padded to a multiple of it.
const VECTOR: usize = 16;

/// Keys or values in f32. // [kv heads, context, head_dim]
pub struct F32Cache {
    k: Vec<f32>,
    v: Vec<f32>,
    context: usize,
    pub head_dim: usize,
}

/// Keys and values in i8. The values of a block are stored in the order in which they are read: sixteen columns of all
/// its positions, two positions interleaved. // k [kv heads, context, d], v [kv heads, context / BLOCK, d / 16, BLOCK /
/// 2, 16, 2]
pub struct I8Cache {
    k: Vec<i8>,
    v: Vec<i8>,
    k_scale: Vec<f32>, // [kv heads, context]
    v_scale: Vec<f32>, // [kv heads, context]
    /// A multiple of [`BLOCK`].
    context: usize,
    pub head_dim: usize,
    /// head_dim padded to a multiple of [`VECTOR`].
    d: usize,
}

/// Attention over one storage format, block by block.
pub trait KvRows: Sync {
    /// A query converted for the products of this format.
    type Query;

    /// Stores one position's keys and values of all heads. // k, v [kv heads · head_dim]
    fn append(&mut self, position: usize, k: &[f32], v: &[f32]);
    fn query(&self, q: &[f32], scale: f32) -> Self::Query;
    /// scores[i] = scale · q·k for the position `start + i`.
    fn scores(&self, head: usize, query: &Self::Query, start: usize, scores: &mut [f32]);
    /// y += Σ weights · v over positions `start ..`, where `start` is a multiple of [`BLOCK`]. The weights may be
    /// overwritten. // y [head_dim]
    fn add_values(&self, head: usize, start: usize, weights: &mut [f32], y: &mut [f32]);
    /// Appends one position's keys and values to `bytes` in the storage format. // [kv heads][k, v]
    fn save(&self, position: usize, bytes: &mut Vec<u8>);
    /// Restores a position from the bytes of `save`.
    fn restore(&mut self, position: usize, bytes: &[u8]);
}

impl F32Cache {
    pub fn new(shape: &AttentionShape, context: usize) -> Self {
        let numbers = shape.n_kv_heads * context * shape.head_dim;
        F32Cache {
            k: vec![0.0; numbers],
            v: vec![0.0; numbers],
            context,
            head_dim: shape.head_dim,
        }
    }

    fn at(&self, head: usize, position: usize) -> usize {
        (head * self.context + position) * self.head_dim
    }
}

impl KvRows for F32Cache {
    type Query = Vec<f32>;

    fn append(&mut self, position: usize, k: &[f32], v: &[f32]) {
        let d = self.head_dim;
        for (head, (k, v)) in k.chunks(d).zip(v.chunks(d)).enumerate() {
            let at = self.at(head, position);
            self.k[at..at + d].copy_from_slice(k);
            self.v[at..at + d].copy_from_slice(v);
        }
    }

    fn query(&self, q: &[f32], scale: f32) -> Vec<f32> {
        q.iter().map(|q| q * scale).collect()
    }

    fn scores(&self, head: usize, query: &Vec<f32>, start: usize, scores: &mut [f32]) {
        let keys = self.k[self.at(head, start)..].chunks(self.head_dim);
        for (score, key) in scores.iter_mut().zip(keys) {
            *score = dot(query, key);
        }
    }

    fn add_values(&self, head: usize, start: usize, weights: &mut [f32], y: &mut [f32]) {
        let values = self.v[self.at(head, start)..].chunks(self.head_dim);
        for (weight, value) in weights.iter().zip(values) {
            let weight = F32x4::splat(*weight);
            map_with(y, value, |y, value| y.mul_add(weight, value));
        }
    }

    fn save(&self, position: usize, bytes: &mut Vec<u8>) {
        let d = self.head_dim;
        for head in 0..self.k.len() / (self.context * d) {
            let at = self.at(head, position);
            let numbers = self.k[at..at + d].iter().chain(&self.v[at..at + d]);
            bytes.extend(numbers.flat_map(|number| number.to_le_bytes()));
        }
    }

    fn restore(&mut self, position: usize, bytes: &[u8]) {
        let d = self.head_dim;
        for (head, bytes) in bytes.chunks(8 * d).enumerate() {
            let at = self.at(head, position);
            let numbers = bytes.as_chunks().0;
            let places = self.k[at..at + d].iter_mut().chain(&mut self.v[at..at + d]);
            for (place, number) in places.zip(numbers) {
                *place = f32::from_le_bytes(*number);
            }
        }
    }
}

/// The largest supported head_dim; the published models have 128 to 224.
const MAX_HEAD_DIM: usize = 512;

/// A query as 16-bit integers, padded with zeros, and the scale of its products.
pub struct I8Query {
    quants: [[i16; 8]; MAX_HEAD_DIM / 8],
    scale: f32,
}

impl I8Cache {
    /// Whether this format supports the head size.
    pub fn supports(shape: &AttentionShape) -> bool {
        shape.head_dim <= MAX_HEAD_DIM
    }

    pub fn new(shape: &AttentionShape, context: usize) -> Self {
        assert!(
            I8Cache::supports(shape),
            "the head is too wide for this cache"
        );
        let d = shape.head_dim.next_multiple_of(VECTOR);
        let context = context.next_multiple_of(BLOCK);
        let rows = shape.n_kv_heads * context;
        I8Cache {
            k: vec![0; rows * d],
            v: vec![0; rows * d],
            k_scale: vec![0.0; rows],
            v_scale: vec![0.0; rows],
            context,
            head_dim: shape.head_dim,
            d,
        }
    }
}

/// The index of column `i` in the values. `context` is a multiple of [`BLOCK`], so `row % BLOCK` is the position in its
/// block.
fn value_at(row: usize, d: usize, i: usize) -> usize {
    let in_block = row % BLOCK;
    let first = in_block / 2 * 2 * VECTOR + in_block % 2;
    (row - in_block) * d + i / VECTOR * BLOCK * VECTOR + first + i % VECTOR * 2
}

/// Reads the scale after `n` quants.
fn scale_after(bytes: &[u8], n: usize) -> f32 {
    f32::from_le_bytes(bytes[n..].as_chunks().0[0])
}

/// Quantises to the nearest integers in −high..=high and returns the scale. If x contains NaN or infinity the scale is
/// NaN, so that the error propagates to the result.
fn quantize(x: &[f32], high: f32, mut put: impl FnMut(usize, i16)) -> f32 {
    let magnitude = fold(x, 0.0, |peak, x| peak.max(x.abs()));
    let peak = magnitude.to_array().into_iter().fold(0.0, f32::max);
    let poison = fold(x, 0.0, |sum, x| sum.add(x.mul(F32x4::splat(0.0))));
    // Zeros, or values so small that the inverse overflows f32.
    let (inverse, scale) = match high / peak {
        inverse if inverse.is_infinite() => (0.0, 0.0),
        inverse => (inverse, peak / high),
    };
    for (i, v) in x.iter().enumerate() {
        // Adding 1.5·2²³ leaves the nearest integer in the low bits of the sum.
        const SHIFT: f32 = 12_582_912.0;
        let bits = (v * inverse + SHIFT).to_bits();
        put(i, bits.wrapping_sub(SHIFT.to_bits()) as i16);
    }
    scale + poison.sum()
}

impl I8Cache {
    fn n_kv_heads(&self) -> usize {
        self.k_scale.len() / self.context
    }

    fn value_at(&self, row: usize, i: usize) -> usize {
        value_at(row, self.d, i)
    }

    /// Integer q·k of `N` positions. // keys [N, d]
    #[inline(always)]
    fn products<const N: usize>(&self, query: &I8Query, keys: &[i8]) -> [i32; N] {
        let keys: [&[[i8; VECTOR]]; N] =
            std::array::from_fn(|n| keys[n * self.d..][..self.d].as_chunks().0);
        let mut sums = [I32x4::splat(0); N];
        let quants = &query.quants.as_chunks::<2>().0[..self.d / VECTOR];
        for (i, [low, high]) in quants.iter().enumerate() {
            let (low, high) = (I16x8::load(low), I16x8::load(high));
            for (sum, keys) in sums.iter_mut().zip(keys) {
                let key = I8x16::load(&keys[i]);
                *sum =
                    (sum.add(key.widen_low().dot_pairs(low))).add(key.widen_high().dot_pairs(high));
            }
        }
        sums.map(|sum| {
            let mut lanes = [0; 4];
            sum.store(&mut lanes);
            lanes.iter().sum()
        })
    }
}

impl KvRows for I8Cache {
    type Query = I8Query;

    fn append(&mut self, position: usize, k: &[f32], v: &[f32]) {
        let d = self.head_dim;
        for (head, (k, v)) in k.chunks(d).zip(v.chunks(d)).enumerate() {
            let row = head * self.context + position;
            let keys = &mut self.k[row * self.d..];
            self.k_scale[row] = quantize(k, 127.0, |i, quant| keys[i] = quant as i8);
            let at = |i| value_at(row, self.d, i);
            self.v_scale[row] = quantize(v, 127.0, |i, quant| self.v[at(i)] = quant as i8);
        }
    }

    fn query(&self, q: &[f32], scale: f32) -> I8Query {
        let mut quants = [[0; 8]; MAX_HEAD_DIM / 8];
        // Small enough that the sum over a head stays below 2³¹.
        let high = (i32::MAX / (127 * self.d as i32)).min(32767) as f32;
        let flat = quants.as_flattened_mut();
        let step = quantize(q, high, |i, quant| flat[i] = quant);
        I8Query {
            quants,
            scale: step * scale,
        }
    }

    fn scores(&self, head: usize, query: &I8Query, start: usize, scores: &mut [f32]) {
        let row = head * self.context + start;
        let keys = &self.k[row * self.d..][..scores.len() * self.d];
        let mut sums = [0; BLOCK];
        let sums = &mut sums[..scores.len()];
        let (fours, rest) = sums.as_chunks_mut::<KEYS>();
        let (four_keys, rest_keys) = keys.split_at(fours.len() * KEYS * self.d);
        for (sums, keys) in fours.iter_mut().zip(four_keys.chunks(KEYS * self.d)) {
            *sums = self.products(query, keys);
        }
        for (sum, key) in rest.iter_mut().zip(rest_keys.chunks(self.d)) {
            [*sum] = self.products(query, key);
        }
        for ((score, sum), key_scale) in scores.iter_mut().zip(sums).zip(&self.k_scale[row..]) {
            *score = *sum as f32 * (key_scale * query.scale);
        }
    }

    fn add_values(&self, head: usize, start: usize, weights: &mut [f32], y: &mut [f32]) {
        let row = head * self.context + start;
        for (weight, value_scale) in weights.iter_mut().zip(&self.v_scale[row..]) {
            *weight *= value_scale;
        }
        let mut pairs = [[0i16; 2]; BLOCK / 2];
        let flat = pairs.as_flattened_mut();
        let scale = F32x4::splat(quantize(weights, 32767.0, |i, quant| flat[i] = quant));
        let pairs = &pairs[..weights.len().div_ceil(2)];
        let values = &self.v[row * self.d..][..BLOCK * self.d];
        // Sixteen columns at a time, whose sums stay in registers over all positions.
        for (values, y) in values.chunks(BLOCK * VECTOR).zip(y.chunks_mut(VECTOR)) {
            let mut sums = [I32x4::splat(0); 4];
            let values: &[[[i8; VECTOR]; 2]] = values.as_chunks().0.as_chunks().0;
            for (pair, two) in pairs.iter().zip(values) {
                let weights = I16x8::splat_pair(pair);
                for (sums, values) in sums.as_chunks_mut::<2>().0.iter_mut().zip(two) {
                    let values = I8x16::load(values);
                    sums[0] = sums[0].add(values.widen_low().dot_pairs(weights));
                    sums[1] = sums[1].add(values.widen_high().dot_pairs(weights));
                }
            }
            let mut columns = [[0.0; 4]; 4];
            for (columns, sum) in columns.iter_mut().zip(sums) {
                sum.to_f32().mul(scale).store(columns);
            }
            for (y, column) in y.iter_mut().zip(columns.as_flattened()) {
                *y += column;
            }
        }
    }

    // Per head: quants and scale of the key, then of the value.
    fn save(&self, position: usize, bytes: &mut Vec<u8>) {
        for head in 0..self.n_kv_heads() {
            let row = head * self.context + position;
            let key = &self.k[row * self.d..][..self.head_dim];
            bytes.extend(key.iter().map(|quant| quant.cast_unsigned()));
            bytes.extend(self.k_scale[row].to_le_bytes());
            let value = (0..self.head_dim).map(|i| self.v[self.value_at(row, i)]);
            bytes.extend(value.map(i8::cast_unsigned));
            bytes.extend(self.v_scale[row].to_le_bytes());
        }
    }

    fn restore(&mut self, position: usize, bytes: &[u8]) {
        let half_bytes = self.head_dim + 4;
        for (head, bytes) in bytes.chunks(2 * half_bytes).enumerate() {
            let row = head * self.context + position;
            let (key, value) = bytes.split_at(half_bytes);
            for i in 0..self.head_dim {
                self.k[row * self.d + i] = key[i].cast_signed();
                let at = self.value_at(row, i);
                self.v[at] = value[i].cast_signed();
            }
            self.k_scale[row] = scale_after(key, self.head_dim);
            self.v_scale[row] = scale_after(value, self.head_dim);
        }
    }
}
