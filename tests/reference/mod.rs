//! Expected results of every CPU op, in f64 and in the order of the op's definition: candle where it has the op, plain
//! loops elsewhere. Nothing here is optimised, and only the format of a weight matrix is shared with the crate.

#![allow(dead_code, reason = "each test file uses some of it")]

use candle_core::{D, Device, Tensor};
use zamba2::base::quant::{BLOCK, StoredMatrix, StoredRow, WeightFormat};

/// A candle matrix in f64. // values [rows · cols]
pub fn matrix(values: &[f32], rows: usize, cols: usize) -> Tensor {
    let values = values.iter().map(|v| f64::from(*v)).collect();
    Tensor::from_vec(values, (rows, cols), &Device::Cpu).unwrap()
}

fn numbers(tensor: candle_core::Result<Tensor>) -> Vec<f64> {
    tensor.unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The weights that a stored matrix represents, row-major.
pub fn dequantized(matrix: &StoredMatrix) -> Vec<f32> {
    let mut values = vec![0.0; matrix.rows * matrix.cols];
    for (row, out) in values.chunks_mut(matrix.cols).enumerate() {
        matrix.dequantize_row(row, out);
    }
    values
}

/// x·Wᵀ with the dequantised weights. // x [T, cols] → [T, rows]
pub fn linear(weight: &StoredMatrix, x: &[f32]) -> Vec<f64> {
    let (rows, cols) = (weight.rows, weight.cols);
    let w = matrix(&dequantized(weight), rows, cols);
    numbers(matrix(x, x.len() / cols, cols).matmul(&w.t().unwrap()))
}

/// Σ|w·x| of every output, which the rounding of f32 sums is relative to. // x [T, cols] → [T, rows]
pub fn linear_magnitudes(weight: &StoredMatrix, x: &[f32]) -> Vec<f64> {
    let (rows, cols) = (weight.rows, weight.cols);
    let w = matrix(&dequantized(weight), rows, cols).abs().unwrap();
    let x = matrix(x, x.len() / cols, cols).abs().unwrap();
    numbers(x.matmul(&w.t().unwrap()))
}

/// One output of a quantised product.
pub struct QuantizedSum {
    /// The integer sum, with activations quantised as the kernel does it.
    pub value: f64,
    /// Σ|w·x|, which the rounding of f32 sums is relative to.
    pub magnitude: f64,
    /// The largest change that rounding the activations can cause: half a step each.
    pub worst_rounding: f64,
    /// Its variance if every remainder is equally likely: step²/12 each.
    pub rounding_variance: f64,
}

/// The product of row `row` of a q8 or q4 matrix with `x`. Blocks of activations are quantised in f32 to at most 32767
/// per 32 (q8) or 127 per 64 (q4), rounding half to even, as `src/device/cpu/linear/activations.rs` does. The rest is
/// exact. // x [cols]
pub fn quantized_sum(weight: &StoredMatrix, row: usize, x: &[f32]) -> QuantizedSum {
    let (high, columns) = match weight.format {
        WeightFormat::F32 => panic!("f32 has no quants"),
        WeightFormat::Q8 => (32767.0f32, 32),
        WeightFormat::Q4 => (127.0, 64),
    };
    let mut sum = QuantizedSum {
        value: 0.0,
        magnitude: 0.0,
        worst_rounding: 0.0,
        rounding_variance: 0.0,
    };
    for (i, x) in x.chunks(columns).enumerate() {
        let peak = x.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let inverse = if (high / peak).is_finite() {
            high / peak
        } else {
            0.0
        };
        let step = f64::from(peak / high);
        for (column, x) in (i * columns..).zip(x) {
            let scale = block_scale(weight, row, column / BLOCK);
            let w = scale * weight_quant(weight, row, column) as f64;
            sum.value += w * f64::from((x * inverse).round_ties_even()) * step;
            sum.magnitude += (w * f64::from(*x)).abs();
            // A block whose scale would be outside f32's range is quantised to zero, so its error is the block itself.
            let step = if inverse == 0.0 {
                2.0 * f64::from(peak)
            } else {
                step
            };
            sum.worst_rounding += w.abs() * step / 2.0;
            sum.rounding_variance += (w * step).powi(2) / 12.0;
        }
    }
    sum
}

fn parts(weight: &StoredMatrix, row: usize) -> StoredRow<'_> {
    StoredRow::of(weight.row(row), weight.cols.div_ceil(BLOCK))
}

