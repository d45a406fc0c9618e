//! Inspections against the reference's hidden states, keys and values, and ablations against checkpoints whose weights
//! leave out the same part. What the fixtures do not contain is computed from them here, with candle in f64, as the
//! reference does it (`modeling_zamba2.py`).

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{D, DType, Device as CandleDevice, Result, Tensor};
use pollster::block_on;
use serde_json::Value;
use tempfile::TempDir;
use zamba2::base::error;
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::folder;
use zamba2::ops::device::Device;
use zamba2::session::{
    AblatedPart, Ablation, AblationEffect, InspectOptions, Inspection, LoadSettings,
    PredictionLengths, Session, argmax,
};

use crate::support::{F32, Golden, goldens, greedy, max_difference};

/// The hidden states differ from the reference's by up to 1e-3 (`tests/model.rs`), and a probability or a weight of a
/// softmax changes by less than its logit.
const TOLERANCE: f32 = 1e-3;

/// Shared transformers with and without adapters and positions, fewer key heads than query heads, and more tokens than
/// one chunk of rows.
const NETS: [&str; 4] = [
    "one_block_adapters_rope",
    "two_blocks_no_rope",
    "gqa",
    "long_chunks",
];

fn golden(name: &str) -> Golden {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    Golden::open(&fixtures.join(name))
}

fn open(dir: &Path, settings: LoadSettings) -> Session<Cpu> {
    folder::open(Cpu::new(2), dir, settings).unwrap()
}

fn everything(n_tokens: usize) -> InspectOptions {
    InspectOptions {
        lens_positions: (0..n_tokens).collect(),
        top_k: 5,
        half_lives: true,
        attention_position: Some(n_tokens - 1),
    }
}

/// A golden net's weights and the reference's activations, in f64.
struct Reference<'a> {
    golden: &'a Golden,
    config: Value,
    weights: HashMap<String, Tensor>,
    n_tokens: usize,
    hidden: Vec<Tensor>, // [blocks + 1] of [T, h]
}

impl<'a> Reference<'a> {
    fn of(golden: &'a Golden) -> Result<Reference<'a>> {
        let config = fs::read(golden.dir.join("config.json")).unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        let file = golden.dir.join("model.safetensors");
        let weights = candle_core::safetensors::load(file, &CandleDevice::Cpu)?;
        let weights = weights
            .into_iter()
            .map(|(name, w)| Ok((name, w.to_dtype(DType::F64)?)));
        let n_tokens = golden.ids("input_ids").len();
        let h = config["hidden_size"].as_u64().unwrap() as usize;
        let hidden = golden.numbers("hidden_states");
        let hidden = hidden
            .chunks(n_tokens * h)
            .map(|state| tensor(state, &[n_tokens, h]));
        Ok(Reference {
            hidden: hidden.collect::<Result<_>>()?,
            weights: weights.collect::<Result<_>>()?,
            n_tokens,
            config,
            golden,
        })
    }

    fn number(&self, name: &str) -> f64 {
        self.config[name]
            .as_f64()
            .unwrap_or_else(|| panic!("{name}"))
    }

    fn hybrid(&self) -> Vec<usize> {
        let ids = self.config["hybrid_layer_ids"].as_array().unwrap().iter();
        ids.map(|id| id.as_u64().unwrap() as usize).collect()
    }

    fn norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
        let rms = (mean + self.number("rms_norm_eps"))?.sqrt()?;
        x.broadcast_div(&rms)?.broadcast_mul(&self.weights[name])
    }

    fn linear(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        x.matmul(&self.weights[name].t()?)
    }

    /// The linear layer with adapter `visit` of `list`, if there is one.
    fn adapted(&self, x: &Tensor, name: &str, list: &str, visit: usize) -> Result<Tensor> {
        let y = self.linear(x, name)?;
        let [a, b] = [0, 1].map(|part| format!("{list}.{visit}.{part}.weight"));
        if !self.weights.contains_key(&a) {
            return Ok(y);
        }
        y + self.linear(&self.linear(x, &a)?, &b)?
    }

