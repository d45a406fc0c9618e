//! The CPU backend: ops that compute at once, on this thread and the pool's. It stands on floor 2 beside the model,
//! which it never sees. Every op passes through `Cpu::op`, where the profile's span is opened.

mod attention;
mod ceilings;
mod conv1d;
mod elementwise;
mod helper_limit;
mod linear;
mod norm;
mod pool;
mod ssm_scan;
pub(crate) mod threads;
mod vecmath;

use crate::backend::{
    AttentionShape, Backend, Ceilings, Cols, Conv1d, GatedNorm, KvCache, KvFormat, Linear, Norm,
    Rope, Ssm, SsmInput,
};
use crate::error::Result;
use crate::profile::{Profiler, Work};
use crate::quant::QMatrix;
use crate::sampling::Top;
use crate::simd::dot;
use attention::{F32Cache, I8Cache, KvRows, Queries, STRIP, attend};
use conv1d::ConvInput;
use linear::Activations;
pub use linear::CpuWeight;
use pool::{Pieces, Pool, Stripes};
use ssm_scan::{CHUNK, DUAL_FROM, Head};

/// f32 `[rows, cols]`, row-major; the memory of the largest row count stays.
pub struct Tensor {
    rows: usize,
    cols: usize,
    data: Vec<f32>,
}

impl Tensor {
    fn values(&self) -> &[f32] {
        &self.data[..self.rows * self.cols]
    }

    /// Makes the tensor `rows` high for an op that writes all of it.
    fn resize(&mut self, rows: usize) -> &mut [f32] {
        assert!(
            rows * self.cols <= self.data.len(),
            "more rows than the tensor was made for"
        );
        self.rows = rows;
        &mut self.data[..rows * self.cols]
    }
}

/// Some columns of a tensor's rows. // row t: `data[t · stride ..][.. width]`
#[derive(Clone, Copy)]
struct Rows<'a> {
    data: &'a [f32],
    stride: usize,
    width: usize,
}

impl<'a> Rows<'a> {
    fn row(&self, t: usize) -> &'a [f32] {
        &self.data[t * self.stride..][..self.width]
    }

    /// The rows from `first`.
    fn rows_from(&self, first: usize) -> Rows<'a> {
        Rows {
            data: &self.data[first * self.stride..],
            ..*self
        }
    }

    /// `len` of these columns.
    fn columns(&self, start: usize, len: usize) -> Rows<'a> {
        Rows {
            data: &self.data[start..],
            stride: self.stride,
            width: len,
        }
    }
}

impl<'a> Cols<'a, Tensor> {
    fn rows(&self) -> Rows<'a> {
        Rows {
            data: &self.tensor.values()[self.start..],
            stride: self.tensor.cols,
            width: self.len,
        }
    }
}

/// The cache of one hybrid layer.
pub enum CpuKvRows {
    F32(F32Cache),
    I8(I8Cache),
}

impl CpuKvRows {
    fn format(&self) -> KvFormat {
        match self {
            CpuKvRows::F32(_) => KvFormat::F32,
            CpuKvRows::I8(_) => KvFormat::I8,
        }
    }

    fn head_dim(&self) -> usize {
        match self {
            CpuKvRows::F32(rows) => rows.head_dim,
            CpuKvRows::I8(rows) => rows.head_dim,
        }
    }
}

pub struct Cpu {
    pool: Pool,
    profiler: Profiler,
    activations: Activations,
    /// C·B of every two tokens of a chunk, for each group of heads.
    cb: Vec<[f32; CHUNK]>, // [G, T]
}

impl Cpu {
    /// A backend that computes on `threads` threads, the caller's included.
    pub fn new(threads: usize) -> Cpu {
        Cpu {
            pool: Pool::new(threads),
            profiler: Profiler::default(),
            activations: Activations::default(),
            cb: Vec::new(),
        }
    }

    /// The threads that compute.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// From now on `threads` threads compute, as far as there are so many.
    pub fn set_threads(&mut self, threads: usize) {
        self.pool.set_threads(threads);
    }

    /// Measures what this machine can do at best on these threads; takes about a second.
    pub fn ceilings(&self) -> Ceilings {
        ceilings::measure(&self.pool)
    }

