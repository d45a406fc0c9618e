//! The forward pass, which can pause between blocks and at a block that has not been loaded yet. It is layer-major:
//! each block processes the whole prompt, chunk by chunk, before the next one starts, so weights are read once per
//! prompt and a block needs only the blocks before it. It does not sample.

use crate::model::Zamba2;
use crate::model::cache::Cache;
use crate::model::config::Config;
use crate::model::drafts::UndoRecord;
use crate::model::mixer::MixerState;
use crate::model::shared_transformer::SharedInput;
use crate::ops::Ops;
use crate::ops::device::{Device, Tensor};
use crate::ops::fused::{FusedOp, NormLinears, RowInput};
use crate::ops::trace::ModuleId;

/// Activation buffers, allocated once. // T ≤ CHUNK_ROWS
pub struct Scratch<D: Device> {
    pub normed: D::Tensor,        // [T, h]
    pub zxbcdt: D::Tensor,        // [T, d_in_proj]
    pub xbc: D::Tensor,           // [T, conv_dim]
    pub y: D::Tensor,             // [T, d_inner]
    pub y_normed: D::Tensor,      // [T, d_inner]
    pub concat: D::Tensor,        // [T, 2h]
    pub concat_normed: D::Tensor, // [T, 2h]
    pub q: D::Tensor,             // [T, 2h]
    pub k: D::Tensor,             // [T, kv_width]
    pub v: D::Tensor,             // [T, kv_width]
    pub rank: D::Tensor,          // [T, rank]
    pub qkv_rank: D::Tensor,      // [1, q, k, v, rank of each], fused
    pub attn_out: D::Tensor,      // [T, 2h]
    pub shared_out: D::Tensor,    // [T, h]
    pub gate_up: D::Tensor,       // [T, 2I]
    pub gate_up_rank: D::Tensor,  // [1, 2I + rank], fused
    pub activated: D::Tensor,     // [T, I]
    pub hybrid_out: D::Tensor,    // [T, h], linear(shared_out)
    pub last: D::Tensor,          // [1, h]
    pub logits: D::Tensor,        // [1, vocab]
}

impl<D: Device> Scratch<D> {
    pub fn new(ops: &mut Ops<D>, config: &Config) -> Self {
        let h = config.hidden_size;
        let n_adapters = if config.use_shared_attention_adapter {
            3
        } else {
            0
        };
        let qkv_rank = 2 * h + 2 * config.kv_width() + n_adapters * config.adapter_rank;
        let mut chunk = |cols| ops.tensor(D::CHUNK_ROWS, cols);
        Scratch {
            normed: chunk(h),
            zxbcdt: chunk(config.d_in_proj()),
            xbc: chunk(config.conv_dim()),
            y: chunk(config.d_inner),
            y_normed: chunk(config.d_inner),
            concat: chunk(2 * h),
            concat_normed: chunk(2 * h),
            q: chunk(2 * h),
            k: chunk(config.kv_width()),
            v: chunk(config.kv_width()),
            rank: chunk(config.adapter_rank),
            attn_out: chunk(2 * h),
            shared_out: chunk(h),
            gate_up: chunk(2 * config.intermediate_size),
            activated: chunk(config.intermediate_size),
            hybrid_out: chunk(h),
            qkv_rank: ops.tensor(1, qkv_rank),
            gate_up_rank: ops.tensor(1, 2 * config.intermediate_size + config.adapter_rank),
            last: ops.tensor(1, h),
            logits: ops.tensor(1, config.vocab_size),
        }
    }
}

/// Progress of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// `max_blocks` have been computed; `next` is the next block.
    Paused {
        next: usize,
    },
    /// Block `block`, or the shared transformer that it calls, has not been loaded.
    Waiting {
        block: usize,
    },
    Done,
}

/// The part of a block that is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockPart {
    Whole,
    /// Without the call of a shared transformer.
    MixerOnly,
}

/// Up to [`Device::CHUNK_ROWS`] rows of a pass.
struct Chunk<D: Device> {
    embedding: D::Tensor, // [T, h], input of the shared transformers
    stream: D::Tensor,    // [T, h]
}

/// One pass over new tokens: a prompt, a continuation, or one decode step.
pub struct ForwardPass<D: Device> {
    chunks: Vec<Chunk<D>>,
    /// stream + linear(shared_out): the mixer's input in a hybrid block.
    mixed: D::Tensor, // [T, h]
    next: usize,
    n_tokens: usize,
    dt_min: f32,
    /// Only in a pass over drafts.
    undo: Option<UndoRecord<D>>,
}

impl<D: Device> ForwardPass<D> {
    /// A pass over a prompt or the rest of one: embeds `tokens` (at least one). It has the prefill's bound of dt even
    /// for a single token, so that the bound does not depend on how much of a prompt was cached.
    pub fn new(ops: &mut Ops<D>, model: &Zamba2<D>, cache: &Cache<D>, tokens: &[u32]) -> Self {
        assert!(
            cache.len + tokens.len() <= cache.context,
            "the caller checks the context"
        );
        let mut pass = ForwardPass::with_room(ops, &model.config, tokens.len());
        pass.restart(ops, model, cache, tokens);
        pass.dt_min = model.dt_min_prefill();
        pass
    }