    /// The prefix of the shared transformer of call `visit`, which stands in the first block that calls it.
    fn shared(&self, visit: usize) -> String {
        let n_shared = self.number("num_mem_blocks") as usize;
        format!(
            "model.layers.{}.shared_transformer",
            self.hybrid()[visit % n_shared]
        )
    }

    /// [heads, T, head_dim], with the reference's own rotation where there is one
    fn queries(&self, block: usize, visit: usize) -> Result<Tensor> {
        let at = self.shared(visit);
        let input = Tensor::cat(&[&self.hidden[block], &self.hidden[0]], 1)?;
        let normed = self.norm(&input, &format!("{at}.input_layernorm.weight"))?;
        let list = format!("{at}.self_attn.linear_q_adapter_list");
        let q = self.adapted(
            &normed,
            &format!("{at}.self_attn.q_proj.weight"),
            &list,
            visit,
        )?;
        let n_heads = self.number("num_attention_heads") as usize;
        let q = q
            .reshape((self.n_tokens, n_heads, ()))?
            .transpose(0, 1)?
            .contiguous()?;
        if self.config["use_mem_rope"] == false {
            return Ok(q);
        }
        let half = q.dim(2)? / 2;
        let theta = self.config["rope_parameters"]["rope_theta"]
            .as_f64()
            .unwrap();
        let angles = (0..self.n_tokens)
            .flat_map(|t| (0..half).map(move |k| t as f64 / theta.powf(k as f64 / half as f64)));
        let angles =
            Tensor::from_iter(angles, &CandleDevice::Cpu)?.reshape((self.n_tokens, half))?;
        let (cos, sin) = (angles.cos()?, angles.sin()?);
        let (a, b) = (q.narrow(2, 0, half)?, q.narrow(2, half, half)?);
        let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
        Tensor::cat(&[&first, &second], 2)
    }

    /// Keys or values of the reference's cache, repeated for each query head. // [heads, T, head_dim]
    fn cached(&self, block: usize, part: &str) -> Result<Tensor> {
        let n_heads = self.number("num_attention_heads") as usize;
        let n_kv_heads = self.number("num_key_value_heads") as usize;
        let numbers = self.golden.numbers(&format!("cache.{block}.{part}"));
        let d = numbers.len() / n_kv_heads / self.n_tokens;
        let of_kv_heads = tensor(&numbers, &[n_kv_heads, self.n_tokens, d])?;
        let heads = (0..n_heads).map(|head| (head / (n_heads / n_kv_heads)) as u32);
        of_kv_heads.index_select(&Tensor::from_iter(heads, &CandleDevice::Cpu)?, 0)
    }

    /// Attention weights of all queries. // [heads, T, T]
    fn attention(&self, block: usize, visit: usize) -> Result<Tensor> {
        let (q, k) = (self.queries(block, visit)?, self.cached(block, "key")?);
        let scale = (q.dim(2)? as f64 / 2.0).sqrt();
        let scores = (q.matmul(&k.t()?)? / scale)?;
        let n = self.n_tokens;
        let mask = (0..n)
            .flat_map(|t| (0..n).map(move |key| if key > t { f64::NEG_INFINITY } else { 0.0 }));
        let mask = Tensor::from_iter(mask, &CandleDevice::Cpu)?.reshape((n, n))?;
        softmax(&scores.broadcast_add(&mask)?)
    }

    /// What call `visit` adds to the mixer's input. // [T, h]
    fn visit(&self, block: usize, visit: usize) -> Result<Tensor> {
        let at = self.shared(visit);
        let y = self
            .attention(block, visit)?
            .matmul(&self.cached(block, "value")?)?;
        let y = y.transpose(0, 1)?.reshape((self.n_tokens, ()))?;
        let y = self.linear(&y, &format!("{at}.self_attn.o_proj.weight"))?;
        let y = self.norm(&y, &format!("{at}.pre_ff_layernorm.weight"))?;
        let gate_up = format!("{at}.feed_forward.gate_up_proj");
        let list = format!("{gate_up}_adapter_list");
        let y = self.adapted(&y, &format!("{gate_up}.weight"), &list, visit)?;
        let gate_up = y.chunk(2, 1)?;
        let y = (gate_up[0].gelu_erf()? * &gate_up[1])?;
        let y = self.linear(&y, &format!("{at}.feed_forward.down_proj.weight"))?;
        self.linear(&y, &format!("model.layers.{block}.linear.weight"))
    }

