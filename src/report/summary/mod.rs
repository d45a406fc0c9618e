//! Everything derived from a run: times of blocks, module types and modules, their work, and the time that the ceilings
//! allow. It measures nothing and contains no text in a language.
//!
//! A phase has many passes: the prefill of each run, or each step of each run. Whole passes and blocks have their
//! median and spread. Modules have their mean over the middle half of the passes by time, scaled to the median pass:
//! this leaves out disturbed passes, averages over a clock that is coarser than a module, and keeps the sum of self
//! times equal to the pass. The tree shows one pass, the one with the median time.

mod blocks;
mod figures;
mod phase;
mod recorded;
mod rows;
mod spread;
mod tree;
mod workload;

pub use figures::{
    BlockRow, FlopsByKind, General, MemoryAt, ModuleRow, Parts, PartsTotal, PhaseSummary, Summary,
    TreeNode, TypeRow,
};
pub use spread::{Spread, ratio};
pub use workload::{peak_gflops, works};

use crate::model::config::Config;
use crate::report::advice;
use crate::report::run::Run;
use crate::report::summary::phase::Phase;

/// Summarises a checked run.
pub fn summarise(run: &Run) -> Summary {
    let config = run.config();
    let phase = |is_decode| Phase {
        run,
        config: &config,
        is_decode,
    };
    let prefill = phase(false).summary();
    let mut summary = Summary {
        label: run.label.clone(),
        general: general(run, &config, prefill.wall_us),
        prefill,
        decode: phase(true).summary(),
        memory: (0..=run.decode_tokens)
            .map(|step| memory_at(run, step))
            .collect(),
        process_bytes: run.memory.process_bytes,
        ceilings: run.ceilings,
        advice: Vec::new(),
        cautions: Vec::new(),
    };
    summary.advice = advice::advice(run, &summary);
    summary.cautions = advice::cautions(run, &summary);
    summary
}

fn general(run: &Run, config: &Config, forward_us: Spread) -> General {
    General {
        model: run.model.name.clone(),
        forward_us,
        hidden_size: config.hidden_size,
        vocab_size: config.vocab_size,
        prompt_tokens: run.prompt_tokens,
        decode_tokens: run.decode_tokens,
        n_blocks: config.n_blocks(),
        parameters: run.model.parameters,
        runs: run.runs.len(),
        warmup: run.warmup,
        backend: run.conditions.backend.clone(),
        weights: run.conditions.weights.clone(),
        threads: run.conditions.threads,
        host: run.conditions.host.clone(),
        context: run.conditions.context,
        timer: run.timer.name(),
        timer_resolution_us: run.timer.resolution_us,
        kernels: run.conditions.kernels.clone(),
    }
}

fn memory_at(run: &Run, step: usize) -> MemoryAt {
    let memory = &run.memory;
    let positions = (run.prompt_tokens + step) as u64;
    MemoryAt {
        step,
        weights_bytes: memory.weights_bytes,
        shared_bytes: memory.shared_bytes,
        ssm_state_bytes: memory.ssm_state_bytes,
        conv_state_bytes: memory.conv_state_bytes,
        kv_bytes: memory.kv_bytes_per_token.saturating_mul(positions),
    }
}
