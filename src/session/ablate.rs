//! Ablation: how a model's predictions change if a part is left out, for given tokens, in passes of its own
//! (docs/inside.md).

use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Fact, Result};
use crate::model::Zamba2;
use crate::model::forward::{BlockPart, ForwardPass};
use crate::ops::Ops;
use crate::ops::device::Device;
use crate::ops::trace::Level;
use crate::session::Session;
use crate::session::inspect::MAX_TOP_K;
use crate::session::separate_pass::{SeparatePass, Steps, check_range, log_sum_exp};
use crate::session::sequence::{Alternative, alternatives};
use crate::text::sampling::{check_finite, most_probable};

/// The longest text that an ablation generates.
pub const MAX_ABLATED_TOKENS: usize = 256;

/// The part that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AblatedPart {
    /// The residual stream bypasses the block.
    Block,
    /// The mixer of a hybrid block gets the residual stream alone, without the shared transformer's output.
    Shared,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Ablation {
    pub block: usize,
    pub part: AblatedPart,
}

/// The model's predictions with and without a part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AblationEffect {
    /// Kullback-Leibler divergence of the ablated model's next token from that of the whole model, in nats.
    pub kl_nats: f64,
    pub whole: Prediction,
    pub ablated: Prediction,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// The most probable next tokens.
    pub top: Vec<Alternative>,
    /// The greedy continuation; an end token is the last one.
    pub ids: Vec<u32>,
    /// The text of `ids`; empty without a tokenizer.
    pub text: String,
}

/// How much of a [`Prediction`] to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PredictionLengths {
    /// 1 to [`MAX_TOP_K`].
    pub top_k: usize,
    /// 0 to [`MAX_ABLATED_TOKENS`]; the context may end the text earlier.
    pub max_tokens: usize,
}

impl<B: Device> Session<B> {
    /// Compares what follows `tokens` with what follows them without a part of the model: the distribution of the next
    /// token and a greedy text. Takes two passes, and two decode steps per token of the text but the first.
    ///
    /// `on_step` gets the number of steps done and the total; if it returns false, the ablation ends with `None`.
    ///
    /// # Errors
    /// As [`Session::inspect`]; [`Error::Setting`] for a block that does not exist, or one that calls no shared
    /// transformer.
    pub async fn ablate(
        &mut self,
        tokens: &[u32],
        ablation: Ablation,
        lengths: PredictionLengths,
        on_step: impl AsyncFnMut(usize, usize) -> bool,
    ) -> Result<Option<AblationEffect>> {
        self.check_complete()?;
        self.check_prompt(tokens, 0)?;
        check_range("top_k", lengths.top_k, 1, MAX_TOP_K)?;
        check_range("max_tokens", lengths.max_tokens, 0, MAX_ABLATED_TOKENS)?;
        check_range("block", ablation.block, 0, self.model.blocks.len() - 1)?;
        let hybrid = self.model.config.hybrid_blocks();
        if ablation.part == AblatedPart::Shared && !hybrid.contains(&ablation.block) {
            return Err(Error::Setting {
                name: "part".into(),
                fact: Fact::new("calls_no_shared")
                    .with("block", ablation.block)
                    .with("hybrid", hybrid),
            });
        }
        let n_passes = lengths.max_tokens.max(1);
        let mut steps = Steps::new(2 * n_passes * self.model.blocks.len(), on_step);
        let level = self.ops.profiler().level();
        self.ops.profiler().set_level(Level::Off);
        let whole = self.predict(tokens, None, lengths, &mut steps).await;
        let ablated = match &whole {
            Ok(Some(_)) => {
                self.predict(tokens, Some(ablation), lengths, &mut steps)
                    .await
            }
            _ => Ok(None),
        };
        self.ops.profiler().set_level(level);
        let (Some((whole_logits, whole)), Some((ablated_logits, ablated))) = (whole?, ablated?)
        else {
            return Ok(None);
        };
        Ok(Some(AblationEffect {
            kl_nats: kl_divergence(&whole_logits, &ablated_logits),
            whole,
            ablated,
        }))
    }