    /// Of each head of a block's mixer.
    fn half_lives(&self, block: usize) -> Result<Vec<f32>> {
        let visit = self.hybrid().iter().position(|&hybrid| hybrid == block);
        let (x, at) = match visit {
            None => (self.hidden[block].clone(), format!("model.layers.{block}")),
            Some(visit) => (
                (&self.hidden[block] + self.visit(block, visit)?)?,
                format!("model.layers.{block}.mamba_decoder"),
            ),
        };
        let x = self.norm(&x, &format!("{at}.input_layernorm.weight"))?;
        let zxbcdt = self.linear(&x, &format!("{at}.mamba.in_proj.weight"))?;
        let n_heads = self.number("n_mamba_heads") as usize;
        let dt = zxbcdt.narrow(1, zxbcdt.dim(1)? - n_heads, n_heads)?;
        let dt = dt.broadcast_add(&self.weights[&format!("{at}.mamba.dt_bias")])?;
        let dt = ((dt.exp()? + 1.0)?.log()?).maximum(self.number("time_step_min"))?;
        let a = self.weights[&format!("{at}.mamba.A_log")].exp()?;
        let rate = (dt.mean(0)? * a)?;
        let half_lives = (rate.recip()? * std::f64::consts::LN_2)?;
        half_lives.to_dtype(DType::F32)?.to_vec1()
    }

    /// The distribution of the next token after a block, for every token. // [T][vocab]
    fn lens(&self, block: usize) -> Result<Vec<Vec<f32>>> {
        let x = self.norm(&self.hidden[block + 1], "model.final_layernorm.weight")?;
        let matrix = if self.weights.contains_key("lm_head.weight") {
            "lm_head.weight"
        } else {
            "model.embed_tokens.weight"
        };
        let p = softmax(&self.linear(&x, matrix)?)?;
        p.to_dtype(DType::F32)?.to_vec2()
    }
}

fn tensor(numbers: &[f32], shape: &[usize]) -> Result<Tensor> {
    Tensor::from_slice(numbers, shape, &CandleDevice::Cpu)?.to_dtype(DType::F64)
}

fn softmax(x: &Tensor) -> Result<Tensor> {
    let e = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
    e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
}

pub fn inspect_golden<B: Device>(session: &mut Session<B>, golden: &Golden) -> Inspection {
    let ids = golden.ids("input_ids");
    inspect(session, &ids, &everything(ids.len())).unwrap()
}

fn inspect<B: Device>(
    session: &mut Session<B>,
    ids: &[u32],
    options: &InspectOptions,
) -> error::Result<Inspection> {
    let inspection = block_on(session.inspect(ids, options, async |_, _| true))?;
    Ok(inspection.expect("nobody ends it"))
}

fn ablate(
    session: &mut Session<Cpu>,
    ids: &[u32],
    ablation: Ablation,
    lengths: PredictionLengths,
) -> error::Result<AblationEffect> {
    let effect = block_on(session.ablate(ids, ablation, lengths, async |_, _| true))?;
    Ok(effect.expect("nobody ends it"))
}

/// The listed tokens have the reference's probabilities, in descending order, and no token left out is more probable.
fn assert_lens_equals(inspection: &Inspection, reference: &Reference) {
    for (block, positions) in inspection.lens.iter().enumerate() {
        let expected = reference.lens(block).unwrap();
        assert_eq!(positions.len(), expected.len());
        for (top, expected) in positions.iter().zip(&expected) {
            assert_eq!(top.len(), 5);
            assert!(top.is_sorted_by(|a, b| a.probability >= b.probability));
            let mut left = expected.clone();
            for entry in top {
                let p = std::mem::take(&mut left[entry.token as usize]);
                assert!((entry.probability as f32 - p).abs() <= TOLERANCE);
            }
            let last = top[4].probability as f32;
            assert!(left.iter().all(|p| *p <= last + TOLERANCE));
        }
    }
}

