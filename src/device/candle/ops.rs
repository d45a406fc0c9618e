//! The ops as candle tensor operations, in the plainest form: each line corresponds to a line of the op's definition.
//! Other devices are compared with them, so they are not optimised.

use candle_core::{D, Result, Tensor};

use crate::device::candle::Candle;
use crate::device::candle::tensor::{CandleTensor, CandleWeight, columns};
use crate::ops::device::{
    AttentionShape, Cols, Conv1d, Draw, GatedNorm, KvCache, Linear, Norm, Rope, Ssm, SsmInput,
};
use crate::ops::op_traits::{
    AttentionKernels, ConvKernels, ElementwiseKernels, EmbedKernels, LinearKernels, NormKernels,
    ScanKernels, TopKernels,
};
use crate::text::sampling::{TopK, penalised};

impl EmbedKernels for Candle {
    fn embed(&mut self, table: &CandleWeight, tokens: &[u32], ys: &mut [&mut CandleTensor]) {
        for y in ys {
            self.set(y, tokens.len(), embed(table, tokens));
        }
    }

    fn embed_top(
        &mut self,
        table: &CandleWeight,
        top: &CandleTensor,
        ys: &mut [&mut CandleTensor],
    ) {
        let token = TopK::from_row(&self.numbers(top)).chosen;
        // Any row is valid if the logits were not finite.
        let token = token.min(table.rows as u32 - 1);
        self.embed(table, &[token], ys);
    }
}

impl NormKernels for Candle {
    fn rms_norm(&mut self, norm: &Norm<Candle>, x: &CandleTensor, y: &mut CandleTensor) {
        self.set(y, x.rows, rms_norm(norm, x));
    }

    fn gated_rms_norm(
        &mut self,
        norm: &GatedNorm<Candle>,
        x: &CandleTensor,
        gate: Cols<CandleTensor>,
        y: &mut CandleTensor,
    ) {
        self.set(y, x.rows, gated_rms_norm(norm, x, &gate));
    }
}

impl LinearKernels for Candle {
    fn linear(&mut self, linear: &Linear<Candle>, x: &CandleTensor, y: &mut CandleTensor) {
        self.set(y, x.rows, product(linear, x));
    }

    fn linear_add(&mut self, linear: &Linear<Candle>, x: &CandleTensor, y: &mut CandleTensor) {
        let sum = product(linear, x).and_then(|product| y.rows()? + product);
        self.set(y, x.rows, sum);
    }
}

impl ConvKernels for Candle {
    fn causal_conv1d(
        &mut self,
        conv: &Conv1d<Candle>,
        x: Cols<CandleTensor>,
        state: &mut CandleTensor,
        y: &mut CandleTensor,
    ) {
        let result = causal_conv1d(conv, &x, state);
        if let Some((values, after)) = self.note(result) {
            self.set(y, x.tensor.rows, Ok(values));
            self.set(state, state.rows, Ok(after));
        }
    }
}

impl ScanKernels for Candle {
    fn ssm_scan(
        &mut self,
        ssm: &Ssm<Candle>,
        input: SsmInput<CandleTensor>,
        state: &mut CandleTensor,
        y: &mut CandleTensor,
    ) {
        let result = ssm_scan(ssm, &input, state);
        if let Some((values, after)) = self.note(result) {
            self.set(y, input.x.tensor.rows, Ok(values));
            self.set(state, state.rows, Ok(after));
        }
    }
}

impl AttentionKernels for Candle {
    fn append_kv(&mut self, k: &CandleTensor, v: &CandleTensor, cache: &mut KvCache<Candle>) {
        let len = cache.len;
        let both = k.rows().and_then(|k| Ok((k, v.rows()?)));
        let appended = both.and_then(|(k, v)| cache.rows.append(len, &k, &v));
        self.note(appended);
    }

    fn attention(
        &mut self,
        shape: &AttentionShape,
        q: &CandleTensor,
        cache: &KvCache<Candle>,
        y: &mut CandleTensor,
    ) {
        self.set(y, q.rows, attention(shape, q, cache));
    }
}

