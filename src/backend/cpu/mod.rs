//! The CPU backend: ops that compute at once, on this thread and the pool's. It stands on floor 2 beside the model,
//! which it never sees. Every op passes through `Cpu::op`, where the profile's span is opened.

mod attention;
mod conv1d;
mod elementwise;
mod linear;
mod norm;
mod pool;
mod simd;
mod ssm_scan;
pub(crate) mod threads;

use crate::backend::{
    AttentionShape, Backend, Cols, Conv1d, GatedNorm, KvCache, Linear, Norm, Rope, Ssm, SsmInput,
};
use crate::error::Result;
use crate::profile::Profiler;
use crate::quant::QMatrix;
use attention::HeadRows;
use conv1d::ConvInput;
use linear::Activations;
pub use linear::CpuWeight;
use pool::{Pool, Stripes};
use ssm_scan::Head;

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

impl Cols<'_, Tensor> {
    fn row(&self, t: usize) -> &[f32] {
        &self.tensor.values()[t * self.tensor.cols + self.start..][..self.len]
    }
}

pub struct Cpu {
    pool: Pool,
    profiler: Profiler,
    activations: Activations,
}

impl Cpu {
    /// A backend that computes on `threads` threads, the caller's included.
    pub fn new(threads: usize) -> Cpu {
        Cpu {
            pool: Pool::new(threads),
            profiler: Profiler::default(),
            activations: Activations::default(),
        }
    }

    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Runs one op under a span that read `bytes` of weights.
    fn op(&mut self, name: &'static str, bytes: usize, body: impl FnOnce(&Pool, &mut Activations)) {
        let span = self.profiler.open_op(name);
        body(&self.pool, &mut self.activations);
        self.profiler.close(span, bytes);
    }

    fn multiply(&mut self, linear: &Linear<Cpu>, x: &Tensor, accumulate: bool, y: &mut Tensor) {
        assert_eq!(
            (x.cols, y.cols),
            (linear.weight.cols, linear.weight.rows),
            "{}",
            linear.name
        );
        self.op(linear.name, linear.weight.bytes(), |pool, activations| {
            let bias = linear.bias.as_ref().map(Tensor::values);
            let y = y.resize(x.rows);
            linear
                .weight
                .multiply(pool, activations, x.values(), bias, accumulate, y);
        });
    }
}

impl Backend for Cpu {
    type Tensor = Tensor;
    type Weight = CpuWeight;

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

    fn upload(&mut self, matrix: QMatrix) -> CpuWeight {
        CpuWeight::new(matrix)
    }

    fn clear(&mut self, x: &mut Tensor) {
        x.data.fill(0.0);
    }

    fn embed(&mut self, table: &Linear<Cpu>, tokens: &[u32], y: &mut Tensor) {
        let cols = table.weight.cols;
        self.op("embed_tokens", 0, |_, _| {
            for (token, y) in tokens.iter().zip(y.resize(tokens.len()).chunks_mut(cols)) {
                table.weight.row(*token as usize, y);
            }
        });
    }

    fn rms_norm(&mut self, norm: &Norm<Cpu>, x: &Tensor, y: &mut Tensor) {
        self.op(norm.name, 0, |_, _| {
            norm::rms_norm(norm.weight.values(), norm.eps, x.values(), y.resize(x.rows));
        });
    }