/// All parts of an inspection; also used for graphics adapters.
pub fn assert_equals_reference(inspection: &Inspection, golden: &Golden) {
    let reference = Reference::of(golden).unwrap();
    let name = reference.golden.name();
    let n_blocks = reference.hidden.len() - 1;
    assert_eq!(inspection.lens.len(), n_blocks, "{name}");
    assert_lens_equals(inspection, &reference);

    assert_eq!(inspection.half_lives.len(), n_blocks, "{name}");
    for (block, half_lives) in inspection.half_lives.iter().enumerate() {
        let expected = reference.half_lives(block).unwrap();
        let ratios = half_lives.iter().zip(&expected).map(|(a, b)| a / b);
        let ratios: Vec<f32> = ratios.collect();
        let difference = max_difference(&ratios, &vec![1.0; expected.len()]);
        assert!(difference <= TOLERANCE, "{name}, block {block}: {ratios:?}");
    }

    let hybrid = reference.hybrid();
    let blocks: Vec<usize> = inspection
        .attention
        .iter()
        .map(|visit| visit.block)
        .collect();
    assert_eq!(blocks, hybrid, "{name}");
    for (index, visit) in inspection.attention.iter().enumerate() {
        assert_eq!(
            visit.shared,
            index % reference.number("num_mem_blocks") as usize
        );
        let all = reference.attention(visit.block, index).unwrap();
        let last = all.narrow(1, reference.n_tokens - 1, 1).unwrap();
        let last = last.to_dtype(DType::F32).and_then(|w| w.flatten_all());
        let expected: Vec<f32> = last.and_then(|w| w.to_vec1()).unwrap();
        let difference = max_difference(&visit.weights, &expected);
        assert!(
            difference <= TOLERANCE,
            "{name}, visit {index}: {difference}"
        );
    }
}

#[test]
fn lens_half_lives_and_attention_equal_those_computed_from_the_references_activations() {
    for name in NETS {
        let golden = golden(name);
        let inspection = inspect_golden(&mut open(&golden.dir, F32), &golden);
        assert_equals_reference(&inspection, &golden);
    }
}

#[test]
fn the_lens_after_the_last_block_is_the_references_next_token_distribution() {
    for golden in goldens() {
        let inspection = inspect_golden(&mut open(&golden.dir, F32), &golden);
        let logits = golden.numbers("prefill_logits");
        let last = inspection.lens.last().unwrap();
        let rows = logits.chunks(logits.len() / last.len());
        for (top, row) in last.iter().zip(rows) {
            let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
            let first = &top[0];
            let p = f64::from(row[first.token as usize]).exp() / sum;
            assert!(
                (first.probability - p).abs() <= f64::from(TOLERANCE),
                "{}",
                golden.name()
            );
            let best = f64::from(row[argmax(row) as usize]).exp() / sum;
            assert!(best - p <= f64::from(TOLERANCE), "{}", golden.name());
        }
    }
}

#[test]
fn attention_of_an_earlier_token_is_the_reference_row_of_that_token() {
    let golden = golden("long_chunks");
    let reference = Reference::of(&golden).unwrap();
    let ids = golden.ids("input_ids");
    let mut session = open(&golden.dir, F32);
    for position in [0, 63, 64] {
        let options = InspectOptions {
            lens_positions: Vec::new(),
            top_k: 1,
            half_lives: false,
            attention_position: Some(position),
        };
        let inspection = inspect(&mut session, &ids, &options).unwrap();
        assert!(inspection.lens.is_empty() && inspection.half_lives.is_empty());
        let visit = &inspection.attention[0];
        let all = reference.attention(visit.block, 0).unwrap();
        let row = all
            .narrow(1, position, 1)
            .and_then(|w| w.narrow(2, 0, position + 1));
        let row = row.and_then(|w| w.to_dtype(DType::F32)?.flatten_all());
        let expected: Vec<f32> = row.and_then(|w| w.to_vec1()).unwrap();
        assert!(max_difference(&visit.weights, &expected) <= TOLERANCE);
    }
}