impl ElementwiseKernels for Candle {
    fn copy(&mut self, x: &CandleTensor, y: &mut CandleTensor) {
        self.set(y, x.rows, x.rows());
    }

    fn rope(&mut self, rope: &Rope, position: usize, xs: &mut [&mut CandleTensor]) {
        for x in xs {
            let rotated = rotated(rope, position, x);
            self.set(x, x.rows, rotated);
        }
    }

    fn gelu_mul(&mut self, x: &CandleTensor, y: &mut CandleTensor) {
        self.set(y, x.rows, gelu_mul(x, y.cols));
    }

    fn concat(&mut self, a: &CandleTensor, b: &CandleTensor, y: &mut CandleTensor) {
        let both = a.rows().and_then(|a| Tensor::cat(&[a, b.rows()?], 1));
        self.set(y, a.rows, both);
    }

    fn add(&mut self, a: &CandleTensor, b: &CandleTensor, y: &mut CandleTensor) {
        let sum = a.rows().and_then(|a| a + b.rows()?);
        self.set(y, a.rows, sum);
    }

    fn last_row(&mut self, x: &CandleTensor, y: &mut CandleTensor) {
        self.set(y, 1, x.values.narrow(0, x.rows - 1, 1));
    }
}

impl TopKernels for Candle {
    fn penalise(
        &mut self,
        penalty: f64,
        chosen: Option<&CandleTensor>,
        logits: &CandleTensor,
        seen: &mut CandleTensor,
        y: &mut CandleTensor,
    ) {
        let mut marks = self.numbers(seen);
        let chosen = chosen.map(|list| TopK::from_row(&self.numbers(list)).chosen as usize);
        if let Some(mark) = chosen.and_then(|token| marks.get_mut(token)) {
            *mark = 1.0;
        }
        let penalised = penalise(penalty, &self.numbers(logits), &marks);
        self.set_numbers(seen, 1, marks);
        self.set_numbers(y, 1, penalised);
    }

    fn top(&mut self, logits: &CandleTensor, y: &mut CandleTensor) {
        let mut row = vec![0.0; y.cols];
        TopK::of(&self.numbers(logits), TopK::places(y.cols)).write(&mut row);
        self.set_numbers(y, 1, row);
    }

    fn draw(&mut self, draw: &Draw, top: &mut CandleTensor) {
        let mut row = self.numbers(top);
        if let Some(token) = draw.choose(&row) {
            row[TopK::CHOSEN] = token as f32;
        }
        self.set_numbers(top, 1, row);
    }
}

/// Row t is row `tokens[t]` of the table. // [T, d]
fn embed(table: &CandleWeight, tokens: &[u32]) -> Result<Tensor> {
    let tokens = Tensor::from_slice(tokens, tokens.len(), table.values.device())?; // [T]
    table.values.index_select(&tokens, 0)
}

/// weight · x / sqrt(mean(x²) + eps). // x [.., d]
fn normalize(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let mean = x.sqr()?.mean_keepdim(D::Minus1)?; // [.., 1]
    let root = (mean + f64::from(eps))?.sqrt()?;
    x.broadcast_div(&root)?.broadcast_mul(weight)
}

/// // [T, d]
fn rms_norm(norm: &Norm<Candle>, x: &CandleTensor) -> Result<Tensor> {
    normalize(&x.rows()?, &norm.weight.values, norm.eps)
}

/// RMSNorm of x · silu(gate), with one mean per group of channels. // [T, d]
fn gated_rms_norm(
    norm: &GatedNorm<Candle>,
    x: &CandleTensor,
    gate: &Cols<CandleTensor>,
) -> Result<Tensor> {
    let gated = (x.rows()? * columns(gate)?.silu()?)?; // [T, d]
    let groups = |rows| (rows, norm.n_groups, x.cols / norm.n_groups);
    let weight = norm.weight.values.reshape(groups(1))?; // [1, groups, d / groups]
    let normed = normalize(&gated.reshape(groups(x.rows))?, &weight, norm.eps)?;
    normed.reshape((x.rows, x.cols))
}