    /// Runs one op, whose work is `work`, under a span.
    fn op(&mut self, name: &'static str, work: Work, body: impl FnOnce(&Pool, &mut Activations)) {
        let span = self.profiler.open_op(name);
        body(&self.pool, &mut self.activations);
        self.profiler.close(span, work);
    }

    fn multiply(&mut self, linear: &Linear<Cpu>, x: &Tensor, accumulate: bool, y: &mut Tensor) {
        assert_eq!(
            (x.cols, y.cols),
            (linear.weight.cols, linear.weight.rows),
            "{}",
            linear.name
        );
        let bias = linear.bias.as_ref().map(Tensor::values);
        let work = Work {
            flops: 2 * product([x.rows, linear.weight.cols, linear.weight.rows]),
            bytes: linear.weight.stored_bytes() + bias.map_or(0, size_of_val) as u64,
        };
        self.op(linear.name, work, |pool, activations| {
            let y = y.resize(x.rows);
            linear
                .weight
                .multiply(pool, activations, x.values(), bias, accumulate, y);
        });
    }
}

/// In 64 bits: a count of operations does not fit the addresses of wasm.
fn product<const N: usize>(sizes: [usize; N]) -> u64 {
    sizes.into_iter().map(|size| size as u64).product()
}

fn head_of<'a>(ssm: &Ssm<Cpu>, h: usize, dt_min: f32, state: &'a mut [f32]) -> Head<'a> {
    Head {
        a: ssm.a.data[h],
        d: ssm.d.data[h],
        dt_bias: ssm.dt_bias.data[h],
        dt_min,
        state,
    }
}

impl Backend for Cpu {
    type Tensor = Tensor;
    type Weight = CpuWeight;
    type KvRows = CpuKvRows;

    const TOKENS_AHEAD: usize = 1;

    fn tensor(&mut self, rows: usize, cols: usize) -> Tensor {
        Tensor {
            rows,
            cols,
            data: vec![0.0; rows * cols],
        }
    }

    fn constant(&mut self, rows: usize, cols: usize, data: Vec<f32>) -> Tensor {
        assert_eq!(data.len(), rows * cols);
        Tensor { rows, cols, data }
    }

    fn for_each_piece(
        &self,
        data: &mut [u8],
        piece: usize,
        body: &(dyn Fn(usize, &mut [u8]) + Sync),
    ) {
        let pieces = data.len().div_ceil(piece);
        self.pool.run(pieces, Pieces::new(data, piece), body);
    }

    fn upload(&mut self, matrix: QMatrix) -> CpuWeight {
        CpuWeight::new(&self.pool, matrix)
    }

    fn kv_rows(&mut self, shape: &AttentionShape, context: usize, format: KvFormat) -> CpuKvRows {
        match format {
            KvFormat::I8 if I8Cache::takes(shape) => CpuKvRows::I8(I8Cache::new(shape, context)),
            KvFormat::I8 | KvFormat::F32 => CpuKvRows::F32(F32Cache::new(shape, context)),
        }
    }

    fn clear(&mut self, x: &mut Tensor) {
        x.data.fill(0.0);
    }

    fn embed(&mut self, table: &Linear<Cpu>, tokens: &[u32], y: &mut Tensor) {
        let cols = table.weight.cols;
        let work = Work::moving(tokens.len() * table.weight.row_bytes());
        self.op("embed_tokens", work, |_, _| {
            for (token, y) in tokens.iter().zip(y.resize(tokens.len()).chunks_mut(cols)) {
                table.weight.row(*token as usize, y);
            }
        });
    }

    fn rms_norm(&mut self, norm: &Norm<Cpu>, x: &Tensor, y: &mut Tensor) {
        let weight = norm.weight.values();
        self.op(norm.name, Work::moving(size_of_val(weight)), |pool, _| {
            let d = x.cols;
            pool.run(x.rows, Pieces::new(y.resize(x.rows), d), |t, y| {
                norm::rms_norm_row(weight, norm.eps, &x.values()[t * d..][..d], y);
            });
        });
    }

