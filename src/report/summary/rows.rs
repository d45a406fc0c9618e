//! The tables of modules and of module types in a summary.

use std::collections::BTreeMap;

use crate::report::summary::figures::{ModuleRow, TypeRow};
use crate::report::summary::phase::Recorded;
use crate::report::summary::spread::ratio;
use crate::report::summary::workload::Workload;

/// Modules in the order of the tree. Percentages are relative to `profiled_us`, the time of the pass.
pub fn modules(recorded: &Recorded, load: &Workload, profiled_us: f64) -> Vec<ModuleRow> {
    let called = (recorded.tree.nodes.iter())
        .zip(&recorded.samples)
        .zip(&recorded.inclusive_work)
        .filter(|((_, samples), _)| samples.calls > 0);
    let rows = called.map(|((module, samples), &work)| {
        let (us, self_us) = (samples.us, samples.self_us);
        ModuleRow {
            path: module.path.clone(),
            name: module.name.clone(),
            class: module.class.clone(),
            part: module.part,
            block: module.block,
            count: samples.calls,
            us,
            self_us,
            time_percent: 100.0 * ratio(self_us, profiled_us),
            flops: work.flops,
            bytes: work.bytes,
            tflops: ratio(work.flops, us) / 1e6,
            gb_per_s: ratio(work.bytes, us) / 1e3,
            intensity: (work.bytes > 0.0).then(|| work.flops / work.bytes),
            percent_of_ceiling: load.percent(work, us).filter(|_| work.allowed_us > 0.0),
        }
    });
    rows.collect()
}

pub fn slowest_first(mut rows: Vec<ModuleRow>) -> Vec<ModuleRow> {
    rows.sort_by(|a, b| b.self_us.total_cmp(&a.self_us));
    rows
}

/// Sums of `modules` by class, the slowest first.
pub fn types(
    modules: &[ModuleRow],
    recorded: &Recorded,
    profiled_us: f64,
    total_flops: f64,
) -> Vec<TypeRow> {
    let mut types: BTreeMap<&str, TypeRow> = BTreeMap::new();
    for row in modules {
        let sum = types.entry(&row.class).or_insert_with(|| TypeRow {
            class: row.class.clone(),
            count: 0,
            us: 0.0,
            self_us: 0.0,
            mean_us: 0.0,
            time_percent: 0.0,
            flops: 0.0,
            flops_percent: 0.0,
        });
        sum.count += row.count;
        sum.us += row.us;
        sum.self_us += row.self_us;
        sum.flops += recorded.own_work[recorded.tree.by_path[&row.path]].flops;
    }
    let mut types: Vec<TypeRow> = types.into_values().collect();
    for row in &mut types {
        row.mean_us = ratio(row.us, row.count as f64);
        row.time_percent = 100.0 * ratio(row.self_us, profiled_us);
        row.flops_percent = 100.0 * ratio(row.flops, total_flops);
    }
    types.sort_by(|a, b| b.self_us.total_cmp(&a.self_us));
    types
}
