//! One phase of a run: the prefill, or the decode steps of all runs.

use crate::model::config::Config;
use crate::report::run::Run;
use crate::report::summary::figures::{FlopsByKind, PhaseSummary};
use crate::report::summary::recorded::{Modules, Passes, Samples};
use crate::report::summary::spread::{Spread, middle_half, ratio};
use crate::report::summary::workload::{WorkTotal, Workload, peak_gflops, works};
use crate::report::summary::{blocks, rows, tree};
use crate::report::verdict::Verdict;

#[derive(Clone, Copy)]
pub struct Phase<'a> {
    pub run: &'a Run,
    pub config: &'a Config,
    pub is_decode: bool,
}

/// The recorded modules, with their times over all passes of a phase.
pub struct Recorded {
    pub tree: Modules,
    pub samples: Vec<Samples>, // [modules]
    /// Without child modules.
    pub own_work: Vec<WorkTotal>, // [modules]
    /// With child modules.
    pub inclusive_work: Vec<WorkTotal>, // [modules]
}

impl Phase<'_> {
    pub fn summary(self) -> PhaseSummary {
        let Phase { run, config, .. } = self;
        let unprofiled = run.unprofiled.iter();
        let wall_us = Spread::of(
            unprofiled
                .flat_map(|run| self.walls(run.prefill_us, &run.step_us))
                .collect(),
        );
        let profiled: Vec<f64> = (run.runs.iter())
            .flat_map(|run| self.walls(run.prefill_us, &run.step_us))
            .collect();
        let profiled_us = Spread::of(profiled.clone());

        let load = Workload {
            works: works(run, config, run.formats(), self.is_decode),
            ceilings: run.ceilings.as_ref(),
        };
        let total = load.total();
        let recorded = self.recorded(&profiled, &load);
        let modules = rows::modules(&recorded, &load, profiled_us.median);
        let tracked_us: f64 = modules.iter().map(|row| row.self_us).sum();
        let overhead_us = profiled_us.median - wall_us.median;
        let (roof, percent) = (load.roof(), load.percent(total, wall_us.median));
        PhaseSummary {
            wall_us,
            profiled_us,
            recording_percent: 100.0 * ratio(overhead_us, wall_us.median),
            is_recording_measurable: overhead_us > wall_us.p95 - wall_us.p5,
            tokens: if self.is_decode { 1 } else { run.prompt_tokens },
            flops: total.flops,
            flops_by_kind: FlopsByKind::of(&load.works),
            bytes: total.bytes,
            tflops: ratio(total.flops, wall_us.median) / 1e6,
            gb_per_s: ratio(total.bytes, wall_us.median) / 1e3,
            intensity: ratio(total.flops, total.bytes),
            roof,
            verdict: Verdict::of(roof, percent),
            peak_gflops: (run.ceilings.as_ref())
                .map(|ceilings| peak_gflops(ceilings, run.weights().arithmetic())),
            percent_of_ceiling: percent,
            blocks: blocks::rows(self, &load, &recorded),
            types: rows::types(&modules, &recorded, profiled_us.median, total.flops),
            tree: tree::median_pass(self, &profiled, &recorded.tree),
            modules: rows::slowest_first(modules),
            untracked_us: profiled_us.median - tracked_us,
        }
    }

    /// The times of this phase's passes in one run.
    fn walls(self, prefill_us: f64, step_us: &[f64]) -> Vec<f64> {
        match self.is_decode {
            true => step_us.to_vec(),
            false => vec![prefill_us],
        }
    }

    /// The pass numbers of this phase in spans.
    fn passes(self) -> std::ops::RangeInclusive<usize> {
        match self.is_decode {
            true => 1..=self.run.decode_tokens,
            false => 0..=0,
        }
    }

    /// `profiled` has the times of all passes with spans.
    fn recorded(self, profiled: &[f64], load: &Workload) -> Recorded {
        let mut tree = Modules::new(self.config);
        let mut samples: Vec<Samples> = Vec::new();
        let middle = middle_half(profiled);
        let mut in_middle = middle.iter();
        for run in &self.run.runs {
            let passes = Passes::new(&run.spans, &mut tree);
            samples.resize_with(tree.nodes.len(), Samples::default);
            for pass in self.passes() {
                let in_middle = *in_middle.next().expect("a checked run has all its passes");
                for (node, times) in passes.times(pass, &tree) {
                    samples[node].add(times, in_middle);
                }
            }
        }
        let chosen = profiled.iter().zip(&middle).filter(|(_, chosen)| **chosen);
        let median_us = Spread::of(profiled.to_vec()).median;
        let scale = ratio(median_us, chosen.map(|(us, _)| us).sum());
        for samples in &mut samples {
            samples.finish(profiled.len(), scale);
        }
        let own_work = own_work(&tree, &samples, load);
        let mut inclusive_work = own_work.clone();
        for node in (0..tree.nodes.len()).rev() {
            if let Some(parent) = tree.nodes[node].parent {
                let total = inclusive_work[node];
                inclusive_work[parent].add(total);
            }
        }
        Recorded {
            tree,
            samples,
            own_work,
            inclusive_work,
        }
    }
}

/// The work of each module. Work of a module without spans counts towards the nearest ancestor that has some.
fn own_work(tree: &Modules, samples: &[Samples], load: &Workload) -> Vec<WorkTotal> {
    let mut own = vec![WorkTotal::default(); tree.nodes.len()];
    for work in &load.works {
        let mut module = Some(work.module);
        while let Some(id) = module {
            let node = tree.by_module.get(&id).copied();
            if let Some(node) = node.filter(|&node| samples[node].calls > 0) {
                own[node].add(load.of(work));
                break;
            }
            module = tree.plan.tree.get(id).parent;
        }
    }
    own
}
