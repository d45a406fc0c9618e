//! Inspections of what the model computes for given tokens: the logit lens, the half-life of the state of each SSM
//! head, and the attention weights of the shared transformers. An inspection makes passes of its own with its own
//! buffers and cache, so it neither changes the sequence nor slows down other passes. Formulas, sources and costs:
//! docs/inside.md.

use std::f64::consts::LN_2;

use serde::Deserialize;

use crate::base::error::Result;
use crate::model::Zamba2;
use crate::model::forward::{BlockPart, head};
use crate::model::mixer::Mixer;
use crate::ops::Ops;
use crate::ops::device::{AttentionShape, Device, KvCache, Tensor};
use crate::ops::trace::Level;
use crate::session::Session;
use crate::session::separate_pass::{SeparatePass, Steps, check_range, log_sum_exp};
use crate::session::sequence::{Alternative, alternatives, display_text};
use crate::text::sampling::{check_finite, most_probable_roughly};

/// The longest list of tokens that an inspection returns.
pub const MAX_TOP_K: usize = 100;

/// What to inspect.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct InspectOptions {
    /// Positions of the tokens that the logit lens is applied to, from 0; without any it takes no time.
    pub lens_positions: Vec<usize>,
    /// Most probable tokens per block and position, 1 to [`MAX_TOP_K`].
    pub top_k: usize,
    pub half_lives: bool,
    /// The token whose attention is returned.
    pub attention_position: Option<usize>,
}

/// The requested results; the other lists are empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// Each token as text for display; empty texts without a tokenizer.
    pub texts: Vec<String>,
    /// The most probable next tokens if the block were the last one. `[blocks][positions][k]`
    pub lens: Vec<Vec<Vec<Alternative>>>,
    /// In tokens; infinite for a head whose state does not decay. `[blocks][heads]`
    pub half_lives: Vec<Vec<f32>>,
    /// One per hybrid block, in their order.
    pub attention: Vec<Visit>,
}

/// The attention of one token in one call of a shared transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct Visit {
    pub block: usize,
    /// The index of the shared transformer that the block calls.
    pub shared: usize,
    /// Each head's sum to 1; the keys are the tokens up to the attending one. `[heads, keys]`
    pub weights: Vec<f32>,
}

impl<B: Device> Session<B> {
    /// Prefills `tokens` in one pass. `on_step` gets the number of blocks done and the total; if it returns false, the
    /// inspection ends with `None`.
    ///
    /// # Errors
    /// Tokens that [`Session::check_prompt`] refuses, options out of range, logits that are not finite, a failure of
    /// the device. The sequence is kept in any case.
    pub async fn inspect(
        &mut self,
        tokens: &[u32],
        options: &InspectOptions,
        on_step: impl AsyncFnMut(usize, usize) -> bool,
    ) -> Result<Option<Inspection>> {
        self.check_complete()?;
        self.check_prompt(tokens, 0)?;
        check_range("top_k", options.top_k, 1, MAX_TOP_K)?;
        for &position in &options.lens_positions {
            check_range("positions", position, 0, tokens.len() - 1)?;
        }
        if let Some(position) = options.attention_position {
            check_range("query", position, 0, tokens.len() - 1)?;
        }
        let level = self.ops.profiler().level();
        self.ops.profiler().set_level(Level::Off);
        let mut steps = Steps::new(self.model.blocks.len(), on_step);
        let inspection = self.inspect_blocks(tokens, options, &mut steps).await;
        self.ops.profiler().set_level(level);
        inspection
    }

    async fn inspect_blocks<F: AsyncFnMut(usize, usize) -> bool>(
        &mut self,
        tokens: &[u32],
        options: &InspectOptions,
        steps: &mut Steps<F>,
    ) -> Result<Option<Inspection>> {
        let (ops, model) = (&mut self.ops, &self.model);
        let mut own = SeparatePass::new(ops, model, self.kv_format, tokens, tokens.len());
        let positions = &options.lens_positions[..];
        let mut lens = (!positions.is_empty()).then(|| Lens::new(ops, model, positions));
        let texts = tokens
            .iter()
            .map(|&token| display_text(self.tokenizer.as_ref(), token));
        let mut inspection = Inspection {
            texts: texts.collect::<Result<_>>()?,
            lens: Vec::new(),
            half_lives: Vec::new(),
            attention: Vec::new(),
        };
        for (index, block) in model.blocks.iter().flatten().enumerate() {
            let mut dt_sums = vec![0.0; block.mixer.ssm.n_heads];
            let mut query = None;
            let at = options
                .attention_position
                .filter(|_| block.hybrid.is_some());
            for chunk in 0..own.pass.n_chunks() {
                own.run_chunk(ops, model, chunk, BlockPart::Whole);
                if options.half_lives {
                    own.add_dt(ops, &block.mixer, &mut dt_sums).await?;
                }
                if let Some(at) = at.filter(|at| at / B::CHUNK_ROWS == chunk) {
                    query = Some(row(
                        &ops.read(&own.scratch.q).await?,
                        at % B::CHUNK_ROWS,
                        own.scratch.q.cols(),
                    ));
                }
            }
            own.pass.end_block();
            if options.half_lives {
                let a = ops.read(&block.mixer.ssm.a).await?;
                let of_head = |(a, dt_sum)| half_life(a, dt_sum / tokens.len() as f64);
                let half_lives = a.into_iter().zip(dt_sums).map(of_head);
                inspection.half_lives.push(half_lives.collect());
            }
            if let (Some(at), Some(query), Some(hybrid)) = (at, query, &block.hybrid) {
                let kv = own.cache.kv[index].as_ref();
                let kv = kv.expect("hybrid blocks have a cache");
                let keys = read_keys(ops, kv, at + 1).await?;
                inspection.attention.push(Visit {
                    block: index,
                    shared: hybrid.shared,
                    weights: attention_weights(&kv.shape, &query, &keys),
                });
            }
            if let Some(lens) = &mut lens {
                let rows = lens.apply(ops, model, &mut own).await?;
                let tops = rows.chunks(model.config.vocab_size).map(|logits| {
                    check_finite(logits)?;
                    let top = most_probable_roughly(logits, options.top_k);
                    alternatives(self.tokenizer.as_ref(), &top)
                });
                inspection.lens.push(tops.collect::<Result<_>>()?);
            }
            if !steps.next().await {
                return Ok(None);
            }
        }
        Ok(Some(inspection))
    }
}

