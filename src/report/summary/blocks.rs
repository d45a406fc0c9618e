//! The table of blocks in a summary.

use crate::model::config::BlockKind;
use crate::model::module::{ModelPlan, Part};
use crate::report::run::RecordedLevel;
use crate::report::summary::figures::{BlockRow, Parts, PartsTotal};
use crate::report::summary::phase::{Phase, Recorded};
use crate::report::summary::spread::{Spread, ratio};
use crate::report::summary::workload::{WorkTotal, Workload};

pub fn rows(phase: Phase, load: &Workload, recorded: &Recorded) -> Vec<BlockRow> {
    let calls = shared_calls(&recorded.tree.plan);
    let mut rows: Vec<BlockRow> = (0..phase.config.n_blocks())
        .map(|block| row(phase, load, recorded, block, calls[block]))
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

/// For each block, its shared transformer and the number of the call; `None` for a block without one.
fn shared_calls(plan: &ModelPlan) -> Vec<Option<(usize, usize)>> {
    let mut so_far = vec![0; plan.shared.len()];
    let calls = plan.shared_of_block().into_iter().map(|shared| {
        let shared = shared?;
        so_far[shared] += 1;
        Some((shared, so_far[shared]))
    });
    calls.collect()
}

fn row(
    phase: Phase,
    load: &Workload,
    recorded: &Recorded,
    block: usize,
    call: Option<(usize, usize)>,
) -> BlockRow {
    let (mut total, mut flops) = (WorkTotal::default(), Parts::default());
    for work in load.works.iter().filter(|work| work.block == Some(block)) {
        total.add(load.of(work));
        *flops.of(work.part) += work.flops;
    }
    let module = recorded.tree.plan.blocks[block].block;
    let us = (recorded.tree.by_module.get(&module)).map_or_else(Spread::default, |&node| {
        Spread::of(recorded.samples[node].each_us.clone())
    });
    BlockRow {
        block,
        kind: phase.config.kinds[block],
        shared_transformer: call.map(|(called, _)| called),
        call: call.map(|(_, number)| number),
        us,
        parts_us: parts_us(phase, recorded, block).scaled_to(us.median),
        flops: PartsTotal {
            parts: flops,
            total: total.flops,
        },
        bytes: total.bytes,
        tflops: ratio(total.flops, us.median) / 1e6,
        gb_per_s: ratio(total.bytes, us.median) / 1e3,
        percent_of_ceiling: load.percent(total, us.median),
        ratio: 0.0,
    }
}

/// The self times inside a block by part.
fn parts_us(phase: Phase, recorded: &Recorded, block: usize) -> Parts {
    let blocks_only = phase.run.conditions.level == RecordedLevel::Block;
    let whole = recorded.tree.plan.blocks[block].block;
    let mut parts = Parts::default();
    for (module, samples) in recorded.tree.nodes.iter().zip(&recorded.samples) {
        if module.block != Some(block) {
            continue;
        }
        // Without op spans, all self time of a block counts as its mixer's.
        let part = match blocks_only && module.id == Some(whole) {
            true => Part::Mamba,
            false => module.part,
        };
        *parts.of(part) += samples.self_us;
    }
    parts
}