    /// Allocates a pass for `n_tokens`; [`ForwardPass::restart`] starts it.
    pub fn with_room(ops: &mut Ops<D>, config: &Config, n_tokens: usize) -> Self {
        let h = config.hidden_size;
        let starts = (0..n_tokens).step_by(D::CHUNK_ROWS);
        let rows = starts.map(|start| D::CHUNK_ROWS.min(n_tokens - start));
        ForwardPass {
            chunks: rows
                .map(|rows| Chunk {
                    embedding: ops.tensor(rows, h),
                    stream: ops.tensor(rows, h),
                })
                .collect(),
            mixed: ops.tensor(n_tokens.min(D::CHUNK_ROWS), h),
            next: 0,
            n_tokens: 0,
            dt_min: 0.0,
            undo: None,
        }
    }

    /// Allocates a pass for at most `n_tokens` decode steps at once, which [`ForwardPass::keep_rows`] can cut back.
    pub fn for_drafts(ops: &mut Ops<D>, config: &Config, n_tokens: usize) -> Self {
        assert!(n_tokens <= D::CHUNK_ROWS, "drafts are in one chunk");
        ForwardPass {
            undo: Some(UndoRecord::new(ops, config, n_tokens)),
            ..ForwardPass::with_room(ops, config, n_tokens)
        }
    }

    /// Reuses the buffers of this pass for new tokens, whose number must be the one that it was allocated for; at most
    /// that number in a pass of one chunk. One token is a decode step, except in an empty cache: there it is a prefill,
    /// as in the reference.
    pub fn restart(
        &mut self,
        ops: &mut Ops<D>,
        model: &Zamba2<D>,
        cache: &Cache<D>,
        tokens: &[u32],
    ) {
        let (module, table) = table(model);
        for (chunk, tokens) in self.chunks.iter_mut().zip(tokens.chunks(D::CHUNK_ROWS)) {
            let ys = &mut [&mut chunk.embedding, &mut chunk.stream];
            ops.embed(module, table, tokens, ys);
        }
        self.begin(model, cache, tokens.len());
    }

    /// Reuses this pass of one token for the chosen token of a top-k list.
    pub fn restart_chosen(
        &mut self,
        ops: &mut Ops<D>,
        model: &Zamba2<D>,
        cache: &Cache<D>,
        list: &D::Tensor,
    ) {
        let (module, table) = table(model);
        for chunk in &mut self.chunks {
            let ys = &mut [&mut chunk.embedding, &mut chunk.stream];
            ops.embed_top(module, table, list, ys);
        }
        self.begin(model, cache, 1);
    }

    fn begin(&mut self, model: &Zamba2<D>, cache: &Cache<D>, n_tokens: usize) {
        let are_steps = n_tokens == 1 || self.undo.is_some();
        self.dt_min = if are_steps && cache.len > 0 {
            model.dt_min_step()
        } else {
            model.dt_min_prefill()
        };
        self.next = 0;
        self.n_tokens = n_tokens;
    }

    /// Computes at most `max_blocks` blocks, as far as they are loaded. `cache.len` is increased after the last block.
    pub fn advance(
        &mut self,
        ops: &mut Ops<D>,
        model: &Zamba2<D>,
        cache: &mut Cache<D>,
        s: &mut Scratch<D>,
        max_blocks: usize,
    ) -> Progress {
        let n_blocks = model.blocks.len();
        let end = n_blocks.min(self.next.saturating_add(max_blocks));
        while self.next < end {
            if !model.has_block(self.next) {
                return Progress::Waiting { block: self.next };
            }
            let module = model.block_modules[self.next];
            ops.scope(module, |ops| self.run_block(ops, model, cache, s));
            self.next += 1;
        }
        if self.next < n_blocks {
            ops.flush();
            return Progress::Paused { next: self.next };
        }
        cache.len += self.n_tokens;
        self.n_tokens = 0;
        Progress::Done
    }

    fn run_block(
        &mut self,
        ops: &mut Ops<D>,
        model: &Zamba2<D>,
        cache: &mut Cache<D>,
        s: &mut Scratch<D>,
    ) {
        if let Some(undo) = &mut self.undo {
            undo.enter(ops, self.next, &mut cache.mamba[self.next], s);
        }
        for index in 0..self.chunks.len() {
            self.run_chunk(ops, model, cache, s, index, BlockPart::Whole);
        }
        if let Some(undo) = &mut self.undo {
            undo.leave(self.next, s);
        }
    }

    /// After a whole pass of [`ForwardPass::for_drafts`]: restores the cache as after a pass over the first `n_rows` of
    /// its `n_tokens` tokens, bit for bit.
    pub fn keep_rows(
        &mut self,
        ops: &mut Ops<D>,
        model: &Zamba2<D>,
        cache: &mut Cache<D>,
        s: &mut Scratch<D>,
        [n_rows, n_tokens]: [usize; 2],
    ) {
        let undo = self.undo.as_mut().expect("the pass was made for drafts");
        undo.keep_rows(ops, model, (cache, self.dt_min), s, n_rows);
        cache.truncate(cache.len - n_tokens + n_rows);
    }