fn block_scale(weight: &StoredMatrix, row: usize, block: usize) -> f64 {
    let row = parts(weight, row);
    f64::from(row.scale) * f64::from(i16::from_le_bytes(row.block_scales[block]))
}

fn weight_quant(weight: &StoredMatrix, row: usize, column: usize) -> i64 {
    let quants = parts(weight, row).quants;
    match weight.format {
        WeightFormat::F32 => panic!("f32 has no quants"),
        WeightFormat::Q8 => i64::from(quants[column].cast_signed()),
        WeightFormat::Q4 => i64::from(quants[column / 2] >> (4 * (column % 2)) & 15) - 8,
    }
}

/// weight · x / sqrt(mean(x²) + eps). // x [T, d], weight [d]
pub fn rms_norm(weight: &[f32], eps: f32, x: &[f32]) -> Vec<f64> {
    let d = weight.len();
    let x = matrix(x, x.len() / d, d);
    let mean = x.sqr().and_then(|x| x.mean_keepdim(D::Minus1)).unwrap();
    let root = (mean + f64::from(eps)).and_then(|mean| mean.sqrt());
    let normed = x.broadcast_div(&root.unwrap()).unwrap();
    numbers(normed.broadcast_mul(&matrix(weight, 1, d)))
}

/// RMSNorm of x · silu(gate) with one mean per group. // x, gate [T, d], weight [d]
pub fn gated_rms_norm(
    weight: &[f32],
    n_groups: usize,
    eps: f32,
    x: &[f32],
    gate: &[f32],
) -> Vec<f64> {
    let (d, width) = (weight.len(), weight.len() / n_groups);
    let mut y: Vec<f64> = (x.iter().zip(gate))
        .map(|(x, gate)| f64::from(*x) * silu(f64::from(*gate)))
        .collect();
    for (group, y) in y.chunks_mut(width).enumerate() {
        let mean = y.iter().map(|v| v * v).sum::<f64>() / width as f64;
        for (i, y) in y.iter_mut().enumerate() {
            let weight = weight[(group * width + i) % d];
            *y *= f64::from(weight) / (mean + f64::from(eps)).sqrt();
        }
    }
    y
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// y[t, c] = silu(bias[c] + Σₖ weight[k, c] · input[t + k, c]), where `inputs` has the d_conv − 1 rows of the state
/// before the rows of x. // inputs [d_conv − 1 + T, conv_dim], weight [d_conv, conv_dim], bias [conv_dim]
pub fn causal_conv1d(weight: &[f32], bias: &[f32], inputs: &[f32]) -> Vec<f64> {
    let conv_dim = bias.len();
    let d_conv = weight.len() / conv_dim;
    let t_rows = inputs.len() / conv_dim + 1 - d_conv;
    let mut y = Vec::new();
    for t in 0..t_rows {
        for c in 0..conv_dim {
            let mut sum = f64::from(bias[c]);
            for k in 0..d_conv {
                sum +=
                    f64::from(weight[k * conv_dim + c]) * f64::from(inputs[(t + k) * conv_dim + c]);
            }
            y.push(silu(sum));
        }
    }
    y
}

/// All inputs of a scan; H heads of width P, states of width N, G groups.
pub struct Scan {
    pub n_heads: usize,
    pub head_dim: usize,
    pub d_state: usize,
    pub n_groups: usize,
    pub dt_min: f32,
    pub a: Vec<f32>,       // [H]
    pub d: Vec<f32>,       // [H]
    pub dt_bias: Vec<f32>, // [H]
    pub x: Vec<f32>,       // [T, H·P]
    pub b: Vec<f32>,       // [T, G·N]
    pub c: Vec<f32>,       // [T, G·N]
    pub dt: Vec<f32>,      // [T, H]
    pub state: Vec<f32>,   // [H·P, N]
}

impl Scan {
    /// S[h, p, n] ← exp(dt·A[h])·S[h, p, n] + dt·x[h, p]·B[g, n]; y[h, p] = Σₙ C[g, n]·S[h, p, n] + D[h]·x[h, p].
    /// Gives y and the state after the last token. // [T, H·P], [H·P, N]
    pub fn run(&self) -> (Vec<f64>, Vec<f64>) {
        let (n_heads, p_len, n_len) = (self.n_heads, self.head_dim, self.d_state);
        let mut state: Vec<f64> = self.state.iter().map(|v| f64::from(*v)).collect();
        let mut y = Vec::new();
        for t in 0..self.dt.len() / n_heads {
            for h in 0..n_heads {
                let raw = f64::from(self.dt[t * n_heads + h]) + f64::from(self.dt_bias[h]);
                // Above 700 eˣ overflows f64, and softplus(x) equals x long before.
                let softplus = if raw > 700.0 { raw } else { raw.exp().ln_1p() };
                let dt = softplus.max(f64::from(self.dt_min));
                let group = h / (n_heads / self.n_groups);
                for p in 0..p_len {
                    let x = f64::from(self.x[(t * n_heads + h) * p_len + p]);
                    let mut sum = f64::from(self.d[h]) * x;
                    for n in 0..n_len {
                        let at = (t * self.n_groups + group) * n_len + n;
                        let s = &mut state[(h * p_len + p) * n_len + n];
                        *s =
                            (dt * f64::from(self.a[h])).exp() * *s + dt * x * f64::from(self.b[at]);
                        sum += f64::from(self.c[at]) * *s;
                    }
                    y.push(sum);
                }
            }
        }
        (y, state)
    }
}

/// Rotates the first and second half of each head of each row: [a·cos − b·sin, b·cos + a·sin]. The angle is an f32
/// product, as in the model's reference. // x [T, heads · d], inv_freq [d / 2]
pub fn rope(inv_freq: &[f32], position: usize, x: &[f32], n_heads: usize) -> Vec<f64> {
    let half = inv_freq.len();
    let t_rows = x.len() / (2 * half * n_heads);
    let angles: Vec<f32> = (0..t_rows * n_heads)
        .flat_map(|row| {
            let position = (position + row / n_heads) as f32;
            inv_freq.iter().map(move |freq| position * freq)
        })
        .collect();
    let heads = matrix(x, t_rows * n_heads, 2 * half);
    let angles = matrix(&angles, t_rows * n_heads, half);
    let (cos, sin) = (angles.cos().unwrap(), angles.sin().unwrap());
    let (a, b) = (
        heads.narrow(1, 0, half).unwrap(),
        heads.narrow(1, half, half).unwrap(),
    );
    let left = (&a * &cos).unwrap() - (&b * &sin).unwrap();
    let right = (&b * &cos).unwrap() + (&a * &sin).unwrap();
    numbers(Tensor::cat(&[left.unwrap(), right.unwrap()], 1))
}

/// Causal attention of the last T of L positions, head by head; query head i uses key/value head i·kv / heads.
/// // q [T, heads · d], k, v [L, kv · d]
pub fn attention(
    n_heads: usize,
    n_kv_heads: usize,
    d: usize,
    scale: f32,
    [q, k, v]: [&[f32]; 3],
) -> Vec<f64> {
    let (t_rows, len) = (q.len() / (n_heads * d), k.len() / (n_kv_heads * d));
    let q = matrix(q, t_rows, n_heads * d);
    let [k, v] = [k, v].map(|values| matrix(values, len, n_kv_heads * d));
    let unseen = (0..t_rows).flat_map(|t| {
        let seen = len - t_rows + t + 1;
        (0..len).map(move |position| {
            if position < seen {
                0.0
            } else {
                f32::NEG_INFINITY
            }
        })
    });
    let mask = matrix(&unseen.collect::<Vec<f32>>(), t_rows, len);
    let heads = (0..n_heads).map(|head| {
        let kv = head / (n_heads / n_kv_heads) * d;
        let q = q.narrow(1, head * d, d).unwrap();
        let [k, v] = [&k, &v].map(|rows| rows.narrow(1, kv, d).unwrap());
        let scores = q
            .matmul(&k.t().unwrap())
            .and_then(|scores| scores * f64::from(scale));
        let scores = (scores.unwrap() + &mask).unwrap();
        let peak = scores.max_keepdim(1).unwrap();
        let weights = scores.broadcast_sub(&peak).and_then(|s| s.exp()).unwrap();
        let total = weights.sum_keepdim(1).unwrap();
        weights
            .broadcast_div(&total)
            .and_then(|w| w.matmul(&v))
            .unwrap()
    });
    numbers(Tensor::cat(&heads.collect::<Vec<_>>(), 1))
}

/// gelu(x[:, :d]) · x[:, d:]. // x [T, 2d] → [T, d]
pub fn gelu_mul(x: &[f32], d: usize) -> Vec<f64> {
    let x = matrix(x, x.len() / (2 * d), 2 * d);
    let gate = x.narrow(1, 0, d).and_then(|gate| gate.gelu_erf()).unwrap();
    numbers(gate * x.narrow(1, d, d).unwrap())
}
