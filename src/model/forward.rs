//! A walk over the blocks that can stop and go on: between blocks, and where a block has not arrived yet. It stands
//! on floor 2. It is layer-major: each block reads the whole prompt, chunk by chunk, before the next one starts, so
//! that weights are touched once per prompt and a block needs only its predecessors.

use crate::backend::{Backend, Linear};
use crate::model::cache::Cache;
use crate::model::config::Config;
use crate::model::{Layer, Zamba2};

/// Rows of a prompt that go through a block together: enough to reuse a weight while it is in a register, few enough
/// that the widest activation of the 7B model stays within 8 MB.
pub const CHUNK: usize = 64;

/// Activations, allocated once. // T ≤ CHUNK
pub struct Scratch<B: Backend> {
    pub normed: B::Tensor,    // [T, h]
    pub zxbcdt: B::Tensor,    // [T, d_in_proj]
    pub xbc: B::Tensor,       // [T, conv_dim]
    pub y: B::Tensor,         // [T, d_inner]
    pub y_normed: B::Tensor,  // [T, d_inner]
    pub wide: B::Tensor,      // [T, 2h]
    pub u: B::Tensor,         // [T, 2h]
    pub q: B::Tensor,         // [T, 2h]
    pub k: B::Tensor,         // [T, kv_width]
    pub v: B::Tensor,         // [T, kv_width]
    pub rank: B::Tensor,      // [T, rank]
    pub attended: B::Tensor,  // [T, 2h]
    pub shared: B::Tensor,    // [T, h]
    pub gate_up: B::Tensor,   // [T, 2I]
    pub activated: B::Tensor, // [T, I]
    pub spoken: B::Tensor,    // [T, h], linear(shared)
    pub last: B::Tensor,      // [1, h]
    pub logits: B::Tensor,    // [T, vocab]
}

impl<B: Backend> Scratch<B> {
    pub fn new(be: &mut B, config: &Config) -> Self {
        let h = config.hidden_size;
        let mut chunk = |cols| be.tensor(CHUNK, cols);
        Scratch {
            normed: chunk(h),
            zxbcdt: chunk(config.d_in_proj()),
            xbc: chunk(config.conv_dim()),
            y: chunk(config.d_inner),
            y_normed: chunk(config.d_inner),
            wide: chunk(2 * h),
            u: chunk(2 * h),
            q: chunk(2 * h),
            k: chunk(config.kv_width()),
            v: chunk(config.kv_width()),
            rank: chunk(config.adapter_rank),
            attended: chunk(2 * h),
            shared: chunk(h),
            gate_up: chunk(2 * config.intermediate_size),
            activated: chunk(config.intermediate_size),
            spoken: chunk(h),
            last: be.tensor(1, h),
            logits: be.tensor(CHUNK, config.vocab_size),
        }
    }
}

/// How far a pass has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The budget is spent; block `next` is the next one.
    Paused {
        next: usize,
    },
    /// Block `block` (or what it needs) has not arrived.
    Waiting {
        block: usize,
    },
    Done,
}

/// Up to [`CHUNK`] rows on their way through the model.
struct Chunk<B: Backend> {
    embedding: B::Tensor, // [T, h], kept: the shared blocks read it again
    stream: B::Tensor,    // [T, h]
}

/// One pass over new tokens: a prompt, a continuation, or one decode step.
pub struct ForwardPass<B: Backend> {
    chunks: Vec<Chunk<B>>,
    /// stream + linear(shared): the mixer's input in a hybrid block.
    mixed: B::Tensor, // [T, h]
    next: usize,
    n_tokens: usize,
    dt_min: f32,
}

impl<B: Backend> ForwardPass<B> {
    /// Embeds `tokens` (at least one). The first token of a fresh cache counts as prefill even when it is alone, as
    /// in the reference; this decides which bound of dt holds.
    pub fn new(be: &mut B, model: &Zamba2<B>, cache: &Cache<B>, tokens: &[u32]) -> Self {
        assert!(
            cache.len + tokens.len() <= cache.context,
            "the caller checks the context"
        );
        let mut pass = ForwardPass::with_room(be, &model.config, tokens.len());
        pass.restart(be, model, cache, tokens);
        pass
    }

    /// The memory of a pass over `n_tokens`, which begins when it is restarted.
    pub fn with_room(be: &mut B, config: &Config, n_tokens: usize) -> Self {
        let h = config.hidden_size;
        let starts = (0..n_tokens).step_by(CHUNK);
        let rows = starts.map(|start| CHUNK.min(n_tokens - start));
        ForwardPass {
            chunks: rows
                .map(|rows| Chunk {
                    embedding: be.tensor(rows, h),
                    stream: be.tensor(rows, h),
                })
                .collect(),
            mixed: be.tensor(n_tokens.min(CHUNK), h),
            next: 0,
            n_tokens: 0,
            dt_min: 0.0,
        }
    }

    /// Starts over with new tokens in the memory of this pass, which must have had as many.
    pub fn restart(&mut self, be: &mut B, model: &Zamba2<B>, cache: &Cache<B>, tokens: &[u32]) {
        let table = table(model);
        for (chunk, tokens) in self.chunks.iter_mut().zip(tokens.chunks(CHUNK)) {
            be.embed(table, tokens, &mut chunk.embedding);
            be.embed(table, tokens, &mut chunk.stream);
        }
        self.begin(model, cache, tokens.len());
    }

