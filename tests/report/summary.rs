//! Summaries: sums of times, and a run whose figures are known.

use zamba2::model::config::BlockKind;
use zamba2::report::count;
use zamba2::report::run::RecordedLevel;
use zamba2::report::summary::{PhaseSummary, summarise};

use super::{HYBRID, known_run, measured};

#[test]
fn self_times_and_untracked_time_sum_to_the_profiled_time() {
    for level in [RecordedLevel::Module, RecordedLevel::Block] {
        let summary = summarise(&measured(HYBRID, level, 20, 3, 4));
        for phase in [&summary.prefill, &summary.decode] {
            let modules: f64 = phase.modules.iter().map(|row| row.self_us).sum();
            let types: f64 = phase.types.iter().map(|row| row.self_us).sum();
            let wall_us = phase.profiled_us.median;
            // Rounding of a sum of several hundred f64.
            let close = |a: f64| (a - wall_us).abs() < 1e-9 * wall_us;
            assert!(
                close(modules + phase.untracked_us),
                "{modules} of {wall_us}"
            );
            assert!(close(types + phase.untracked_us), "{types} of {wall_us}");
            assert!(phase.untracked_us >= 0.0 && phase.untracked_us < wall_us);
            for row in &phase.blocks {
                let parts = row.parts_us;
                let sum = parts.mamba + parts.attention + parts.ffn + parts.other;
                assert!(
                    (sum - row.us.median).abs() < 1e-9 * wall_us,
                    "block {}",
                    row.block
                );
            }
            let by_kind = phase.flops_by_kind;
            let kinds = by_kind.linear + by_kind.conv1d + by_kind.attention + by_kind.ssm;
            assert_eq!(kinds, phase.flops);
        }
    }
}

#[test]
fn every_span_of_the_tree_lies_inside_its_parent_and_the_root_is_the_whole_pass() {
    let run = measured(HYBRID, RecordedLevel::Module, 20, 3, 3);
    let summary = summarise(&run);
    for (phase, walls) in [
        (
            &summary.prefill,
            run.runs.iter().map(|r| r.prefill_us).collect::<Vec<_>>(),
        ),
        (
            &summary.decode,
            run.runs.iter().flat_map(|r| r.step_us.clone()).collect(),
        ),
    ] {
        let tree = &phase.tree;
        assert_eq!((tree[0].depth, tree[0].start_us), (0, 0.0));
        assert!(walls.contains(&tree[0].us));
        let mut open: Vec<usize> = Vec::new();
        for (i, node) in tree.iter().enumerate() {
            open.truncate(node.depth);
            if let Some(&parent) = open.last() {
                let outer = &tree[parent];
                // Durations are stored as f32.
                let slack = 1e-6 * tree[0].us + 0.01;
                assert_eq!(outer.depth + 1, node.depth);
                assert!(node.start_us >= outer.start_us - slack, "{}", node.path);
                let (end, outer_end) = (node.start_us + node.us, outer.start_us + outer.us);
                assert!(end <= outer_end + slack, "{} in {}", node.path, outer.path);
            }
            open.push(i);
        }
        assert_eq!(tree.len(), 1 + phase.modules.len());
    }
}

fn module<'a>(phase: &'a PhaseSummary, path: &str) -> (f64, f64, &'a str) {
    let row = phase
        .modules
        .iter()
        .find(|row| row.path == path)
        .expect(path);
    (row.us, row.self_us, &row.class)
}

#[test]
fn the_overhead_of_recording_is_measurable_only_above_the_spread_of_the_runs() {
    // With spans the median of the prefill is 1040 µs.
    for (unprofiled_us, is_measurable) in [
        ([1000.0, 1000.0, 1000.0], true),
        ([900.0, 1000.0, 1100.0], false),
        ([1040.0, 1040.0, 1040.0], false),
        ([1100.0, 1100.0, 1100.0], false),
    ] {
        let mut run = known_run();
        for (run, us) in run.unprofiled.iter_mut().zip(unprofiled_us) {
            run.prefill_us = us;
        }
        let phase = summarise(&run).prefill;
        assert_eq!(
            phase.is_recording_measurable, is_measurable,
            "{unprofiled_us:?}"
        );
    }
}