/// W·x + bias. // [T, d_out]
fn product(linear: &Linear<Candle>, x: &CandleTensor) -> Result<Tensor> {
    let y = x.rows()?.contiguous()?.matmul(&linear.weight.values.t()?)?;
    match &linear.bias {
        Some(bias) => y.broadcast_add(&bias.values),
        None => Ok(y),
    }
}

/// silu(conv(x) + bias), and the state after it: the last d_conv − 1 inputs. // [T, channels], [d_conv − 1, channels]
fn causal_conv1d(
    conv: &Conv1d<Candle>,
    x: &Cols<CandleTensor>,
    state: &CandleTensor,
) -> Result<(Tensor, Tensor)> {
    let (d_conv, n_rows) = (conv.weight.rows, x.tensor.rows);
    let inputs = Tensor::cat(&[state.rows()?, columns(x)?], 0)?; // [d_conv − 1 + T, channels]
    let mut sum = conv.bias.values.broadcast_as((n_rows, x.len))?;
    for tap in 0..d_conv {
        let weight = conv.weight.values.narrow(0, tap, 1)?; // [1, channels]
        sum = (sum + inputs.narrow(0, tap, n_rows)?.broadcast_mul(&weight)?)?;
    }
    let state = inputs.narrow(0, n_rows, d_conv - 1)?.contiguous()?;
    Ok((sum.silu()?, state))
}

/// ln(1 + eˣ) = max(x, 0) + ln(1 + e), e = exp(−|x|). Rounding 1 + e loses digits of a small e, which the last term
/// restores (Higham, Accuracy and Stability of Numerical Algorithms, 1.14.1).
fn softplus(x: &Tensor) -> Result<Tensor> {
    let e = x.abs()?.neg()?.exp()?;
    let sum = (&e + 1.0)?;
    let lost = (((&sum - 1.0)? - &e)? / &sum)?;
    x.relu()? + (sum.log()? - lost)?
}

/// The recurrence of the Mamba-2 paper, token by token: S ← exp(dt·A)·S + dt·x⊗B; y = C·S + D·x. Gives y and the state
/// after the last token. // [T, H·P], [H·P, N]
fn ssm_scan(
    ssm: &Ssm<Candle>,
    input: &SsmInput<CandleTensor>,
    state: &CandleTensor,
) -> Result<(Tensor, Tensor)> {
    let (heads, p, n, groups) = (ssm.n_heads, ssm.head_dim, ssm.d_state, ssm.n_groups);
    let dt = softplus(&columns(&input.dt)?.broadcast_add(&ssm.dt_bias.values)?)?; // [T, H]
    let dt = dt.maximum(f64::from(input.dt_min))?;
    let decay = dt.broadcast_mul(&ssm.a.values)?.exp()?; // [T, H]
    let x = columns(&input.x)?.reshape(((), heads, p))?; // [T, H, P]
    let of_heads = |cols: &Cols<CandleTensor>| {
        // A head uses B and C of its group.
        let of_groups = columns(cols)?.reshape(((), groups, 1, n))?;
        let rows = of_groups.dim(0)?;
        let wide = of_groups.broadcast_as((rows, groups, heads / groups, n))?;
        wide.reshape((rows, heads, 1, n))
    };
    let (b, c) = (of_heads(&input.b)?, of_heads(&input.c)?); // [T, H, 1, N]
    let d = ssm.d.values.reshape((heads, 1))?;

    let mut s = state.rows()?.reshape((heads, p, n))?;
    let mut ys = Vec::new();
    for t in 0..input.x.tensor.rows {
        let x = x.get(t)?; // [H, P]
        let of_token = |rows: &Tensor| rows.get(t)?.reshape((heads, 1, 1));
        let dt_x = x.reshape((heads, p, 1))?.broadcast_mul(&of_token(&dt)?)?;
        s = (s.broadcast_mul(&of_token(&decay)?)? + dt_x.broadcast_mul(&b.get(t)?)?)?; // [H, P, N]
        let c_s = s.broadcast_mul(&c.get(t)?)?.sum(D::Minus1)?; // [H, P]
        ys.push((c_s + x.broadcast_mul(&d)?)?.reshape((1, heads * p))?);
    }
    Ok((Tensor::cat(&ys, 0)?, s.reshape((heads * p, n))?))
}