    /// Starts over with the first token of row `row` of `lists`, which the device has chosen, in the memory of this pass
    /// over one token.
    pub fn restart_chosen(
        &mut self,
        be: &mut B,
        model: &Zamba2<B>,
        cache: &Cache<B>,
        lists: &B::Tensor,
        row: usize,
    ) {
        for chunk in &mut self.chunks {
            be.embed_top(table(model), lists, row, &mut chunk.embedding);
            be.embed_top(table(model), lists, row, &mut chunk.stream);
        }
        self.begin(model, cache, 1);
    }

    fn begin(&mut self, model: &Zamba2<B>, cache: &Cache<B>, n_tokens: usize) {
        let settings = &model.settings;
        self.dt_min = if n_tokens == 1 && cache.len > 0 {
            settings.dt_min_step.unwrap_or(0.0)
        } else {
            settings
                .dt_min_prefill
                .unwrap_or(model.config.time_step_min)
        };
        self.next = 0;
        self.n_tokens = n_tokens;
    }

    /// Goes through at most `max_blocks` blocks, as far as they have arrived. The cache counts the new tokens when
    /// the last block is done.
    pub fn advance(
        &mut self,
        be: &mut B,
        model: &Zamba2<B>,
        cache: &mut Cache<B>,
        s: &mut Scratch<B>,
        max_blocks: usize,
    ) -> Progress {
        let end = model.layers.len().min(self.next.saturating_add(max_blocks));
        while self.next < end {
            if !model.has_layer(self.next) {
                return Progress::Waiting { block: self.next };
            }
            let name = model.layer_names[self.next];
            be.scope(name, |be| self.run_block(be, model, cache, s));
            self.next += 1;
        }
        be.flush();
        if self.next < model.layers.len() {
            return Progress::Paused { next: self.next };
        }
        cache.len += self.n_tokens;
        self.n_tokens = 0;
        Progress::Done
    }

    fn run_block(
        &mut self,
        be: &mut B,
        model: &Zamba2<B>,
        cache: &mut Cache<B>,
        s: &mut Scratch<B>,
    ) {
        let state = &mut cache.mamba[self.next];
        for chunk in &mut self.chunks {
            let stream = &mut chunk.stream;
            match model.layers[self.next]
                .as_ref()
                .expect("checked by advance")
            {
                Layer::Mamba(layer) => layer.forward(be, None, state, self.dt_min, s, stream),
                Layer::Hybrid(hybrid) => {
                    let block = model.blocks[hybrid.block]
                        .as_ref()
                        .expect("checked by advance");
                    let kv = cache.kv[self.next]
                        .as_mut()
                        .expect("hybrid blocks have a cache");
                    let (embedding, adapters) = (&chunk.embedding, &hybrid.adapters);
                    let rope = model.rope.as_ref();
                    be.scope(model.shared_name, |be| {
                        block.forward(be, stream, embedding, adapters, rope, kv, s);
                    });
                    be.linear(&hybrid.linear, &s.shared, &mut s.spoken); // [T, h]
                    be.add(stream, &s.spoken, &mut self.mixed); // [T, h]
                    let (mamba, dt_min) = (&hybrid.mamba, self.dt_min);
                    mamba.forward(be, Some(&self.mixed), state, dt_min, s, stream);
                }
            }
        }
    }

    pub fn n_chunks(&self) -> usize {
        self.chunks.len()
    }

    /// The residual stream of chunk `index` after the blocks done so far. // [T, h]
    pub fn stream(&self, index: usize) -> &B::Tensor {
        &self.chunks[index].stream
    }

    /// Leaves the logits of the last token in `s.logits`. // [1, vocab]
    pub fn last_logits(&self, be: &mut B, model: &Zamba2<B>, s: &mut Scratch<B>) {
        let chunk = self.chunks.last().expect("a pass has tokens");
        be.last_row(&chunk.stream, &mut s.last);
        head(be, model, &s.last, &mut s.normed, &mut s.logits);
    }

    /// Leaves the logits of every token of chunk `index` in `s.logits`. // [T, vocab]
    pub fn chunk_logits(&self, be: &mut B, model: &Zamba2<B>, index: usize, s: &mut Scratch<B>) {
        head(
            be,
            model,
            &self.chunks[index].stream,
            &mut s.normed,
            &mut s.logits,
        );
    }
}

fn table<B: Backend>(model: &Zamba2<B>) -> &Linear<B> {
    let table = model.embed_tokens.as_ref();
    table.expect("the embedding comes first")
}

fn head<B: Backend>(
    be: &mut B,
    model: &Zamba2<B>,
    stream: &B::Tensor,
    normed: &mut B::Tensor,
    logits: &mut B::Tensor,
) {
    let norm = model
        .final_layernorm
        .as_ref()
        .expect("the model is complete");
    be.rms_norm(norm, stream, normed);
    let matrix = model.output_matrix().expect("the model is complete");
    be.linear(matrix, normed, logits);
}
