//! The reference report: the published figures follow from its conventions, and the recomputed ones from ours.

use zamba2::report::reference::{self, ReferenceKind};
use zamba2::words::Language;

use super::counts::SMALL;

/// The conventions behind the published figures: dense convolutions over the padded length, everything inside a hybrid
/// block's mixer and the shared transformer counted twice, and all calls of the shared transformer attributed to block
/// 5.
#[test]
fn every_published_count_follows_from_the_published_conventions() {
    let published = reference::report(ReferenceKind::Published);
    let t = 35u64;
    let linear = |rows: u64, cols: u64| 2 * t * rows * cols;
    let (in_proj, out_proj) = (linear(8512, 2048), linear(2048, 4096));
    let dense_conv = 2 * (t + 3) * 4352 * 4352 * 4;
    let scan = 6 * t * 4096 * 16;
    let mamba = in_proj + out_proj + dense_conv + scan;
    let kernel = 4 * t * t * 4096;
    let projections = 3 * linear(4096, 4096) + linear(2048, 4096) + 3 * 2 * linear(128, 4096);
    let ffn = linear(16384, 2048) + linear(2048, 8192) + linear(128, 2048) + linear(16384, 128);
    let giga = |flops: f64, digits: usize| format!("{:.digits$}", flops / 1e9);
    for row in &published.blocks {
        let hybrid = SMALL.hybrid.contains(&(row.block as u64));
        let calls = if row.block == 5 { 12 } else { 0 };
        let expected = [
            mamba * if hybrid { 2 } else { 1 },
            calls * (projections + kernel),
            calls * ffn,
        ];
        let printed = [row.mamba_flops, row.attention_flops, row.ffn_flops];
        assert_eq!(
            printed.map(|flops| giga(flops, 3)),
            expected.map(|flops| giga(flops as f64, 3)),
            "block {}",
            row.block
        );
    }
    let linear_and_conv = 44 * (in_proj + out_proj + dense_conv)
        + 12 * (projections + ffn)
        + 6 * linear(2048, 2048)
        + linear(32000, 2048);
    let total = linear_and_conv + 12 * kernel + 44 * scan;
    let kinds = published.flops_by_kind;
    for (printed, expected) in [
        (kinds.linear, linear_and_conv),
        (kinds.attention, 12 * kernel),
        (kinds.ssm, 44 * scan),
        (published.flops, total),
    ] {
        assert_eq!(giga(printed, 2), giga(expected as f64, 2));
    }
    let tflops = total as f64 / published.forward_us / 1e6;
    assert_eq!(format!("{tflops:.2}"), format!("{:.2}", published.tflops));

    // Counted: Linear, convolution and embedding modules, and the tied output matrix as a module of its own. Not
    // counted: norms and the scan's vectors.
    let vectors = 38 * (3 * 64 + 4096 + 2048) + (4096 + 2048) + 2048;
    assert_eq!(published.parameters, 1_215_064_704 + 32000 * 2048 - vectors);

    // One hook per module, and a second one for the leaves inside shared_transformer and mamba_decoder.mamba.
    let (plain, hybrid) = (32, 6);
    let mixers = plain + 2 * hybrid;
    for (class, count) in [
        ("Linear", 2 * mixers + 2 * hybrid * 14 + hybrid + 1),
        ("Conv1d", mixers),
        ("SiLU", mixers),
        ("Zamba2RMSNormGated", mixers),
        ("Zamba2RMSNorm", plain + hybrid + 2 * 2 * hybrid + 1),
        ("GELUActivation", 2 * hybrid),
        ("Sequential", 4 * hybrid),
        ("Zamba2MambaMixer", plain + hybrid),
        ("Zamba2Attention", hybrid),
        ("Zamba2AttentionDecoderLayer", hybrid),
        ("Zamba2MLP", hybrid),
        ("Zamba2RotaryEmbedding", 1),
        ("Embedding", 1),
    ] {
        let row = published
            .types
            .iter()
            .find(|row| row.class == class)
            .expect(class);
        assert_eq!(row.count, count, "{class}");
        // Totals are printed to a microsecond, means to a tenth of one.
        let slack_us = 0.5 / count as f64 + 0.06;
        assert!(
            (row.total_us / count as f64 - row.mean_us).abs() < slack_us,
            "{class}"
        );
    }
    assert_eq!(published.types.len(), 13);
    assert_eq!((published.blocks.len(), published.slowest.len()), (38, 20));
}

#[test]
fn the_recomputed_flops_of_the_same_pass_are_less_than_a_third_of_the_published_ones() {
    let recomputed = reference::report(ReferenceKind::Recomputed);
    assert_eq!(recomputed.flops, 126_758_481_920.0);
    assert_eq!(recomputed.parameters, 1_215_064_704);
    let block = |index: usize| recomputed.blocks[index];
    assert_eq!(block(0).mamba_flops, 1_900_881_920.0);
    for &hybrid in SMALL.hybrid {
        let row = block(hybrid as usize);
        assert_eq!(row.mamba_flops, 1_900_881_920.0);
        assert_eq!(row.attention_flops, 4_330_618_880.0 + 10_321_920.0);
        assert_eq!(row.ffn_flops, 3_688_366_080.0);
        assert_eq!(row.other_flops, 293_601_280.0);
    }
    for (language, mark) in [(Language::En, "."), (Language::Ru, ",")] {
        let explanation = reference::report(ReferenceKind::Published).explanation;
        let text = explanation.text(language);
        for flops in [recomputed.flops, SMALL.flops(35, 0, 1) as f64] {
            let figure = format!("{:.3}", flops / 1e9).replace('.', mark);
            assert!(text.contains(&figure), "{text}");
        }
    }
}
