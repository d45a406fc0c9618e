//! Chooses the variants of a graphics device's kernels by a short trial on the model's own weights: which variant is
//! the fastest depends on the device, and browsers do not reveal which device it is. A variant whose results differ
//! from the first one's is left out. The sequence, its logits and the profile are not changed.

use crate::base::clock::now_us;
use crate::base::error::Result;
use crate::base::quant::WeightFormat;
use crate::device::webgpu::{TunedOp, WebGpu, WebGpuTensor};
use crate::ops::Ops;
use crate::ops::device::{Device, KernelChoice, Linear, Tensor, Weight};
use crate::ops::stopwatch::Stopwatch;
use crate::ops::trace::Level;
use crate::session::Session;

/// How long the measurements of a trial should take.
pub const TRIAL_US: f64 = 300e3;
const MAX_ROUNDS: usize = 5;
/// Each measurement repeats the call until it takes at least this long: browsers round timestamps to 100 µs.
const LEAST_US: f64 = 5e3;
const MAX_CALLS: usize = 256;
/// What takes longer than the fastest by this factor in the first round is not measured again.
const CONTENDER: f64 = 1.25;
/// The least part by which another variant must be faster than the first one.
const LEAST_GAIN: f64 = 0.03;
/// Relative to the largest result, as in the self-test: variants differ in the order of sums at most.
const TOLERANCE: f32 = 1e-3;
/// Tokens for which results are compared, and those for which `linear_mat` is timed. The former fill more than one
/// tile.
const CHECKED_TOKENS: usize = 65;
const TIMED_TOKENS: usize = WebGpu::CHUNK_ROWS;
/// The most tokens for which a variant of `linear_few` is used.
const FEW_TOKENS: usize = 8;

/// A correct variant and its measured times.
struct Candidate {
    variant: u8,
    name: &'static str,
    times_us: Vec<f64>,
}

impl Candidate {
    /// The shortest time, which other work on the device disturbs least.
    fn us(&self) -> f64 {
        self.times_us.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// By how much its times differ, relative to the shortest.
    fn noise(&self) -> f64 {
        let longest = self.times_us.iter().copied().fold(0.0, f64::max);
        if self.times_us.len() > 1 {
            longest / self.us() - 1.0
        } else {
            0.0
        }
    }
}

/// An op's layers of the model, which have one format, and its activations.
struct Trial<'a> {
    op: TunedOp,
    layers: &'a [&'a Linear<WebGpu>],
    x: WebGpuTensor, // [T, d_in]
    y: WebGpuTensor, // [T, d_out]
}

impl Session<WebGpu> {
    /// Begins to compile all variants, while the weights are still arriving: some drivers take long.
    pub fn compile_variants(&mut self, weights: WeightFormat) {
        self.ops.device_mut().compile_variants(weights);
    }

    /// Measures the variants of each op for about `budget_us` in all, uses the fastest and returns what was chosen.
    /// `kept` is what an earlier call has chosen on this device: those variants are compared with the first, but not
    /// measured. Spans that were recorded before are discarded.
    ///
    /// # Errors
    /// The device's own failure.
    pub async fn choose_kernels(
        &mut self,
        kept: &[KernelChoice],
        budget_us: f64,
    ) -> Result<Vec<KernelChoice>> {
        let level = self.ops.profiler().level();
        self.ops.profiler().set_level(Level::Off);
        let blocks = self.model.blocks.iter().flatten();
        let layers: Vec<_> = blocks.map(|block| &block.mixer.in_proj).collect();
        let chosen = choose_all(&mut self.ops, &layers, kept, budget_us).await;
        self.ops.profiler().discard();
        self.ops.profiler().set_level(level);
        let chosen = chosen?;
        self.ops.device_mut().note_kernel_choices(&chosen);
        Ok(chosen)
    }

    /// Returns to the first variant of every op.
    pub fn forget_kernels(&mut self) {
        self.ops.device_mut().forget_variants();
    }
}

async fn choose_all(
    ops: &mut Ops<WebGpu>,
    layers: &[&Linear<WebGpu>],
    kept: &[KernelChoice],
    budget_us: f64,
) -> Result<Vec<KernelChoice>> {
    let budget_us = budget_us / TunedOp::ALL.len() as f64;
    if let (Some(layer), []) = (layers.first(), kept) {
        ops.device_mut().compile_variants(layer.weight.format());
    }
    let mut chosen = Vec::new();
    for op in TunedOp::ALL {
        let kept = kept.iter().find(|choice| choice.op == op.name());
        chosen.push(choose(ops, layers, op, kept, budget_us).await?);
    }
    Ok(chosen)
}