    /// The prediction after `tokens` without a part, and the logits of its first token. `[vocab]`
    async fn predict<F: AsyncFnMut(usize, usize) -> bool>(
        &mut self,
        tokens: &[u32],
        ablation: Option<Ablation>,
        lengths: PredictionLengths,
        steps: &mut Steps<F>,
    ) -> Result<Option<(Vec<f32>, Prediction)>> {
        let max_tokens = lengths.max_tokens.min(self.context() - tokens.len());
        let (ops, model) = (&mut self.ops, &self.model);
        let room = tokens.len() + max_tokens;
        let mut own = SeparatePass::new(ops, model, self.kv_format, tokens, room);
        let Some(first) = own.logits_without(ops, model, ablation, steps).await? else {
            return Ok(None);
        };
        let mut ids = Vec::new();
        let mut logits = first.clone();
        own.pass = ForwardPass::with_room(ops, &model.config, 1);
        while ids.len() < max_tokens {
            if !ids.is_empty() {
                own.pass
                    .restart(ops, model, &own.cache, &ids[ids.len() - 1..]);
                let next = own.logits_without(ops, model, ablation, steps).await?;
                let Some(next) = next else { return Ok(None) };
                logits = next;
            }
            let token = most_probable(&logits, 1)[0].token;
            ids.push(token);
            if model.config.eos_token_ids.contains(&token) {
                break;
            }
        }
        let tokenizer = self.tokenizer.as_ref();
        let text = tokenizer.map_or(Ok(String::new()), |tokenizer| tokenizer.decode(&ids))?;
        let top = alternatives(tokenizer, &most_probable(&first, lengths.top_k))?;
        Ok(Some((first, Prediction { top, ids, text })))
    }
}

impl<B: Device> SeparatePass<B> {
    /// Runs the whole pass without a part of the model. `[vocab]`, after the last token; `None` if the caller cancelled
    /// it.
    async fn logits_without<F: AsyncFnMut(usize, usize) -> bool>(
        &mut self,
        ops: &mut Ops<B>,
        model: &Zamba2<B>,
        ablation: Option<Ablation>,
        steps: &mut Steps<F>,
    ) -> Result<Option<Vec<f32>>> {
        for block in 0..model.blocks.len() {
            match ablation.filter(|ablation| ablation.block == block) {
                None => _ = self.advance(ops, model, 1),
                Some(Ablation { part, .. }) => self.leave_out(ops, model, part),
            }
            if !steps.next().await {
                return Ok(None);
            }
        }
        // Ends the pass if its last block was left out.
        self.advance(ops, model, 0);
        self.pass.last_logits(ops, model, &mut self.scratch);
        let logits = ops.read(&self.scratch.logits).await?;
        check_finite(&logits)?;
        Ok(Some(logits))
    }

    /// Advances past the next block without `part` of it.
    fn leave_out(&mut self, ops: &mut Ops<B>, model: &Zamba2<B>, part: AblatedPart) {
        if part == AblatedPart::Shared {
            for chunk in 0..self.pass.n_chunks() {
                self.run_chunk(ops, model, chunk, BlockPart::MixerOnly);
            }
        }
        self.pass.end_block();
    }
}

/// Σ p·ln(p / q) of the softmax p of `whole` and q of `ablated`. // [vocab]
fn kl_divergence(whole: &[f32], ablated: &[f32]) -> f64 {
    let (whole, ablated) = (
        whole.iter().copied().map(f64::from),
        ablated.iter().copied().map(f64::from),
    );
    let (p_log_sum, q_log_sum) = (log_sum_exp(whole.clone()), log_sum_exp(ablated.clone()));
    let terms = whole.zip(ablated).map(|(p, q)| {
        let log_p = p - p_log_sum;
        log_p.exp() * (log_p - (q - q_log_sum))
    });
    // Rounding may make the sum for equal distributions slightly negative.
    terms.sum::<f64>().max(0.0)
}