    fn gated_rms_norm(
        &mut self,
        norm: &GatedNorm<Cpu>,
        x: &Tensor,
        gate: Cols<Tensor>,
        y: &mut Tensor,
    ) {
        let weight = norm.weight.values();
        self.op(
            "mamba.norm",
            Work::moving(size_of_val(weight)),
            |pool, _| {
                let d = x.cols;
                let gate = gate.rows();
                pool.run(x.rows, Pieces::new(y.resize(x.rows), d), |t, y| {
                    let x = &x.values()[t * d..][..d];
                    norm::gated_rms_norm_row(weight, norm.n_groups, norm.eps, x, gate.row(t), y);
                });
            },
        );
    }

    fn linear(&mut self, linear: &Linear<Cpu>, x: &Tensor, y: &mut Tensor) {
        self.multiply(linear, x, false, y);
    }

    fn linear_add(&mut self, linear: &Linear<Cpu>, x: &Tensor, y: &mut Tensor) {
        self.multiply(linear, x, true, y);
    }

    fn causal_conv1d(
        &mut self,
        conv: &Conv1d<Cpu>,
        x: Cols<Tensor>,
        state: &mut Tensor,
        y: &mut Tensor,
    ) {
        let (t_rows, conv_dim) = (x.tensor.rows, x.len);
        let (weight, bias) = (conv.weight.values(), conv.bias.values());
        let state_bytes = size_of_val(state.values());
        let work = Work {
            flops: 2 * product([t_rows, weight.len()]),
            bytes: (size_of_val(weight) + size_of_val(bias) + 2 * state_bytes) as u64,
        };
        self.op("mamba.conv1d", work, |pool, _| {
            let input = ConvInput {
                x: x.tensor.values(),
                start: x.start,
                stride: x.tensor.cols,
                state: state.values(),
            };
            // One row's channels cross from one thread to another more slowly than one thread computes them.
            let parts = if t_rows == 1 { 1 } else { pool.threads() };
            let width = conv_dim.div_ceil(parts);
            let stripes = Stripes::of_columns(y.resize(t_rows), conv_dim, width);
            // Rounding the width up may leave the last threads without a channel.
            pool.run(conv_dim.div_ceil(width), stripes, |part, mut y| {
                for t in 0..t_rows {
                    conv1d::conv1d_row(weight, bias, &input, t, part * width, y.row(t));
                }
            });
            let (start, stride) = (x.start, x.tensor.cols);
            let x = x.tensor.values();
            conv1d::next_state(x, start, stride, t_rows, conv_dim, &mut state.data);
        });
    }

    fn ssm_scan(
        &mut self,
        ssm: &Ssm<Cpu>,
        input: SsmInput<Tensor>,
        state: &mut Tensor,
        y: &mut Tensor,
    ) {
        let (p, n) = (ssm.head_dim, ssm.d_state);
        let t_rows = input.x.tensor.rows;
        let parameters = [&ssm.a, &ssm.d, &ssm.dt_bias].map(|x| size_of_val(x.values()));
        let state_bytes = size_of_val(state.values());
        let work = Work {
            // The recurrence, whichever form is computed: a decay, two for the input and two for the output of each
            // number of the state; dt·x and D·x for each channel.
            flops: product([t_rows, ssm.n_heads, 5 * p * n + 3 * p]),
            bytes: (parameters.iter().sum::<usize>() + 2 * state_bytes) as u64,
        };
        let mut cb = std::mem::take(&mut self.cb);
        self.op("mamba.ssm", work, |pool, _| {
            let [x, b, c, dt] = [input.x, input.b, input.c, input.dt].map(|cols| cols.rows());
            let outputs = y.resize(t_rows);
            let heads_per_group = ssm.n_heads / ssm.n_groups;
            let of_head = |h: usize| {
                let group = h / heads_per_group * n;
                [
                    x.columns(h * p, p),
                    b.columns(group, n),
                    c.columns(group, n),
                ]
            };
            if t_rows < DUAL_FROM {
                let states = Pieces::new(&mut state.data, p * n);
                let outputs = Stripes::of_columns(outputs, x.width, p);
                pool.run(ssm.n_heads, (states, outputs), |h, (state, mut y)| {
                    let (mut head, [x, b, c]) = (head_of(ssm, h, input.dt_min, state), of_head(h));
                    for t in 0..t_rows {
                        head.step(dt.row(t)[h], x.row(t), b.row(t), c.row(t), y.row(t));
                    }
                });
                return;
            }
            for first in (0..t_rows).step_by(CHUNK) {
                let len = CHUNK.min(t_rows - first);
                cb.resize(ssm.n_groups * len, [0.0; CHUNK]);
                pool.run(cb.len(), Pieces::new(&mut cb, 1), |i, row| {
                    let (group, i) = (i / len * n, i % len);
                    let c = c.columns(group, n).row(first + i);
                    for (j, cb) in row[0][..=i].iter_mut().enumerate() {
                        *cb = dot(c, b.columns(group, n).row(first + j));
                    }
                });
                let states = Pieces::new(&mut state.data, p * n);
                let outputs = Stripes::of_columns(&mut *outputs, x.width, p);
                pool.run(ssm.n_heads, (states, outputs), |h, (state, mut y)| {
                    let cb = &cb[h / heads_per_group * len..][..len];
                    let rows = of_head(h).map(|rows| rows.rows_from(first));
                    let dt = |i: usize| dt.row(first + i)[h];
                    head_of(ssm, h, input.dt_min, state).chunk(dt, rows, cb, first, &mut y);
                });
            }
        });
        self.cb = cb;
    }