async fn choose(
    ops: &mut Ops<WebGpu>,
    layers: &[&Linear<WebGpu>],
    op: TunedOp,
    kept: Option<&KernelChoice>,
    budget_us: f64,
) -> Result<KernelChoice> {
    let mut trial = Trial::new(ops, op, layers);
    let mut candidates = trial.right_variants(ops, kept).await?;
    if kept.is_none() && candidates.len() > 1 {
        trial.measure(ops, &mut candidates, budget_us).await?;
    }
    let best = match kept {
        Some(_) => candidates.len() - 1,
        None => fastest(&candidates),
    };
    let mut chosen = &candidates[best];
    if !trial.adopt(ops, chosen.variant).await {
        chosen = &candidates[0];
        trial.adopt(ops, chosen.variant).await;
    }
    Ok(KernelChoice {
        op: op.name().into(),
        variant: chosen.name.into(),
        of: kept.map_or(candidates.len(), |kept| kept.of),
    })
}

/// The index of the fastest; the first one unless another is faster by more than the noise.
fn fastest(candidates: &[Candidate]) -> usize {
    let by_time =
        (1..candidates.len()).min_by(|a, b| candidates[*a].us().total_cmp(&candidates[*b].us()));
    let first = &candidates[0];
    let limit_us = first.us() * (1.0 - LEAST_GAIN.max(first.noise()));
    let is_faster = |index: &usize| candidates[*index].us() < limit_us;
    by_time.filter(is_faster).unwrap_or(0)
}

/// Deterministic numbers within ±1. // [tokens, width]
fn activations(ops: &mut Ops<WebGpu>, tokens: usize, width: usize) -> WebGpuTensor {
    let number = |at: usize| (at * 7919 % 1999) as f32 / 1000.0 - 1.0;
    ops.constant(tokens, width, (0..tokens * width).map(number).collect())
}