impl<B: Device> SeparatePass<B> {
    /// Adds dt of every token of the chunk that has just run, as the scan used it. // dt_sums [H]
    async fn add_dt(
        &mut self,
        ops: &mut Ops<B>,
        mixer: &Mixer<B>,
        dt_sums: &mut [f64],
    ) -> Result<()> {
        let dt_bias = ops.read(&mixer.ssm.dt_bias).await?;
        let dt_min = f64::from(self.pass.dt_min());
        let zxbcdt = &self.scratch.zxbcdt;
        // dt is the last part, also in the buffer of the fused step.
        let dt_start = zxbcdt.cols() - mixer.ssm.n_heads;
        for row in ops.read(zxbcdt).await?.chunks(zxbcdt.cols()) {
            for ((sum, dt), bias) in dt_sums.iter_mut().zip(&row[dt_start..]).zip(&dt_bias) {
                *sum += softplus(f64::from(*dt) + f64::from(*bias)).max(dt_min);
            }
        }
        Ok(())
    }
}

/// The buffers of the logit lens: rows at the chosen positions, and their logits.
struct Lens<'a, B: Device> {
    /// The positions of one call of the output matrix.
    parts: Vec<(&'a [usize], B::Tensor)>, // [P, h], P ≤ CHUNK_ROWS
    logits: B::Tensor, // [P, vocab]
}

impl<'a, B: Device> Lens<'a, B> {
    fn new(ops: &mut Ops<B>, model: &Zamba2<B>, positions: &'a [usize]) -> Self {
        let config = &model.config;
        let parts = positions.chunks(B::CHUNK_ROWS);
        Lens {
            parts: parts
                .map(|part| (part, ops.tensor(part.len(), config.hidden_size)))
                .collect(),
            logits: ops.tensor(positions.len().min(B::CHUNK_ROWS), config.vocab_size),
        }
    }

    /// The logits for the current residual stream. `[positions, vocab]`
    async fn apply(
        &mut self,
        ops: &mut Ops<B>,
        model: &Zamba2<B>,
        own: &mut SeparatePass<B>,
    ) -> Result<Vec<f32>> {
        let mut stream = Vec::new(); // [T, h]
        for chunk in 0..own.pass.n_chunks() {
            stream.extend(ops.read(own.pass.stream(chunk)).await?);
        }
        let h = model.config.hidden_size;
        let mut logits = Vec::new();
        for (positions, rows) in &mut self.parts {
            let chosen = positions.iter().flat_map(|&at| row(&stream, at, h));
            ops.write(&chosen.collect::<Vec<f32>>(), rows); // [P, h]
            head(ops, model, rows, &mut own.scratch.normed, &mut self.logits); // [P, vocab]
            logits.extend(ops.read(&self.logits).await?);
        }
        Ok(logits)
    }
}

fn row(values: &[f32], index: usize, width: usize) -> Vec<f32> {
    values[index * width..][..width].to_vec()
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The tokens after which exp(dt·A) per token has halved a state (Mamba-2, arXiv:2405.21060). Over several tokens the
/// exponents add up, so their mean is the rate.
fn half_life(a: f32, mean_dt: f64) -> f32 {
    (LN_2 / (mean_dt * -f64::from(a))) as f32
}

/// The first `len` keys of a cache. `[len, kv heads, head_dim]`
async fn read_keys<B: Device>(ops: &mut Ops<B>, kv: &KvCache<B>, len: usize) -> Result<Vec<f32>> {
    let bytes = ops.read_kv(kv).await?;
    let head_bytes = kv.format.head_bytes(kv.shape.head_dim);
    // Each head has keys, then values.
    let keys = bytes.chunks(head_bytes).step_by(2);
    let keys = keys.take(len * kv.shape.n_kv_heads);
    Ok(keys.flat_map(|key| kv.format.numbers(key)).collect())
}

/// softmax(scale·q·K) of one query, head by head. `query` `[heads, head_dim]`, `keys` `[T, kv heads, head_dim]`;
/// `[heads, T]`
fn attention_weights(shape: &AttentionShape, query: &[f32], keys: &[f32]) -> Vec<f32> {
    let heads_per_key = shape.n_heads / shape.n_kv_heads;
    let mut weights = Vec::new();
    for (head, q) in query.chunks(shape.head_dim).enumerate() {
        let own = keys.chunks(shape.head_dim).skip(head / heads_per_key);
        let scores = own.step_by(shape.n_kv_heads).map(|key| {
            let products = q.iter().zip(key).map(|(q, k)| f64::from(q * k));
            f64::from(shape.scale) * products.sum::<f64>()
        });
        let scores: Vec<f64> = scores.collect();
        let log_sum = log_sum_exp(scores.iter().copied());
        weights.extend(scores.iter().map(|score| (score - log_sum).exp() as f32));
    }
    weights
}