/// Rotates the first and second half of each head: [a·cos − b·sin, b·cos + a·sin]; row t is at `position + t`.
/// // [T, heads · d]
fn rotated(rope: &Rope, position: usize, x: &CandleTensor) -> Result<Tensor> {
    let half = rope.head_dim / 2;
    let positions = (position..position + x.rows).map(|position| position as f32);
    let angles: Vec<f32> = positions
        .flat_map(|position| rope.inv_freq.iter().map(move |freq| position * freq))
        .collect();
    let angles = Tensor::from_vec(angles, (x.rows, 1, half), x.values.device())?;
    let (cos, sin) = (angles.cos()?, angles.sin()?);
    let heads = x
        .rows()?
        .reshape((x.rows, x.cols / rope.head_dim, rope.head_dim))?;
    let (a, b) = (heads.narrow(2, 0, half)?, heads.narrow(2, half, half)?);
    let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    Tensor::cat(&[first, second], 2)?.reshape((x.rows, x.cols))
}

/// softmax(scale · q·Kᵀ)·V of the last T positions, head by head, where no query sees a later key. // [T, heads · d]
fn attention(shape: &AttentionShape, q: &CandleTensor, cache: &KvCache<Candle>) -> Result<Tensor> {
    let (n_rows, len, d) = (q.rows, cache.len, shape.head_dim);
    let unseen = (0..n_rows).flat_map(|t| {
        let n_seen = len - n_rows + t + 1;
        (0..len).map(
            move |key| {
                if key < n_seen { 0.0 } else { f32::NEG_INFINITY }
            },
        )
    });
    let mask = Tensor::from_vec(
        unseen.collect::<Vec<f32>>(),
        (n_rows, len),
        q.values.device(),
    )?;
    let rows = q.rows()?;
    let heads = (0..shape.n_heads).map(|head| {
        let kv_head = head * shape.n_kv_heads / shape.n_heads;
        let q = rows.narrow(1, head * d, d)?.contiguous()?; // [T, d]
        let of_head = |rows: &Tensor| {
            let rows = rows.narrow(0, 0, len)?;
            rows.narrow(1, kv_head * d, d)?.contiguous()
        };
        let (k, v) = (of_head(&cache.rows.k)?, of_head(&cache.rows.v)?); // [L, d]
        let scores = (q.matmul(&k.t()?)? * f64::from(shape.scale))?; // [T, L]
        let scores = (scores + &mask)?;
        let weights = scores.broadcast_sub(&scores.max_keepdim(1)?)?.exp()?;
        let total = weights.sum_keepdim(1)?;
        weights.broadcast_div(&total)?.matmul(&v)
    });
    Tensor::cat(&heads.collect::<Result<Vec<_>>>()?, 1)
}

/// gelu(x[:, :d])·x[:, d:], with the exact (erf) GELU. // [T, d]
fn gelu_mul(x: &CandleTensor, d: usize) -> Result<Tensor> {
    let x = x.rows()?;
    x.narrow(1, 0, d)?.gelu_erf()? * x.narrow(1, d, d)?
}

/// The logits, with those that `seen` marks penalised. Non-finite logits are not changed, so that they are detected
/// later.
fn penalise(penalty: f64, logits: &[f32], seen: &[f32]) -> Vec<f32> {
    let pairs = logits.iter().zip(seen);
    let penalise = |(logit, seen): (&f32, &f32)| match *seen != 0.0 && logit.is_finite() {
        true => penalised(*logit, penalty),
        false => *logit,
    };
    pairs.map(penalise).collect()
}