impl<'a> Trial<'a> {
    fn new(ops: &mut Ops<WebGpu>, op: TunedOp, layers: &'a [&'a Linear<WebGpu>]) -> Trial<'a> {
        let tokens = match op {
            TunedOp::LinearOne => 1,
            TunedOp::LinearFew => FEW_TOKENS,
            TunedOp::LinearMat => TIMED_TOKENS,
        };
        let weight = &layers[0].weight;
        Trial {
            op,
            layers,
            x: activations(ops, tokens, weight.cols()), // [T, d_in]
            y: ops.tensor(tokens.max(CHECKED_TOKENS), weight.rows()), // [T, d_out]
        }
    }

    /// Uses a variant from now on, also in ops that are fused with this one. False if the device rejects it.
    async fn adopt(&self, ops: &mut Ops<WebGpu>, variant: u8) -> bool {
        let format = self.layers[0].weight.format();
        ops.device_mut().use_variant(self.op, format, variant).await
    }

    /// Uses a variant for this op alone. False if the device rejects it.
    async fn set(&self, ops: &mut Ops<WebGpu>, variant: u8) -> bool {
        let format = self.layers[0].weight.format();
        ops.device_mut().try_variant(self.op, format, variant).await
    }

    /// The variants with the same results as the first one, which comes first; if `kept` is given, only that one. Rows
    /// that no variant computes have only the first.
    async fn right_variants(
        &mut self,
        ops: &mut Ops<WebGpu>,
        kept: Option<&KernelChoice>,
    ) -> Result<Vec<Candidate>> {
        let weight = &self.layers[0].weight;
        let tokens = CHECKED_TOKENS.min(self.x.rows());
        let x = activations(ops, tokens, weight.cols()); // [T, d_in]
        let has_others = kept.is_some() || ops.device().has_variants(self.op, weight);
        let mut candidates = Vec::new();
        let mut expected = Vec::new();
        for (variant, name) in ops.device().variants(self.op, weight.format()) {
            let is_wanted = kept.map_or(has_others, |kept| kept.variant == name);
            if !(variant == 0 || is_wanted) || !self.set(ops, variant).await {
                continue;
            }
            ops.linear(self.layers[0], &x, &mut self.y);
            let got = ops.read(&self.y).await?;
            if candidates.is_empty() {
                expected = got;
            } else if !is_close(&got, &expected) {
                continue;
            }
            candidates.push(Candidate {
                variant,
                name,
                times_us: Vec::new(),
            });
        }
        Ok(candidates)
    }

    /// Measures `candidates` in turn and several times, because a device changes its clock rate.
    async fn measure(
        &mut self,
        ops: &mut Ops<WebGpu>,
        candidates: &mut [Candidate],
        budget_us: f64,
    ) -> Result<()> {
        let has_timestamps = ops.device().timestamp_step_us().is_some();
        let mut watch = Stopwatch::new(ops, has_timestamps);
        // The host's clock includes a readback.
        let mut readback_us = f64::INFINITY;
        for _ in 0..MAX_ROUNDS {
            let us = if has_timestamps {
                0.0
            } else {
                watch.wall_us(ops, 0, &mut |_, _| ()).await?
            };
            readback_us = readback_us.min(us);
        }
        self.set(ops, candidates[0].variant).await;
        let start_us = now_us();
        let mut calls = 1;
        while calls < MAX_CALLS
            && self.calls_us(ops, &mut watch, calls).await? - readback_us < LEAST_US
        {
            calls *= 2;
        }
        for round in 0..MAX_ROUNDS {
            // Every candidate is measured once, however slow the device is.
            if round > 0 && now_us() - start_us > budget_us {
                break;
            }
            let limit_us = CONTENDER
                * candidates
                    .iter()
                    .map(Candidate::us)
                    .fold(f64::INFINITY, f64::min);
            for (index, candidate) in candidates.iter_mut().enumerate() {
                if round > 0 && index > 0 && candidate.us() > limit_us {
                    continue;
                }
                self.set(ops, candidate.variant).await;
                let us = self.calls_us(ops, &mut watch, calls).await? - readback_us;
                candidate.times_us.push(us.max(1.0));
            }
        }
        Ok(())
    }

    /// The time of `calls` calls, each with the next block's weights: those of a single block would stay in the
    /// adapter's cache.
    async fn calls_us(
        &mut self,
        ops: &mut Ops<WebGpu>,
        watch: &mut Stopwatch<WebGpu>,
        calls: usize,
    ) -> Result<f64> {
        let (layers, x, y) = (self.layers, &self.x, &mut self.y);
        let mut call =
            |ops: &mut Ops<WebGpu>, at: usize| ops.linear(layers[at % layers.len()], x, y);
        watch.pass_us(ops, calls, &mut call).await
    }
}

fn is_close(got: &[f32], expected: &[f32]) -> bool {
    let largest = expected.iter().fold(0.0, |most: f32, v| most.max(v.abs()));
    let mut pairs = got.iter().zip(expected);
    // A comparison with NaN is false, so NaN counts as a difference.
    got.len() == expected.len() && pairs.all(|(a, b)| (a - b).abs() <= TOLERANCE * largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index_of_fastest(times_us: &[&[f64]]) -> usize {
        let candidate = |times_us: &&[f64]| Candidate {
            variant: 0,
            name: "",
            times_us: times_us.to_vec(),
        };
        fastest(&times_us.iter().map(candidate).collect::<Vec<_>>())
    }

    #[test]
    fn the_first_variant_stays_unless_another_one_is_clearly_faster() {
        assert_eq!(index_of_fastest(&[&[10.0], &[9.9], &[12.0]]), 0);
        assert_eq!(index_of_fastest(&[&[10.0], &[9.0], &[8.0, 11.0]]), 2);
        assert_eq!(index_of_fastest(&[&[10.0]]), 0);
    }

    #[test]
    fn a_gain_that_is_within_the_noise_of_the_first_variant_is_none() {
        assert_eq!(index_of_fastest(&[&[10.0, 12.0], &[8.5, 8.4]]), 0);
        assert_eq!(index_of_fastest(&[&[10.0, 12.0], &[7.5, 7.9]]), 1);
    }

    #[test]
    fn a_result_that_is_no_number_is_not_close() {
        assert!(is_close(&[1.0, 2.0], &[1.0, 2.001]));
        for wrong in [&[1.0, f32::NAN][..], &[1.0, 2.1], &[1.0]] {
            assert!(!is_close(wrong, &[1.0, 2.0]));
        }
    }
}
