//! Fused kernels of a decode step, compared with the CPU's single ops.

use pollster::block_on;
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::device::webgpu::{AdapterOptions, TunedOp};
use zamba2::model::config::Config;
use zamba2::ops::Ops;
use zamba2::ops::device::{Device, KvFormat};
use zamba2::self_test::fused::{Setup, steps};

use super::variants::for_each_variant;
use super::{device, in_every_variant};
use crate::cases::*;
use crate::webgpu_widths::two_blocks;

/// Chains of up to ten ops, each within 10⁻⁵ of its largest result.
const STEP: f64 = 1e-4;
/// A value of the cache may also be rounded to the neighbouring one of eight bits: 1/127 of the largest at one of 71
/// positions, whose mean is a third of it.
const STEP_I8: f64 = 1e-3;
/// In two decode steps: 3 for each mixer, 8 for each shared transformer (attention over more than 64 positions is two),
/// and one that fills the cache.
const FUSED_DISPATCHES: u64 = 2 * (3 + 8) + 1;

/// Configurations that have fused kernels in every format.
fn fused_configs() -> Vec<(&'static str, Config)> {
    let small = Config {
        hidden_size: 32,
        d_inner: 64,
        n_mamba_heads: 4,
        d_state: 16,
        n_attention_heads: 4,
        n_kv_heads: 4,
        intermediate_size: 48,
        adapter_rank: 8,
        ..Config::from_json(&two_blocks()).unwrap()
    };
    vec![
        (
            "two groups and grouped queries",
            Config {
                n_groups: 2,
                n_kv_heads: 2,
                d_state: 32,
                ..small.clone()
            },
        ),
        (
            "neither attention adapters nor a rotary embedding",
            Config {
                use_shared_attention_adapter: false,
                use_mem_rope: false,
                ..small.clone()
            },
        ),
        (
            "one tap, a rank of more than a block, three states",
            Config {
                d_conv: 1,
                adapter_rank: 36,
                d_state: 3,
                intermediate_size: 20,
                ..small.clone()
            },
        ),
        (
            "odd numbers of heads",
            Config {
                hidden_size: 96,
                d_inner: 288,
                n_mamba_heads: 9,
                n_groups: 1,
                d_conv: 3,
                n_attention_heads: 3,
                n_kv_heads: 1,
                adapter_rank: 4,
                ..small.clone()
            },
        ),
        (
            "long rows",
            Config {
                hidden_size: 544,
                d_inner: 1088,
                n_mamba_heads: 8,
                n_groups: 2,
                n_kv_heads: 2,
                d_state: 64,
                adapter_rank: 68,
                ..small
            },
        ),
    ]
}

/// Steps with keys and values in f32.
fn exact_kv(weights: WeightFormat) -> Setup {
    Setup {
        weights,
        kv: KvFormat::F32,
        is_dequantized: false,
    }
}

/// The results of `config` on a device and on the CPU must agree.
fn check_steps<D: Device>(what: &str, ops: &mut Ops<D>, config: &Config, setup: Setup) {
    let got = block_on(steps(ops, config, setup)).unwrap();
    let oracle = Setup {
        is_dequantized: true,
        ..setup
    };
    let expected = block_on(steps(&mut Ops::new(Cpu::new(1)), config, oracle)).unwrap();
    let tolerance = match setup.kv {
        KvFormat::F32 => STEP,
        KvFormat::I8 => STEP_I8,
    };
    for ((name, got), (_, expected)) in got.iter().zip(&expected) {
        let expected: Vec<f64> = expected.iter().map(|v| f64::from(*v)).collect();
        assert_close(&format!("{what}: {name}"), tolerance, got, &expected);
    }
}

/// No width is a multiple of eight, and there are more means than fused kernels have.
#[test]
fn steps_without_fused_kernels_equal_the_cpus_single_ops() {
    in_every_variant("single ops", |form, ops| {
        let (_, config) = fused_configs().remove(0);
        let config = Config {
            hidden_size: 36,
            d_inner: 72,
            n_groups: 4,
            adapter_rank: 5,
            ..config
        };
        for weights in FORMATS {
            let what = format!("{form}: {weights:?}");
            let setup = exact_kv(weights);
            check_steps(&what, ops, &config, setup);
        }
    });
}

/// Buffers that q, k and v do not fit together leave the attention's ops single.
#[test]
fn steps_with_small_bindings_equal_the_cpus_single_ops() {
    let narrow = AdapterOptions {
        max_binding_bytes: Some(2000),
        ..AdapterOptions::default()
    };
    let Some(ops) = device("small bindings", narrow) else {
        return;
    };
    let ops = &mut Ops::new(ops);
    let (_, config) = fused_configs().remove(0);
    for weights in FORMATS {
        let setup = exact_kv(weights);
        check_steps(&format!("{weights:?}"), ops, &config, setup);
    }
}

#[test]
fn fused_kernels_equal_the_cpus_single_ops_at_every_size_and_format() {
    in_every_variant("fused kernels", |form, ops| {
        for (what, config) in fused_configs() {
            for weights in FORMATS {
                for kv in [KvFormat::F32, KvFormat::I8] {
                    let what = format!("{form}: {what} {weights:?} {kv:?}");
                    let setup = Setup {
                        weights,
                        kv,
                        is_dequantized: false,
                    };
                    let before = ops.device().counts().dispatches;
                    check_steps(&what, ops, &config, setup);
                    let n_dispatches = ops.device().counts().dispatches - before;
                    assert_eq!(n_dispatches, FUSED_DISPATCHES, "{what}");
                }
            }
        }
    });
}

/// Rows that threads share, which have variants.
#[test]
fn fused_kernels_equal_the_cpus_single_ops_with_every_variant() {
    in_every_variant("variants of fused kernels", |form, ops| {
        let (what, config) = fused_configs().pop().unwrap();
        for weights in FORMATS {
            for_each_variant(ops, TunedOp::LinearOne, weights, |ops, variant| {
                let what = format!("{form}: {what} {weights:?} {variant}");
                let setup = exact_kv(weights);
                check_steps(&what, ops, &config, setup);
            });
        }
    });
}