    /// Computes `part` of the next block on chunk `index`. For inspections, which read the scratch between chunks: they
    /// go through all chunks in order, then call [`ForwardPass::end_block`]. The block has to be loaded.
    pub fn run_chunk(
        &mut self,
        ops: &mut Ops<D>,
        model: &Zamba2<D>,
        cache: &mut Cache<D>,
        s: &mut Scratch<D>,
        index: usize,
        part: BlockPart,
    ) {
        let block = model.blocks[self.next].as_ref();
        let block = block.expect("the caller checks that it is loaded");
        let before = self.undo.as_ref().map(|undo| undo.before(self.next));
        let state = MixerState {
            state: &mut cache.mamba[self.next],
            ssm_before: before.map(|before| &before.ssm),
            dt_min: self.dt_min,
        };
        let chunk = &mut self.chunks[index];
        let stream = &mut chunk.stream;
        let hybrid = block.hybrid.as_ref();
        let Some(hybrid) = hybrid.filter(|_| part == BlockPart::Whole) else {
            block.mixer.forward(ops, None, state, s, stream);
            return;
        };
        let shared = model.shared_transformers[hybrid.shared].as_ref();
        let shared = shared.expect("the caller checks that it is loaded");
        let kv = cache.kv[self.next].as_mut();
        let kv = kv.expect("hybrid blocks have a cache");
        let input = SharedInput {
            stream,
            embedding: &chunk.embedding,
        };
        shared.forward(ops, input, &hybrid.adapters, model.rope.as_ref(), kv, s);
        if D::FUSES_RESIDUAL {
            let (linear, mixed) = (&hybrid.linear, &mut self.mixed);
            ops.linear_residual(hybrid.add, linear, &s.shared_out, stream, mixed); // [T, h]
        } else {
            ops.linear(&hybrid.linear, &s.shared_out, &mut s.hybrid_out); // [T, h]
            ops.add(hybrid.add, stream, &s.hybrid_out, &mut self.mixed); // [T, h]
        }
        let mixed = Some(&self.mixed);
        block.mixer.forward(ops, mixed, state, s, stream);
    }

    /// Advances to the next block. If [`ForwardPass::run_chunk`] has not computed this one, the streams bypass it
    /// unchanged.
    pub fn end_block(&mut self) {
        self.next += 1;
    }

    /// The lower bound of dt in this pass.
    pub fn dt_min(&self) -> f32 {
        self.dt_min
    }

    pub fn n_chunks(&self) -> usize {
        self.chunks.len()
    }

    /// The residual stream of chunk `index` after the blocks computed so far. // [T, h]
    pub fn stream(&self, index: usize) -> &D::Tensor {
        &self.chunks[index].stream
    }

    /// Computes the logits of the last token into `s.logits`. // [1, vocab]
    pub fn last_logits(&self, ops: &mut Ops<D>, model: &Zamba2<D>, s: &mut Scratch<D>) {
        let chunk = self.chunks.last().expect("a pass has tokens");
        let mut last = &chunk.stream;
        if last.rows() > 1 {
            ops.last_row(last, &mut s.last);
            last = &s.last;
        }
        head(ops, model, last, &mut s.normed, &mut s.logits);
    }

    /// Computes the logits of every token of chunk `index`. // [T, vocab]
    pub fn chunk_logits(
        &self,
        ops: &mut Ops<D>,
        model: &Zamba2<D>,
        index: usize,
        s: &mut Scratch<D>,
        logits: &mut D::Tensor,
    ) {
        let stream = &self.chunks[index].stream;
        head(ops, model, stream, &mut s.normed, logits);
    }
}

/// The embedding table and the module that its spans belong to; a tied embedding is also the output matrix.
fn table<D: Device>(model: &Zamba2<D>) -> (ModuleId, &D::Weight) {
    let table = model.embed_tokens.as_ref();
    let table = table.expect("the embedding comes first");
    (model.plan.embed_tokens, &table.weight)
}

/// The final norm and the output matrix, on any rows of a residual stream. // stream [T, h], logits [T, vocab]
pub fn head<D: Device>(
    ops: &mut Ops<D>,
    model: &Zamba2<D>,
    stream: &D::Tensor,
    normed: &mut D::Tensor,
    logits: &mut D::Tensor,
) {
    let norm = model.final_layernorm.as_ref();
    let norm = norm.expect("the model is complete");
    let matrix = model.output_matrix().expect("the model is complete");
    if stream.rows() == 1 && ops.fuses_norm(&[matrix], 1) {
        ops.fused(FusedOp::NormLinears(NormLinears {
            norm: norm.into(),
            x: RowInput::Tensor(stream),
            linears: &[matrix],
            adds_to_y: false,
            y: logits, // [1, vocab]
        }));
    } else {
        ops.rms_norm(norm, stream, normed); // [T, h]
        ops.linear(matrix, normed, logits); // [T, vocab]
    }
}
