//! The data types of a summary, which the page uses as well (`www/engine/report.d.ts`). They contain no text in a
//! language: advice and cautions are keys with values.

use serde::Serialize;

use crate::model::config::BlockKind;
use crate::model::module::Part;
use crate::ops::device::{Ceilings, KernelChoice};
use crate::report::count::{Kind, ModuleWork};
use crate::report::sentence::{Sentence, SentenceValue};
use crate::report::summary::spread::Spread;
use crate::report::verdict::{Roof, Verdict};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub label: String,
    pub general: General,
    pub prefill: PhaseSummary,
    /// Per decode step.
    pub decode: PhaseSummary,
    /// After prefill and after each decode step.
    pub memory: Vec<MemoryAt>,
    pub process_bytes: Option<u64>,
    pub ceilings: Option<Ceilings>,
    /// The most useful first.
    pub advice: Vec<Sentence>,
    pub cautions: Vec<Sentence>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct General {
    pub model: String,
    pub forward_us: Spread,
    pub hidden_size: usize,
    pub vocab_size: usize,
    pub prompt_tokens: usize,
    pub decode_tokens: usize,
    pub n_blocks: usize,
    pub parameters: u64,
    pub runs: usize,
    pub warmup: usize,
    pub backend: String,
    pub weights: String,
    pub threads: usize,
    pub host: String,
    pub context: usize,
    pub timer: SentenceValue,
    pub timer_resolution_us: f64,
    pub kernels: Vec<KernelChoice>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MemoryAt {
    pub step: usize,
    pub weights_bytes: u64,
    pub shared_bytes: u64,
    pub ssm_state_bytes: u64,
    pub conv_state_bytes: u64,
    pub kv_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseSummary {
    /// From runs without spans.
    pub wall_us: Spread,
    /// From runs with spans.
    pub profiled_us: Spread,
    pub recording_percent: f64,
    /// Within the spread of the runs, the overhead of profiling cannot be distinguished from noise.
    pub is_recording_measurable: bool,
    pub tokens: usize,
    pub flops: f64,
    pub flops_by_kind: FlopsByKind,
    pub bytes: f64,
    pub tflops: f64,
    pub gb_per_s: f64,
    /// FLOPs per byte.
    pub intensity: f64,
    pub roof: Roof,
    pub verdict: Verdict,
    pub peak_gflops: Option<f64>,
    pub percent_of_ceiling: Option<f64>,
    pub blocks: Vec<BlockRow>,
    pub types: Vec<TypeRow>,
    pub modules: Vec<ModuleRow>,
    pub tree: Vec<TreeNode>,
    pub untracked_us: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct FlopsByKind {
    pub linear: f64,
    pub conv1d: f64,
    pub attention: f64,
    pub ssm: f64,
}

impl FlopsByKind {
    pub fn of(works: &[ModuleWork]) -> FlopsByKind {
        let mut by_kind = FlopsByKind::default();
        for work in works {
            match work.kind {
                Kind::Linear => by_kind.linear += work.flops,
                Kind::Conv1d => by_kind.conv1d += work.flops,
                Kind::Attention => by_kind.attention += work.flops,
                Kind::Ssm => by_kind.ssm += work.flops,
                Kind::Memory => {}
            }
        }
        by_kind
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BlockRow {
    pub block: usize,
    pub kind: BlockKind,
    pub shared_transformer: Option<usize>,
    /// Which call of its shared transformer this block makes, counted from 1.
    pub call: Option<usize>,
    pub us: Spread,
    /// Times by part, with the sum `us.median`.
    pub parts_us: Parts,
    pub flops: PartsTotal,
    pub bytes: f64,
    pub tflops: f64,
    pub gb_per_s: f64,
    pub percent_of_ceiling: Option<f64>,
    /// `us.median` over the median of all blocks of this kind.
    pub ratio: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Parts {
    pub mamba: f64,
    pub attention: f64,
    pub ffn: f64,
    pub other: f64,
}

impl Parts {
    pub fn of(&mut self, part: Part) -> &mut f64 {
        match part {
            Part::Mamba => &mut self.mamba,
            Part::Attention => &mut self.attention,
            Part::Ffn => &mut self.ffn,
            Part::Other => &mut self.other,
        }
    }

    /// Scaled to the sum `total`.
    pub fn scaled_to(self, total: f64) -> Parts {
        let sum = self.mamba + self.attention + self.ffn + self.other;
        let scale = if sum > 0.0 { total / sum } else { 0.0 };
        Parts {
            mamba: self.mamba * scale,
            attention: self.attention * scale,
            ffn: self.ffn * scale,
            other: self.other * scale,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PartsTotal {
    #[serde(flatten)]
    pub parts: Parts,
    pub total: f64,
}

/// Percentages are self time relative to the profiled time, so that the rows of a phase and `untracked_us` add up to
/// 100.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TypeRow {
    #[serde(rename = "type")]
    pub class: String,
    pub count: usize,
    pub us: f64,
    pub self_us: f64,
    pub mean_us: f64,
    pub time_percent: f64,
    /// Without child modules.
    pub flops: f64,
    pub flops_percent: f64,
}

/// `time_percent` is of self time as in [`TypeRow`]; work and rates include child modules.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModuleRow {
    pub path: String,
    /// The last component of the path.
    pub name: String,
    #[serde(rename = "type")]
    pub class: String,
    pub part: Part,
    pub block: Option<usize>,
    pub count: usize,
    pub us: f64,
    pub self_us: f64,
    pub time_percent: f64,
    pub flops: f64,
    pub bytes: f64,
    pub tflops: f64,
    pub gb_per_s: f64,
    pub intensity: Option<f64>,
    pub percent_of_ceiling: Option<f64>,
}

/// A module in one pass. Children are placed one after another from the start of their parent, in the order in which
/// they ran, followed by the parent's self time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TreeNode {
    pub path: String,
    pub name: String,
    #[serde(rename = "type")]
    pub class: String,
    pub part: Part,
    pub depth: usize,
    pub start_us: f64,
    pub us: f64,
    pub self_us: f64,
    pub block: Option<usize>,
}
