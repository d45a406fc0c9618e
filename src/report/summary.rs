//! Everything that is derived from a run: times of blocks, module types and modules, their work, and what the ceilings
//! would allow. It stands inside the report.
//!
//! A phase has many passes: the prefill of each run, or each step of each run. Whole passes and blocks have their median
//! and spread. Modules have their mean over the middle half of the passes by time, in proportion to the median pass: a
//! pass that something else held up is left out, a clock whose steps are coarser than a module averages out, and self
//! times still add up. The tree is one pass, the one whose time is the median.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::backend::Ceilings;
use crate::family;
use crate::model::config::{BlockKind, Config};
use crate::report::advice;
use crate::report::count::{self, Arithmetic, Formats, Kind, ModuleWork};
use crate::report::modules::{self, Part};
use crate::report::run::{ProfiledRun, RecordedLevel, Run, Spans, UnprofiledRun};
use crate::report::words::Language;

/// FLOPs per byte from which a pass counts as held by arithmetic where no ceilings were measured: between those of the
/// processors in docs/performance.md.
const TYPICAL_BALANCE: f64 = 10.0;

/// One figure over several measurements; the percentiles lie between two of them in proportion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub p5: f64,
    pub p95: f64,
    pub n: usize,
}

impl Spread {
    pub fn of(mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * values.len().saturating_sub(1) as f64;
            let (low, high) = (place.floor() as usize, place.ceil() as usize);
            match (values.get(low), values.get(high)) {
                (Some(a), Some(b)) => a + (b - a) * place.fract(),
                _ => 0.0,
            }
        };
        Spread {
            median: at(0.5),
            p5: at(0.05),
            p95: at(0.95),
            n: values.len(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub label: String,
    pub general: General,
    pub prefill: PhaseSummary,
    /// Per token.
    pub decode: PhaseSummary,
    /// After the prompt and after each step.
    pub memory: Vec<MemoryAt>,
    pub process_bytes: Option<u64>,
    pub ceilings: Option<Ceilings>,
    pub advice: Vec<String>,
    pub cautions: Vec<String>,
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
    pub timer_source: String,
    pub timer_resolution_us: f64,
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

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    Arithmetic,
    Memory,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseSummary {
    /// Without spans.
    pub wall_us: Spread,
    /// With spans.
    pub profiled_us: Spread,
    pub recording_percent: f64,
    pub tokens: usize,
    pub flops: f64,
    pub flops_by_kind: FlopsByKind,
    pub bytes: f64,
    pub tflops: f64,
    pub gb_per_s: f64,
    pub intensity: f64,
    pub bound: Bound,
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

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BlockRow {
    pub block: usize,
    pub kind: BlockKind,
    pub shared_block: Option<usize>,
    /// The n-th call of its shared block, from 1.
    pub call: Option<usize>,
    pub us: Spread,
    /// These sum to `us.median`.
    pub parts_us: Parts,
    pub flops: PartsTotal,
    pub bytes: f64,
    pub tflops: f64,
    pub gb_per_s: f64,
    pub percent_of_ceiling: Option<f64>,
    /// To the median of its own kind.
    pub ratio: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Parts {
    pub mamba: f64,
    pub attention: f64,
    pub ffn: f64,
    pub other: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PartsTotal {
    #[serde(flatten)]
    pub parts: Parts,
    pub total: f64,
}

/// Percentages are of the profiled time and of self times, so that the rows of a phase and what is not tracked make a
/// hundred.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TypeRow {
    #[serde(rename = "type")]
    pub class: String,
    pub count: usize,
    pub us: f64,
    pub self_us: f64,
    pub mean_us: f64,
    pub time_percent: f64,
    /// Without those of modules inside.
    pub flops: f64,
    pub flops_percent: f64,
}

/// `time_percent` is of self time as in [`TypeRow`]; work and rates are of the module with all inside it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModuleRow {
    pub path: String,
    #[serde(rename = "type")]
    pub class: String,
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

/// A module in one pass. Children follow one another from their parent's start in the order in which they ran; what a
/// parent did itself comes after them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TreeNode {
    pub path: String,
    pub name: String,
    #[serde(rename = "type")]
    pub class: String,
    pub depth: usize,
    pub start_us: f64,
    pub us: f64,
    pub self_us: f64,
    pub block: Option<usize>,
}

/// Derives everything from a checked run.
pub fn summarise(run: &Run, language: Language) -> Summary {
    let config = run.config();
    let prefill = Phase {
        run,
        config: &config,
        decode: false,
    };
    let decode = Phase {
        decode: true,
        ..prefill
    };
    let prefill = prefill.summary();
    let memory = &run.memory;
    let mut summary = Summary {
        label: run.label.clone(),
        general: General {
            model: run.model.name.clone(),
            forward_us: prefill.wall_us,
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
            timer_source: run.timer.source.clone(),
            timer_resolution_us: run.timer.resolution_us,
        },
        prefill,
        decode: decode.summary(),
        memory: (0..=run.decode_tokens)
            .map(|step| MemoryAt {
                step,
                weights_bytes: memory.weights_bytes,
                shared_bytes: memory.shared_bytes,
                ssm_state_bytes: memory.ssm_state_bytes,
                conv_state_bytes: memory.conv_state_bytes,
                kv_bytes: (memory.kv_bytes_per_token)
                    .saturating_mul((run.prompt_tokens + step) as u64),
            })
            .collect(),
        process_bytes: memory.process_bytes,
        ceilings: run.ceilings,
        advice: Vec::new(),
        cautions: Vec::new(),
    };
    summary.advice = advice::advice(run, &summary, language);
    summary.cautions = advice::cautions(run, &summary, language);
    summary
}

/// `a / b`, and 0 where there is no b: JSON has no other number for it.
pub fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

/// The peak of `arithmetic` in GFLOP/s.
pub fn peak_gflops(ceilings: &Ceilings, arithmetic: Arithmetic) -> f64 {
    2.0 * match arithmetic {
        Arithmetic::Int8 => ceilings.int8_gmacs_per_s,
        Arithmetic::Int16 => ceilings.int16_gmacs_per_s,
        Arithmetic::F32 => ceilings.f32_gmacs_per_s,
    }
}

/// The time that the ceilings allow for one module.
fn allowed_us(ceilings: &Ceilings, work: &ModuleWork) -> f64 {
    arithmetic_us(ceilings, work).max(memory_us(ceilings, work))
}

fn arithmetic_us(ceilings: &Ceilings, work: &ModuleWork) -> f64 {
    work.flops / peak_gflops(ceilings, work.arithmetic) / 1e3
}

fn memory_us(ceilings: &Ceilings, work: &ModuleWork) -> f64 {
    work.bytes() / ceilings.read_gb_per_s / 1e3
}

/// The work of one prefill, or of a decode step at the mean of the run's contexts.
pub fn works(run: &Run, config: &Config, formats: Formats, decode: bool) -> Vec<ModuleWork> {
    if !decode {
        return count::pass(config, run.prompt_tokens, 0, formats);
    }
    // Work grows linearly with the context, so the mean of the steps is that of the first and the last.
    let mut works = count::pass(config, 1, run.prompt_tokens, formats);
    let last = run.prompt_tokens + run.decode_tokens.saturating_sub(1);
    for (work, last) in works.iter_mut().zip(count::pass(config, 1, last, formats)) {
        work.flops = (work.flops + last.flops) / 2.0;
        work.state_bytes = (work.state_bytes + last.state_bytes) / 2.0;
    }
    works
}

#[derive(Clone, Copy)]
struct Phase<'a> {
    run: &'a Run,
    config: &'a Config,
    decode: bool,
}

/// Work of a module.
#[derive(Clone, Copy, Default)]
struct Total {
    flops: f64,
    bytes: f64,
    allowed_us: f64,
}

impl Total {
    fn add(&mut self, other: Total) {
        self.flops += other.flops;
        self.bytes += other.bytes;
        self.allowed_us += other.allowed_us;
    }
}

impl Phase<'_> {
    fn summary(self) -> PhaseSummary {
        let Phase { run, config, .. } = self;
        let ceilings = run.ceilings.as_ref();
        let wall_us = Spread::of(run.unprofiled.iter().flat_map(|r| self.walls(r)).collect());
        let profiled: Vec<f64> = run.runs.iter().flat_map(|r| self.walls(r)).collect();
        let profiled_us = Spread::of(profiled.clone());

        let works = works(run, config, run.formats(), self.decode);
        let total_of = |work: &ModuleWork| Total {
            flops: work.flops,
            bytes: work.bytes(),
            allowed_us: ceilings.map_or(0.0, |c| allowed_us(c, work)),
        };
        let mut total = Total::default();
        let mut flops_by_kind = FlopsByKind::default();
        for work in &works {
            total.add(total_of(work));
            match work.kind {
                Kind::Linear => flops_by_kind.linear += work.flops,
                Kind::Conv1d => flops_by_kind.conv1d += work.flops,
                Kind::Attention => flops_by_kind.attention += work.flops,
                Kind::Ssm => flops_by_kind.ssm += work.flops,
                Kind::Memory => {}
            }
        }

        let mut tree = Modules::default();
        let mut samples: Vec<Samples> = Vec::new();
        let middle = middle_half(&profiled);
        let mut pass_index = 0;
        for run in &run.runs {
            let passes = Passes::new(config, &run.spans, &mut tree);
            samples.resize_with(tree.nodes.len(), Samples::default);
            for pass in self.passes() {
                for (node, times) in passes.times(pass, &run.spans, &tree) {
                    samples[node].add(times, middle[pass_index]);
                }
                pass_index += 1;
            }
        }
        let chosen = profiled.iter().zip(&middle).filter(|(_, chosen)| **chosen);
        let scale = ratio(profiled_us.median, chosen.map(|(us, _)| us).sum());
        for samples in &mut samples {
            samples.finish(profiled.len(), scale);
        }

        // Work that has no span of its own belongs to the nearest module around it that has one.
        let mut own = vec![Total::default(); tree.nodes.len()];
        for work in &works {
            let mut path = Some(&work.path[..]);
            while let Some(at) = path {
                if let Some(&node) = tree
                    .by_path
                    .get(at)
                    .filter(|&&node| samples[node].calls > 0)
                {
                    own[node].add(total_of(work));
                    break;
                }
                path = modules::parent(at);
            }
        }
        let mut inside = own.clone();
        for node in (0..tree.nodes.len()).rev() {
            if let Some(parent) = tree.nodes[node].parent {
                let total = inside[node];
                inside[parent].add(total);
            }
        }

        let percent = |total: Total, us: f64| {
            let percent = 100.0 * ratio(total.allowed_us, us);
            ceilings.map(|_| percent)
        };
        let share = |us: f64| 100.0 * ratio(us, profiled_us.median);
        let mut rows: Vec<ModuleRow> = (tree.nodes.iter().enumerate())
            .filter(|(node, _)| samples[*node].calls > 0)
            .map(|(node, module)| {
                let (total, samples) = (inside[node], &samples[node]);
                let (us, self_us) = (samples.us, samples.self_us);
                ModuleRow {
                    path: module.path.clone(),
                    class: module.class.clone(),
                    block: module.block,
                    count: samples.calls,
                    us,
                    self_us,
                    time_percent: share(self_us),
                    flops: total.flops,
                    bytes: total.bytes,
                    tflops: ratio(total.flops, us) / 1e6,
                    gb_per_s: ratio(total.bytes, us) / 1e3,
                    intensity: (total.bytes > 0.0).then(|| total.flops / total.bytes),
                    percent_of_ceiling: percent(total, us).filter(|_| total.allowed_us > 0.0),
                }
            })
            .collect();
        let mut types: BTreeMap<&str, TypeRow> = BTreeMap::new();
        for row in &rows {
            let kind = types.entry(&row.class).or_insert_with(|| TypeRow {
                class: row.class.clone(),
                count: 0,
                us: 0.0,
                self_us: 0.0,
                mean_us: 0.0,
                time_percent: 0.0,
                flops: 0.0,
                flops_percent: 0.0,
            });
            kind.count += row.count;
            kind.us += row.us;
            kind.self_us += row.self_us;
            kind.flops += own[tree.by_path[&row.path]].flops;
        }
        let mut types: Vec<TypeRow> = types.into_values().collect();
        for row in &mut types {
            row.mean_us = ratio(row.us, row.count as f64);
            row.time_percent = share(row.self_us);
            row.flops_percent = 100.0 * ratio(row.flops, total.flops);
        }
        types.sort_by(|a, b| b.self_us.total_cmp(&a.self_us));
        let tracked_us: f64 = rows.iter().map(|row| row.self_us).sum();
        let blocks = self.blocks(&works, &total_of, &tree, &samples);
        rows.sort_by(|a, b| b.self_us.total_cmp(&a.self_us));

        let bound = match ceilings {
            Some(c) => {
                let sum = |us: fn(&Ceilings, &ModuleWork) -> f64| -> f64 {
                    works.iter().map(|work| us(c, work)).sum()
                };
                sum(arithmetic_us) > sum(memory_us)
            }
            None => ratio(total.flops, total.bytes) > TYPICAL_BALANCE,
        };
        PhaseSummary {
            wall_us,
            profiled_us,
            recording_percent: 100.0 * ratio(profiled_us.median - wall_us.median, wall_us.median),
            tokens: if self.decode { 1 } else { run.prompt_tokens },
            flops: total.flops,
            flops_by_kind,
            bytes: total.bytes,
            tflops: ratio(total.flops, wall_us.median) / 1e6,
            gb_per_s: ratio(total.bytes, wall_us.median) / 1e3,
            intensity: ratio(total.flops, total.bytes),
            bound: if bound {
                Bound::Arithmetic
            } else {
                Bound::Memory
            },
            peak_gflops: ceilings.map(|c| peak_gflops(c, Arithmetic::of(run.weights()))),
            percent_of_ceiling: percent(total, wall_us.median),
            blocks,
            types,
            modules: rows,
            tree: self.one_pass(&profiled, &tree),
            untracked_us: profiled_us.median - tracked_us,
        }
    }

    fn passes(self) -> std::ops::RangeInclusive<usize> {
        match self.decode {
            true => 1..=self.run.decode_tokens,
            false => 0..=0,
        }
    }

    fn walls(self, run: &impl Walls) -> Vec<f64> {
        match self.decode {
            true => run.step_us().to_vec(),
            false => vec![run.prefill_us()],
        }
    }

    fn blocks(
        self,
        works: &[ModuleWork],
        total_of: &impl Fn(&ModuleWork) -> Total,
        tree: &Modules,
        samples: &[Samples],
    ) -> Vec<BlockRow> {
        let config = self.config;
        let plan = family::full_plan(config);
        let hybrids_of = plan.blocks.iter().filter_map(|block| block.hybrid);
        let shared: Vec<usize> = hybrids_of.map(|hybrid| hybrid.shared).collect();
        let hybrids = config.hybrid_blocks();
        let mut rows: Vec<BlockRow> = (config.kinds.iter().enumerate())
            .map(|(block, &kind)| {
                let hybrid = hybrids.iter().position(|&hybrid| hybrid == block);
                let shared_block = hybrid.map(|at| shared[at]);
                let calls = hybrid.map(|at| {
                    let before = shared[..=at].iter();
                    before.filter(|&&b| Some(b) == shared_block).count()
                });
                let (mut total, mut flops) = (Total::default(), Parts::default());
                for work in works.iter().filter(|work| work.block == Some(block)) {
                    total.add(total_of(work));
                    *flops.of(work.part) += work.flops;
                }
                let node = tree.by_path.get(&format!("model.layers.{block}"));
                let us = node.map_or_else(Spread::default, |&node| {
                    Spread::of(samples[node].each_us.clone())
                });
                let allowed = 100.0 * ratio(total.allowed_us, us.median);
                BlockRow {
                    block,
                    kind,
                    shared_block,
                    call: calls,
                    us,
                    parts_us: self.parts_us(block, us.median, tree, samples),
                    flops: PartsTotal {
                        parts: flops,
                        total: total.flops,
                    },
                    bytes: total.bytes,
                    tflops: ratio(total.flops, us.median) / 1e6,
                    gb_per_s: ratio(total.bytes, us.median) / 1e3,
                    percent_of_ceiling: self.run.ceilings.map(|_| allowed),
                    ratio: 0.0,
                }
            })
            .collect();
        for kind in [BlockKind::Mamba, BlockKind::Hybrid] {
            let alike = rows.iter().filter(|row| row.kind == kind);
            let middle = Spread::of(alike.map(|row| row.us.median).collect()).median;
            for row in rows.iter_mut().filter(|row| row.kind == kind) {
                row.ratio = ratio(row.us.median, middle);
            }
        }
        rows
    }

    /// The block's time by part, in proportion to the self times inside it.
    fn parts_us(self, block: usize, block_us: f64, tree: &Modules, samples: &[Samples]) -> Parts {
        let mut parts = Parts::default();
        let whole = format!("model.layers.{block}");
        for (node, module) in tree.nodes.iter().enumerate() {
            if module.block != Some(block) {
                continue;
            }
            // Without the ops all of a block's own time is its mixer's.
            let blocks_only = self.run.conditions.level == RecordedLevel::Block;
            let part = match blocks_only && module.path == whole {
                true => Part::Mamba,
                false => modules::part(&module.path),
            };
            *parts.of(part) += samples[node].self_us;
        }
        let scale = ratio(
            block_us,
            parts.mamba + parts.attention + parts.ffn + parts.other,
        );
        Parts {
            mamba: parts.mamba * scale,
            attention: parts.attention * scale,
            ffn: parts.ffn * scale,
            other: parts.other * scale,
        }
    }

    /// The tree of the pass whose wall time is the median, or just below it.
    fn one_pass(self, profiled: &[f64], tree: &Modules) -> Vec<TreeNode> {
        let mut order: Vec<usize> = (0..profiled.len()).collect();
        order.sort_by(|&a, &b| profiled[a].total_cmp(&profiled[b]));
        let Some(&at) = order.get(order.len().saturating_sub(1) / 2) else {
            return Vec::new();
        };
        let (run, pass) = match self.decode {
            true => (at / self.run.decode_tokens, 1 + at % self.run.decode_tokens),
            false => (at, 0),
        };
        let spans = &self.run.runs[run].spans;
        let mut known = tree.clone();
        let times = Passes::new(self.config, spans, &mut known).times(pass, spans, tree);
        let tracked_us: f64 = times.values().map(|times| times.self_us).sum();
        let mut drawn = vec![TreeNode {
            path: "model".into(),
            name: "model".into(),
            class: "Zamba2ForCausalLM".into(),
            depth: 0,
            start_us: 0.0,
            us: profiled[at],
            self_us: profiled[at] - tracked_us,
            block: None,
        }];
        let mut children: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
        for &node in times.keys() {
            let siblings = children.entry(tree.nodes[node].parent).or_default();
            siblings.push(node);
        }
        for siblings in children.values_mut() {
            siblings.sort_by(|a, b| times[a].first.cmp(&times[b].first));
        }
        let mut open: Vec<(usize, usize, f64)> = Vec::new();
        let push = |parent: Option<usize>, depth: usize, start_us: f64, open: &mut Vec<_>| {
            let mut at_us = start_us;
            let mut placed = Vec::new();
            for &node in children.get(&parent).into_iter().flatten() {
                placed.push((node, depth, at_us));
                at_us += times[&node].us;
            }
            open.extend(placed.into_iter().rev());
        };
        push(None, 1, 0.0, &mut open);
        while let Some((node, depth, start_us)) = open.pop() {
            let module = &tree.nodes[node];
            drawn.push(TreeNode {
                path: module.path.clone(),
                name: modules::leaf(&module.path).into(),
                class: module.class.clone(),
                depth,
                start_us,
                us: times[&node].us,
                self_us: times[&node].self_us,
                block: module.block,
            });
            push(Some(node), depth + 1, start_us, &mut open);
        }
        drawn
    }
}

trait Walls {
    fn prefill_us(&self) -> f64;
    fn step_us(&self) -> &[f64];
}

impl Walls for ProfiledRun {
    fn prefill_us(&self) -> f64 {
        self.prefill_us
    }

    fn step_us(&self) -> &[f64] {
        &self.step_us
    }
}

impl Walls for UnprofiledRun {
    fn prefill_us(&self) -> f64 {
        self.prefill_us
    }

    fn step_us(&self) -> &[f64] {
        &self.step_us
    }
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
}

#[derive(Clone)]
struct Module {
    path: String,
    class: String,
    /// A lower index.
    parent: Option<usize>,
    block: Option<usize>,
}

/// Every module that any span belongs to, and those around them.
#[derive(Clone, Default)]
struct Modules {
    nodes: Vec<Module>,
    by_path: HashMap<String, usize>,
}

impl Modules {
    fn node(&mut self, path: &str, block: Option<usize>, kinds: &[BlockKind]) -> usize {
        if let Some(&node) = self.by_path.get(path) {
            return node;
        }
        let parent = modules::parent(path).map(|outer| self.node(outer, block, kinds));
        self.nodes.push(Module {
            path: path.into(),
            class: modules::class(path, kinds).into(),
            parent,
            block,
        });
        self.by_path.insert(path.into(), self.nodes.len() - 1);
        self.nodes.len() - 1
    }
}

/// Which passes are neither among the fastest nor among the slowest quarter.
fn middle_half(walls_us: &[f64]) -> Vec<bool> {
    let mut order: Vec<usize> = (0..walls_us.len()).collect();
    order.sort_by(|&a, &b| walls_us[a].total_cmp(&walls_us[b]));
    let quarter = walls_us.len() / 4;
    let mut middle = vec![false; walls_us.len()];
    for &pass in &order[quarter..walls_us.len() - quarter] {
        middle[pass] = true;
    }
    middle
}

/// A module's times over all passes.
#[derive(Default)]
struct Samples {
    each_us: Vec<f64>,
    us: f64,
    self_us: f64,
    /// In a pass.
    calls: usize,
}

impl Samples {
    fn add(&mut self, times: Times, in_middle: bool) {
        self.each_us.push(times.us);
        self.calls = self.calls.max(times.calls);
        if in_middle {
            self.us += times.us;
            self.self_us += times.self_us;
        }
    }

    /// A pass without the module spent nothing in it; sums become times of one pass by `scale`.
    fn finish(&mut self, passes: usize, scale: f64) {
        self.each_us.resize(passes, 0.0);
        self.us *= scale;
        self.self_us *= scale;
    }
}

/// A module in one pass.
#[derive(Clone, Copy, Default)]
struct Times {
    us: f64,
    self_us: f64,
    calls: usize,
    /// The row of its first span or of the first inside it.
    first: usize,
}

/// The spans of one run by pass, with the module of each.
struct Passes {
    rows: Vec<Vec<usize>>, // [passes]
    node: Vec<usize>,      // [spans]
}

impl Passes {
    fn new(config: &Config, spans: &Spans, tree: &mut Modules) -> Passes {
        let hybrids = config.hybrid_blocks();
        let blocks: Vec<_> = spans
            .names
            .iter()
            .map(|name| modules::block_of(name))
            .collect();
        let mut block: Vec<Option<usize>> = Vec::with_capacity(spans.len());
        let mut known: HashMap<(Option<usize>, usize), usize> = HashMap::new();
        let mut passes = Passes {
            rows: Vec::new(),
            node: Vec::with_capacity(spans.len()),
        };
        for row in 0..spans.len() {
            let name = spans.name[row];
            let around = usize::try_from(spans.parent[row])
                .ok()
                .and_then(|p| block[p]);
            let own = blocks[name].or(around);
            block.push(own);
            let node = *known.entry((own, name)).or_insert_with(|| {
                let path = match own {
                    Some(own) if blocks[name].is_some() => format!("model.layers.{own}"),
                    Some(own) => {
                        let slot = hybrids.iter().position(|&hybrid| hybrid == own);
                        modules::path_in_block(own, slot, &spans.names[name])
                    }
                    None => modules::path_outside(&spans.names[name]),
                };
                tree.node(&path, own, &config.kinds)
            });
            passes.node.push(node);
            let pass = spans.pass[row];
            if passes.rows.len() <= pass {
                passes.rows.resize_with(pass + 1, Vec::new);
            }
            passes.rows[pass].push(row);
        }
        passes
    }

    /// The modules of `pass`. One without a span of its own is as long as what is inside it.
    fn times(&self, pass: usize, spans: &Spans, tree: &Modules) -> BTreeMap<usize, Times> {
        let mut times: BTreeMap<usize, Times> = BTreeMap::new();
        for &row in self.rows.get(pass).into_iter().flatten() {
            let own = times.entry(self.node[row]).or_insert(Times {
                first: row,
                ..Times::default()
            });
            own.us += spans.duration_us[row];
            own.calls += 1;
            let mut outer = tree.nodes[self.node[row]].parent;
            while let Some(node) = outer {
                times.entry(node).or_insert(Times {
                    first: row,
                    ..Times::default()
                });
                outer = tree.nodes[node].parent;
            }
        }
        // A child's number is above its parent's, so what is inside a module is complete when its turn comes.
        let mut inside: BTreeMap<usize, (f64, usize)> = BTreeMap::new();
        let nodes: Vec<usize> = times.keys().copied().collect();
        for node in nodes.into_iter().rev() {
            let (inside_us, inside_calls) = inside.get(&node).copied().unwrap_or_default();
            let own = times.get_mut(&node).expect("it is one of the keys");
            if own.calls == 0 {
                (own.us, own.calls) = (inside_us, inside_calls);
            }
            own.self_us = own.us - inside_us;
            if let Some(parent) = tree.nodes[node].parent {
                let sum = inside.entry(parent).or_default();
                // The first child comes last here; its calls are those of a parent without spans.
                *sum = (sum.0 + own.us, own.calls);
            }
        }
        times
    }
}