    fn rope(&mut self, rope: &Rope, position: usize, x: &mut Tensor) {
        self.op("self_attn.rope", Work::NONE, |_, _| {
            let cols = x.cols;
            let rows = x.rows;
            for (t, row) in x.resize(rows).chunks_mut(cols).enumerate() {
                elementwise::rope_row(&rope.inv_freq, rope.head_dim, position + t, row);
            }
        });
    }

    fn append_kv(&mut self, k: &Tensor, v: &Tensor, cache: &mut KvCache<Cpu>) {
        let head_dim = cache.rows.head_dim();
        let head_bytes = cache.rows.format().head_bytes(head_dim);
        let work = Work::moving(2 * k.rows * k.cols / head_dim * head_bytes);
        self.op("self_attn.append_kv", work, |_, _| {
            let pairs = k.values().chunks(k.cols).zip(v.values().chunks(v.cols));
            for (position, (k, v)) in (cache.len..).zip(pairs) {
                match &mut cache.rows {
                    CpuKvRows::F32(rows) => rows.append(position, k, v),
                    CpuKvRows::I8(rows) => rows.append(position, k, v),
                }
            }
        });
        cache.len += k.rows;
    }

    fn attention(
        &mut self,
        shape: &AttentionShape,
        q: &Tensor,
        cache: &KvCache<Cpu>,
        y: &mut Tensor,
    ) {
        let before = cache.len - q.rows;
        // Query t of these meets the keys before and t + 1 more; a pair is a product of heads and a sum of values.
        let pairs = product([q.rows, before]) + product([q.rows, q.rows + 1]) / 2;
        let work = Work {
            flops: 4 * q.cols as u64 * pairs,
            bytes: cache.rows.format().bytes(shape, cache.len),
        };
        self.op("self_attn.attention", work, |pool, _| {
            let d = shape.head_dim;
            let outputs = Stripes::of_columns(y.resize(q.rows), q.cols, d);
            pool.run(shape.n_heads, outputs, |head, mut y| {
                let all = Rows {
                    data: q.values(),
                    stride: q.cols,
                    width: q.cols,
                };
                let queries = Queries {
                    q: all.columns(head * d, d),
                    before,
                    kv_head: head * shape.n_kv_heads / shape.n_heads,
                    scale: shape.scale,
                };
                for first in (0..q.rows).step_by(STRIP) {
                    let n = STRIP.min(q.rows - first);
                    match &cache.rows {
                        CpuKvRows::F32(rows) => attend(rows, &queries, first, n, &mut y),
                        CpuKvRows::I8(rows) => attend(rows, &queries, first, n, &mut y),
                    }
                }
            });
        });
    }

    fn gelu_mul(&mut self, x: &Tensor, y: &mut Tensor) {
        self.op("feed_forward.act_fn", Work::NONE, |pool, _| {
            let (wide, narrow) = (x.cols, y.cols);
            let width = narrow.div_ceil(pool.threads());
            let stripes = Stripes::of_columns(y.resize(x.rows), narrow, width);
            pool.run(narrow.div_ceil(width), stripes, |part, mut y| {
                for (t, x) in x.values().chunks(wide).enumerate() {
                    let y: &mut [f32] = y.row(t);
                    let (gate, up) = x.split_at(narrow);
                    let columns = part * width..part * width + y.len();
                    elementwise::gelu_mul(&gate[columns.clone()], &up[columns], y);
                }
            });
        });
    }