/// Eight bits for weights, activations, keys and values; a net of this size changes by 0.08.
#[test]
fn attention_weights_from_an_8_bit_cache_are_close_to_those_in_f32() {
    let golden = golden("one_block_adapters_rope");
    let q8 = LoadSettings {
        weights: WeightFormat::Q8,
        ..F32
    };
    let exact = inspect_golden(&mut open(&golden.dir, F32), &golden);
    let rounded = inspect_golden(&mut open(&golden.dir, q8), &golden);
    for (exact, rounded) in exact.attention.iter().zip(&rounded.attention) {
        let difference = max_difference(&exact.weights, &rounded.weights);
        assert!(difference > 0.0 && difference <= 0.1, "{difference}");
    }
}

/// A copy of a checkpoint with one matrix of zeros.
fn with_zeros(golden: &Golden, name: &str) -> TempDir {
    let file = golden.dir.join("model.safetensors");
    let mut weights = candle_core::safetensors::load(file, &CandleDevice::Cpu).unwrap();
    let zeros = weights[name].zeros_like().unwrap();
    weights
        .insert(name.into(), zeros)
        .expect("a matrix of the checkpoint");
    let dir = TempDir::new().unwrap();
    candle_core::safetensors::save(&weights, dir.path().join("model.safetensors")).unwrap();
    fs::copy(
        golden.dir.join("config.json"),
        dir.path().join("config.json"),
    )
    .unwrap();
    dir
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
    logits
        .iter()
        .map(|&logit| f64::from(logit) - sum.ln())
        .collect()
}

const ONE_OF_EACH: PredictionLengths = PredictionLengths {
    top_k: 1,
    max_tokens: 1,
};

fn greedy_ids(session: &mut Session<Cpu>, ids: &[u32], n: usize) -> Vec<u32> {
    session.start(ids, greedy(n)).unwrap();
    let mut tokens = Vec::new();
    loop {
        let step = block_on(session.step()).unwrap();
        tokens.push(step.token);
        if step.done.is_some() {
            return tokens;
        }
    }
}

/// Adding zeros changes no bit, so a block whose output matrix is zero is a block that is skipped.
#[test]
fn an_ablated_model_is_the_model_whose_output_of_that_part_is_zero() {
    let golden = golden("long_chunks");
    let ids = golden.ids("input_ids");
    let mut session = open(&golden.dir, F32);
    let vocab_size = session.config().vocab_size;
    let last_row = |session: &mut Session<Cpu>| {
        let logits = block_on(session.logits(&ids)).unwrap();
        logits[logits.len() - vocab_size..].to_vec()
    };
    let whole = log_softmax(&last_row(&mut session));
    for (block, part, zeroed) in [
        (
            0,
            AblatedPart::Block,
            "model.layers.0.mamba.out_proj.weight",
        ),
        (
            1,
            AblatedPart::Block,
            "model.layers.1.mamba_decoder.mamba.out_proj.weight",
        ),
        (1, AblatedPart::Shared, "model.layers.1.linear.weight"),
    ] {
        let lengths = PredictionLengths {
            top_k: 3,
            max_tokens: 6,
        };
        let ablation = Ablation { block, part };
        let effect = ablate(&mut session, &ids, ablation, lengths).unwrap();
        let dir = with_zeros(&golden, zeroed);
        let mut zeroed_session = open(dir.path(), F32);
        let logits = last_row(&mut zeroed_session);
        let ablated = log_softmax(&logits);
        let terms = whole.iter().zip(&ablated).map(|(p, q)| p.exp() * (p - q));
        let expected: f64 = terms.sum();
        assert!(expected > 1e-4, "{zeroed}: nothing to see");
        // f64 sums in another order.
        assert!((effect.kl_nats - expected).abs() <= 1e-9, "{zeroed}");
        for (prediction, distribution) in [(&effect.whole, &whole), (&effect.ablated, &ablated)] {
            assert_eq!(prediction.top.len(), 3);
            for entry in &prediction.top {
                let p = distribution[entry.token as usize].exp();
                assert!((entry.probability - p).abs() <= 1e-9, "{zeroed}");
            }
        }
        assert_eq!(
            effect.ablated.ids,
            greedy_ids(&mut zeroed_session, &ids, 6),
            "{zeroed}"
        );
        assert_eq!(
            effect.whole.ids,
            greedy_ids(&mut session, &ids, 6),
            "{zeroed}"
        );
    }
}