    fn gated_rms_norm(
        &mut self,
        norm: &GatedNorm<Cpu>,
        x: &Tensor,
        gate: Cols<Tensor>,
        y: &mut Tensor,
    ) {
        self.op("mamba.norm", 0, |pool, _| {
            let (weight, d) = (norm.weight.values(), x.cols);
            let rows = Stripes::of_slice(y.resize(x.rows), d);
            pool.run(x.rows, rows, |t, mut y| {
                let x = &x.values()[t * d..][..d];
                norm::gated_rms_norm_row(weight, norm.n_groups, norm.eps, x, gate.row(t), y.row(0));
            });
        });
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
        self.op("mamba.conv1d", 0, |pool, _| {
            let (t_rows, conv_dim) = (x.tensor.rows, x.len);
            let (weight, bias) = (conv.weight.values(), conv.bias.values());
            let input = ConvInput {
                x: x.tensor.values(),
                start: x.start,
                stride: x.tensor.cols,
                state: state.values(),
            };
            let width = conv_dim.div_ceil(pool.threads());
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
        self.op("mamba.ssm", 0, |pool, _| {
            let SsmInput {
                x,
                b,
                c,
                dt,
                dt_min,
            } = input;
            let (p, n, d_inner) = (ssm.head_dim, ssm.d_state, x.len);
            let t_rows = x.tensor.rows;
            let heads_per_group = ssm.n_heads / ssm.n_groups;
            let states = Stripes::of_slice(&mut state.data, p * n);
            let outputs = Stripes::of_columns(y.resize(t_rows), d_inner, p);
            pool.run(ssm.n_heads, (states, outputs), |h, (mut state, mut y)| {
                let mut head = Head {
                    a: ssm.a.data[h],
                    d: ssm.d.data[h],
                    dt_bias: ssm.dt_bias.data[h],
                    dt_min,
                    state: state.row(0),
                };
                let group = h / heads_per_group * n..(h / heads_per_group + 1) * n;
                for t in 0..t_rows {
                    let (b, c) = (&b.row(t)[group.clone()], &c.row(t)[group.clone()]);
                    let x = &x.row(t)[h * p..][..p];
                    head.step(dt.row(t)[h], x, b, c, y.row(t));
                }
            });
        });
    }

    fn rope(&mut self, rope: &Rope, position: usize, x: &mut Tensor) {
        self.op("self_attn.rope", 0, |_, _| {
            let cols = x.cols;
            let rows = x.rows;
            for (t, row) in x.resize(rows).chunks_mut(cols).enumerate() {
                elementwise::rope_row(&rope.inv_freq, rope.head_dim, position + t, row);
            }
        });
    }

    fn append_kv(&mut self, k: &Tensor, v: &Tensor, cache: &mut KvCache<Cpu>) {
        let at = cache.len * k.cols;
        for (new, kept) in [(k, &mut cache.k), (v, &mut cache.v)] {
            kept.data[at..at + new.values().len()].copy_from_slice(new.values());
        }
        cache.len += k.rows;
    }

    fn attention(
        &mut self,
        shape: &AttentionShape,
        q: &Tensor,
        cache: &KvCache<Cpu>,
        y: &mut Tensor,
    ) {
        self.op("self_attn.attention", 0, |pool, _| {
            let (d, t_rows) = (shape.head_dim, q.rows);
            let before = cache.len - t_rows;
            let stripes = Stripes::of_columns(y.resize(t_rows), q.cols, d);
            pool.run(shape.n_heads, stripes, |head, mut y| {
                let kv_head = head * shape.n_kv_heads / shape.n_heads;
                let rows = |tensor| HeadRows {
                    data: Tensor::values(tensor),
                    width: shape.n_kv_heads * d,
                    start: kv_head * d,
                };
                let (k, v) = (rows(&cache.k), rows(&cache.v));
                let mut scores = Vec::with_capacity(cache.len);
                for t in 0..t_rows {
                    let q = &q.values()[t * q.cols + head * d..][..d];
                    let len = before + t + 1;
                    attention::attend(q, &k, &v, len, shape.scale, &mut scores, y.row(t));
                }
            });
        });
    }

    fn gelu_mul(&mut self, x: &Tensor, y: &mut Tensor) {
        self.op("feed_forward.act_fn", 0, |_, _| {
            let (wide, narrow) = (x.cols, y.cols);
            let rows = y.resize(x.rows).chunks_mut(narrow);
            for (x, y) in x.values().chunks(wide).zip(rows) {
                elementwise::gelu_mul_row(x, y);
            }
        });
    }

    fn concat(&mut self, a: &Tensor, b: &Tensor, y: &mut Tensor) {
        self.op("shared_transformer.concat", 0, |_, _| {
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
        self.op("add", 0, |_, _| {
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

    fn flush(&mut self) {}

    async fn read(&mut self, x: &Tensor) -> Result<Vec<f32>> {
        Ok(x.values().to_vec())
    }

    fn weight_bytes(&self, weight: &CpuWeight) -> usize {
        weight.bytes()
    }

    fn profiler(&mut self) -> &mut Profiler {
        &mut self.profiler
    }
}