#[test]
fn the_summary_of_a_known_run_has_the_known_times() {
    let run = known_run();
    let hybrid = run.config().hybrid_blocks()[0];
    let summary = summarise(&run);
    let phase = &summary.prefill;
    assert_eq!(
        (phase.wall_us.median, phase.profiled_us.median),
        (1000.0, 1040.0)
    );
    assert_eq!((phase.wall_us.n, phase.profiled_us.n), (3, 5));
    // The 5th percentile of three values: a tenth of the way from the first to the second.
    assert!((phase.wall_us.p5 - 910.0).abs() < 1e-9);
    assert!((phase.recording_percent - 4.0).abs() < 1e-9);
    // All times are twice the table's, because the three middle passes are equal. 10 of 520 are untracked.
    assert!((phase.untracked_us - 20.0).abs() < 1e-9);
    let shared = format!("model.layers.{hybrid}.shared_transformer");
    for (path, us, self_us, class) in [
        ("model.embed_tokens".into(), 20.0, 20.0, "Embedding"),
        (
            format!("model.layers.{hybrid}"),
            800.0,
            20.0,
            "Zamba2HybridLayer",
        ),
        (shared.clone(), 600.0, 40.0, "Zamba2AttentionDecoderLayer"),
        (format!("{shared}.self_attn"), 400.0, 0.0, "Zamba2Attention"),
        (format!("{shared}.self_attn.q_proj"), 400.0, 400.0, "Linear"),
        (format!("{shared}.feed_forward"), 160.0, 0.0, "Zamba2MLP"),
        (
            format!("model.layers.{hybrid}.mamba_decoder.mamba"),
            180.0,
            0.0,
            "Zamba2MambaMixer",
        ),
    ] {
        let row = module(phase, &path);
        assert!(
            (row.0 - us).abs() < 1e-9 && (row.1 - self_us).abs() < 1e-9,
            "{path}: {row:?}"
        );
        assert_eq!(row.2, class);
    }
    let linear = phase
        .types
        .iter()
        .find(|row| row.class == "Linear")
        .unwrap();
    assert!((linear.self_us - 2.0 * (60.0 + 30.0 + 200.0 + 80.0 + 90.0)).abs() < 1e-9);
    assert_eq!(linear.count, 5);
    let parts = phase.blocks[hybrid].parts_us;
    for (part, us) in [
        (parts.mamba, 180.0),
        (parts.attention, 400.0),
        (parts.ffn, 160.0),
        (parts.other, 60.0),
    ] {
        assert!((part - us).abs() < 1e-9, "{parts:?}");
    }
    let row = &phase.blocks[hybrid];
    assert_eq!((row.shared_transformer, row.call), (Some(0), Some(1)));
}

#[test]
fn percent_of_ceiling_is_roofline_time_divided_by_measured_time() {
    let run = known_run();
    let config = run.config();
    let summary = summarise(&run);
    let works = count::pass(&config, run.prompt_tokens, 0, run.formats());
    let path = format!(
        "model.layers.{}.shared_transformer.self_attn.q_proj",
        config.hybrid_blocks()[0]
    );
    let work = works.iter().find(|work| work.path == path).unwrap();
    // q8 multiplies in 16 bits, so 50 GMAC/s are 100 GFLOP/s. Memory reads at 20 GB/s.
    let allowed_us = (work.flops / 100e3).max(work.bytes() / 20e3);
    let row = summary
        .prefill
        .modules
        .iter()
        .find(|row| row.path == path)
        .unwrap();
    let percent = row.percent_of_ceiling.unwrap();
    assert!(
        (percent - 100.0 * allowed_us / 400.0).abs() < 1e-9,
        "{percent}"
    );
    assert_eq!(summary.prefill.peak_gflops, Some(100.0));
}

#[test]
fn without_ceilings_there_are_no_percentages_and_a_caution_is_given() {
    let mut run = known_run();
    run.ceilings = None;
    let summary = summarise(&run);
    assert_eq!(summary.prefill.percent_of_ceiling, None);
    assert!(
        summary
            .prefill
            .modules
            .iter()
            .all(|row| row.percent_of_ceiling.is_none())
    );
    assert!(
        summary
            .cautions
            .iter()
            .any(|caution| caution.key == "advice.caution.no_ceilings")
    );
}

#[test]
fn at_block_level_a_mamba_block_is_all_mixer_and_counts_equal_those_of_module_level() {
    let blocks = summarise(&measured(HYBRID, RecordedLevel::Block, 20, 1, 1));
    let modules = summarise(&measured(HYBRID, RecordedLevel::Module, 20, 1, 1));
    for (block, module) in blocks.prefill.blocks.iter().zip(&modules.prefill.blocks) {
        assert_eq!((block.flops, block.bytes), (module.flops, module.bytes));
        assert_eq!((block.parts_us.attention, block.parts_us.ffn), (0.0, 0.0));
        if block.kind == BlockKind::Mamba {
            assert_eq!(block.parts_us.other, 0.0);
        }
    }
    assert_eq!(blocks.prefill.flops, modules.prefill.flops);
    assert!(
        blocks
            .cautions
            .iter()
            .any(|caution| caution.key == "advice.caution.blocks_only")
    );
}

#[test]
fn memory_grows_per_token_by_the_kv_cache_only() {
    let run = measured(HYBRID, RecordedLevel::Block, 7, 3, 1);
    let memory = summarise(&run).memory;
    let kv: Vec<u64> = memory
        .iter()
        .map(|at| at.kv_bytes / run.memory.kv_bytes_per_token)
        .collect();
    assert_eq!(kv, [7, 8, 9, 10]);
    assert!(
        memory
            .iter()
            .all(|at| at.ssm_state_bytes == memory[0].ssm_state_bytes)
    );
    let config = run.config();
    let state = 4 * config.n_blocks() * config.d_inner * config.d_state;
    assert_eq!(memory[0].ssm_state_bytes, state as u64);
    assert!(run.memory.shared_bytes > 0 && run.memory.shared_bytes < run.memory.weights_bytes);
}