    fn concat(&mut self, a: &Tensor, b: &Tensor, y: &mut Tensor) {
        self.op("shared_transformer.concat", Work::NONE, |_, _| {
            let (left, right) = (a.cols, b.cols);
            let rows = y.resize(a.rows).chunks_mut(left + right);
            for ((y, a), b) in rows
                .zip(a.values().chunks(left))
                .zip(b.values().chunks(right))
            {
                y[..left].copy_from_slice(a);
                y[left..].copy_from_slice(b);
            }
        });
    }

    fn add(&mut self, a: &Tensor, b: &Tensor, y: &mut Tensor) {
        self.op("add", Work::NONE, |_, _| {
            let sums = a.values().iter().zip(b.values()).map(|(a, b)| a + b);
            for (y, sum) in y.resize(a.rows).iter_mut().zip(sums) {
                *y = sum;
            }
        });
    }

    fn last_row(&mut self, x: &Tensor, y: &mut Tensor) {
        let row = &x.values()[(x.rows - 1) * x.cols..];
        y.resize(1).copy_from_slice(row);
    }

    fn top(&mut self, logits: &Tensor, row: usize, y: &mut Tensor) {
        assert_eq!(logits.rows, 1);
        self.op("sampling", Work::NONE, |_, _| {
            let cols = y.cols;
            let top = Top::of(logits.values(), Top::places(cols));
            top.write(&mut y.resize(row + 1)[row * cols..]);
        });
    }

    fn embed_top(&mut self, table: &Linear<Cpu>, top: &Tensor, row: usize, y: &mut Tensor) {
        let top = Top::from_row(&top.values()[row * top.cols..][..top.cols]);
        let known = |token: &u32| (*token as usize) < table.weight.rows;
        let token = top.tokens.first().map(|(token, _)| *token).filter(known);
        self.embed(table, &[token.unwrap_or(0)], y);
    }

    fn copy(&mut self, x: &Tensor, y: &mut Tensor) {
        y.resize(x.rows).copy_from_slice(x.values());
    }

    fn flush(&mut self) {}

    async fn read(&mut self, x: &Tensor) -> Result<Vec<f32>> {
        Ok(x.values().to_vec())
    }

    fn write(&mut self, values: &[f32], x: &mut Tensor) {
        x.resize(x.rows).copy_from_slice(values);
    }

    fn numbers(&self, x: &Tensor) -> usize {
        x.rows * x.cols
    }

    async fn read_kv(&mut self, cache: &KvCache<Cpu>) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(cache.len * self.kv_position_bytes(cache));
        for position in 0..cache.len {
            match &cache.rows {
                CpuKvRows::F32(rows) => rows.save(position, &mut bytes),
                CpuKvRows::I8(rows) => rows.save(position, &mut bytes),
            }
        }
        Ok(bytes)
    }

    fn write_kv(&mut self, bytes: &[u8], cache: &mut KvCache<Cpu>) {
        let position_bytes = self.kv_position_bytes(cache);
        cache.len = bytes.len() / position_bytes;
        for (position, bytes) in bytes.chunks(position_bytes).enumerate() {
            match &mut cache.rows {
                CpuKvRows::F32(rows) => rows.restore(position, bytes),
                CpuKvRows::I8(rows) => rows.restore(position, bytes),
            }
        }
    }

    fn kv_position_bytes(&self, cache: &KvCache<Cpu>) -> usize {
        match &cache.rows {
            CpuKvRows::F32(rows) => rows.position_bytes(),
            CpuKvRows::I8(rows) => rows.position_bytes(),
        }
    }

    fn weight_bytes(&self, weight: &CpuWeight) -> usize {
        weight.bytes()
    }

    fn kv_format(&self, rows: &CpuKvRows) -> KvFormat {
        rows.format()
    }

    fn profiler(&mut self) -> &mut Profiler {
        &mut self.profiler
    }
}