#[test]
fn an_inspection_changes_nothing_of_a_sequence_that_goes_on_after_it() {
    let golden = golden("one_block_adapters_rope");
    let ids = golden.ids("input_ids");
    let text = |inspects: bool| {
        let mut session = open(&golden.dir, F32);
        session.start(&ids, greedy(6)).unwrap();
        let mut steps = Vec::new();
        loop {
            if inspects {
                inspect(&mut session, &ids[1..], &everything(ids.len() - 1)).unwrap();
                let skipped = Ablation {
                    block: 0,
                    part: AblatedPart::Block,
                };
                ablate(&mut session, &ids[2..], skipped, ONE_OF_EACH).unwrap();
            }
            let step = block_on(session.step()).unwrap();
            steps.push((step.token, step.probability.to_bits()));
            if step.done.is_some() {
                return steps;
            }
        }
    };
    assert_eq!(text(true), text(false));
}

#[test]
fn every_step_is_reported_and_a_caller_that_ends_the_call_gets_nothing() {
    let golden = golden("one_block_adapters_rope");
    let ids = golden.ids("input_ids");
    let mut session = open(&golden.dir, F32);
    let options = everything(ids.len());
    let ablation = Ablation {
        block: session.config().n_blocks() - 1,
        part: AblatedPart::Block,
    };
    let lengths = PredictionLengths {
        top_k: 1,
        max_tokens: 3,
    };
    for inspects in [true, false] {
        let n_steps = session.config().n_blocks() * if inspects { 1 } else { 2 * 3 };
        for end in [1, n_steps / 2 + 1, n_steps + 1] {
            let mut reported = Vec::new();
            let watch = async |done, of| {
                reported.push((done, of));
                done < end
            };
            let is_whole = if inspects {
                block_on(session.inspect(&ids, &options, watch))
                    .unwrap()
                    .is_some()
            } else {
                block_on(session.ablate(&ids, ablation, lengths, watch))
                    .unwrap()
                    .is_some()
            };
            assert_eq!(is_whole, end > n_steps);
            let steps: Vec<_> = (1..=end.min(n_steps)).map(|done| (done, n_steps)).collect();
            assert_eq!(reported, steps);
        }
    }
}

#[test]
fn options_out_of_range_and_refused_tokens_are_errors() {
    let golden = golden("one_block_adapters_rope");
    let mut session = open(&golden.dir, F32);
    let ids = [1, 2, 3];
    let options = everything(3);
    let bad = [
        InspectOptions {
            top_k: 0,
            ..options.clone()
        },
        InspectOptions {
            lens_positions: vec![3],
            ..options.clone()
        },
        InspectOptions {
            attention_position: Some(3),
            ..options.clone()
        },
    ];
    for (options, name) in bad.iter().zip(["top_k", "positions", "query"]) {
        let error = inspect(&mut session, &ids, options).unwrap_err();
        assert_eq!(
            (error.code(), &error.values()["name"]),
            ("bad_option", &name.into())
        );
    }
    let error = inspect(&mut session, &[], &options).unwrap_err();
    assert_eq!(error.code(), "empty_prompt");
    for (block, part, name) in [
        (4, AblatedPart::Block, "block"),
        (0, AblatedPart::Shared, "part"),
    ] {
        let ablation = Ablation { block, part };
        let error = ablate(&mut session, &ids, ablation, ONE_OF_EACH).unwrap_err();
        assert_eq!(
            (error.code(), &error.values()["name"]),
            ("bad_option", &name.into())
        );
    }
}
