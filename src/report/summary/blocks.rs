//! The table of blocks.

use crate::family;
use crate::model::config::{BlockKind, Config};
use crate::report::modules::{self, Part};
use crate::report::run::RecordedLevel;
use crate::report::summary::figures::{BlockRow, Parts, PartsTotal};
use crate::report::summary::phase::{Phase, Recorded};
use crate::report::summary::spread::{Spread, ratio};
use crate::report::summary::workload::{WorkTotal, Workload};

pub fn rows(phase: Phase, load: &Workload, recorded: &Recorded) -> Vec<BlockRow> {
    let calls = shared_calls(phase.config);
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

/// The shared transformer that each block calls and the number of the call; `None` for a block without one.
fn shared_calls(config: &Config) -> Vec<Option<(usize, usize)>> {
    let plan = family::full_plan(config);
    let hybrids = plan.blocks.iter().filter_map(|block| block.hybrid);
    let shared: Vec<usize> = hybrids.map(|hybrid| hybrid.shared).collect();
    let mut calls = vec![None; config.n_blocks()];
    for (slot, block) in config.hybrid_blocks().into_iter().enumerate() {
        let called = shared[slot];
        let so_far = shared[..=slot].iter();
        calls[block] = Some((called, so_far.filter(|&&other| other == called).count()));
    }
    calls
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
    let node = recorded.tree.by_path.get(&format!("model.layers.{block}"));
    let us = node.map_or_else(Spread::default, |&node| {
        Spread::of(recorded.samples[node].each_us.clone())
    });
    BlockRow {
        block,
        kind: phase.config.kinds[block],
        shared_block: call.map(|(called, _)| called),
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
    let whole = format!("model.layers.{block}");
    let mut parts = Parts::default();
    for (module, samples) in recorded.tree.nodes.iter().zip(&recorded.samples) {
        if module.block != Some(block) {
            continue;
        }
        // Without spans of ops, all self time of a block is its mixer's.
        let part = match blocks_only && module.path == whole {
            true => Part::Mamba,
            false => modules::part(&module.path),
        };
        *parts.of(part) += samples.self_us;
    }
    parts
}
