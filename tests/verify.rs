//! The module-by-module comparison of `zamba2 verify`: devices that agree on every golden net, and checkpoints with one
//! flipped weight, whose module it must name. The candle device, which others are compared with, is itself compared
//! with the reference implementation here; its ops are in `tests/candle_ops.rs`.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use candle_core::{DType, Device as CandleDevice, Tensor, safetensors};
use tempfile::TempDir;
use zamba2::base::error::Error;
use zamba2::base::quant::WeightFormat;
use zamba2::device::candle::Candle;
use zamba2::device::cpu::Cpu;
use zamba2::device::webgpu::AdapterOptions;
use zamba2::folder;
use zamba2::model::module::OpKind;
use zamba2::ops::device::Device;
use zamba2::session::lockstep::{
    Comparison, Lockstep, LockstepModel, LockstepOptions, Tolerances, compare,
};
use zamba2::session::{LoadSettings, Session};

use crate::adapter;
use crate::model;
use crate::support::{F32, Golden, goldens};

fn open<B: Device>(device: B, dir: &Path, weights: WeightFormat) -> Session<B> {
    let settings = LoadSettings { weights, ..F32 };
    let opened = folder::open(device, dir, settings);
    opened.unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
}

fn candle(dir: &Path, weights: WeightFormat) -> Lockstep<Candle> {
    Lockstep::new(open(Candle::open(1).unwrap(), dir, weights))
}

fn cpu(dir: &Path, weights: WeightFormat) -> Lockstep<Cpu> {
    Lockstep::new(open(Cpu::new(2), dir, weights))
}

fn comparison(
    reference: &mut dyn LockstepModel,
    tested: &mut dyn LockstepModel,
    prompt: &[u32],
    tolerances: Tolerances,
) -> Comparison {
    let options = LockstepOptions {
        prompt,
        n_steps: 4,
        tolerances,
    };
    compare(reference, tested, &options, |_, _| {}).unwrap()
}

/// Of devices that compute with the same numbers.
fn exact(weights: WeightFormat) -> Tolerances {
    Tolerances::new(weights, false)
}

/// Prints the largest differences, for the record.
fn assert_agrees(what: &str, comparison: &Comparison) {
    let largest = (comparison.modules.iter())
        .max_by(|a, b| a.relative.total_cmp(&b.relative))
        .unwrap();
    let logits = comparison
        .logits
        .as_ref()
        .map(|logits| (logits.relative, logits.absolute));
    println!(
        "{what}: {:.1e} (absolute {:.1e}) at {} {}, logits on their own {logits:?}",
        largest.relative, largest.absolute, largest.module, largest.tensor
    );
    assert!(comparison.agrees(), "{what}: {:?}", comparison.first);
}

/// The paths of the modules that have an op in a model of this configuration.
fn modules_with_ops(model: &dyn LockstepModel) -> BTreeSet<&str> {
    let has_op = |op| match op {
        OpKind::Container | OpKind::Top => false,
        OpKind::Rope => model.config().use_mem_rope,
        _ => true,
    };
    let modules = model.tree().modules.iter();
    let modules = modules.filter(|module| has_op(module.op));
    modules.map(|module| &module.path[..]).collect()
}

/// The candle device is an oracle because of this.
#[test]
fn the_candle_device_equals_the_reference_on_every_golden_net() {
    for golden in goldens() {
        let open = || open(Candle::open(1).unwrap(), &golden.dir, WeightFormat::F32);
        model::check_hidden_states(&golden, open());
        model::check_prefill_logits(&golden, open());
        model::check_greedy_decoding(&golden, open());
    }
}

#[test]
fn every_module_of_every_golden_net_agrees_with_candle_within_1e_3_in_f32() {
    for golden in goldens() {
        let (prompt, f32) = (golden.ids("input_ids"), WeightFormat::F32);
        let mut reference = candle(&golden.dir, f32);
        let found = comparison(
            &mut reference,
            &mut cpu(&golden.dir, f32),
            &prompt,
            exact(f32),
        );
        assert_agrees(&golden.name(), &found);
        let largest = found.modules.iter().map(|module| module.absolute);
        let largest = largest.fold(0.0, f64::max);
        assert!(largest <= 1e-3, "{}: {largest}", golden.name());

        let compared = found.modules.iter().map(|module| &module.module[..]);
        let compared: BTreeSet<&str> = compared.collect();
        assert_eq!(compared, modules_with_ops(&reference), "{}", golden.name());
    }
}

#[test]
fn quantised_weights_agree_with_candle_within_the_tolerance_of_their_format() {
    for golden in goldens() {
        for weights in [WeightFormat::Q8, WeightFormat::Q4] {
            let prompt = golden.ids("input_ids");
            let mut reference = candle(&golden.dir, weights);
            let found = comparison(
                &mut reference,
                &mut cpu(&golden.dir, weights),
                &prompt,
                Tolerances::new(weights, true),
            );
            assert_agrees(&format!("{} {}", golden.name(), weights.name()), &found);
        }
    }
}

/// Trained weights have larger scores and outliers.
#[test]
fn the_embedded_model_agrees_with_candle_in_every_format() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("www/models/rustdoc-5m");
    let prompt: Vec<u32> = (0..24).map(|i| i * 29 % 512).collect();
    for weights in WeightFormat::ALL {
        let found = comparison(
            &mut candle(&dir, weights),
            &mut cpu(&dir, weights),
            &prompt,
            Tolerances::new(weights, true),
        );
        assert_agrees(&format!("rustdoc-5m {}", weights.name()), &found);
    }
}

/// Without fused kernels module by module, and with them in the logits at the end. The formats take turns, and the
/// first net has all.
#[test]
fn the_graphics_adapter_agrees_with_candle_on_every_golden_net() {
    for (nth, golden) in goldens().into_iter().enumerate() {
        let n_formats = WeightFormat::ALL.len();
        let formats = match nth {
            0 => &WeightFormat::ALL[..],
            _ => &WeightFormat::ALL[nth % n_formats..][..1],
        };
        for &weights in formats {
            let device = match adapter::open(AdapterOptions::default()) {
                Ok(device) => device,
                Err(Error::NoAdapter { fact }) => return println!("SKIPPED: verify: {fact}"),
                Err(error) => panic!("{error}"),
            };
            let mut tested = Lockstep::new(open(device, &golden.dir, weights));
            let mut reference = candle(&golden.dir, weights);
            let prompt = golden.ids("input_ids");
            let found = comparison(&mut reference, &mut tested, &prompt, exact(weights));
            assert_agrees(&format!("{} {}", golden.name(), weights.name()), &found);
        }
    }
}

fn load(golden: &Golden) -> HashMap<String, Tensor> {
    let file = golden.dir.join("model.safetensors");
    safetensors::load(file, &CandleDevice::Cpu).unwrap()
}

/// A copy of the checkpoint in which one weight of `tensor` has the other sign: the largest one, and of the embedding
/// the largest one of `token`.
pub fn with_flipped_weight(golden: &Golden, tensor: &str, token: u32) -> TempDir {
    let mut tensors = load(golden);
    let original = &tensors[tensor];
    let flat = original.to_dtype(DType::F32).and_then(|t| t.flatten_all());
    let mut values: Vec<f32> = flat.and_then(|t| t.to_vec1()).unwrap();
    let range = match tensor {
        "model.embed_tokens.weight" => {
            let cols = original.dims()[1];
            token as usize * cols..(token as usize + 1) * cols
        }
        _ => 0..values.len(),
    };
    let size = |i: &usize| values[*i].abs();
    let largest = range.max_by(|a, b| size(a).total_cmp(&size(b))).unwrap();
    assert_ne!(values[largest], 0.0, "{tensor}");
    values[largest] = -values[largest];
    let flipped = Tensor::from_vec(values, original.shape(), &CandleDevice::Cpu);
    let flipped = flipped.and_then(|t| t.to_dtype(original.dtype())).unwrap();
    tensors.insert(tensor.into(), flipped);
    let dir = TempDir::new().unwrap();
    safetensors::save(&tensors, dir.path().join("model.safetensors")).unwrap();
    let config = golden.dir.join("config.json");
    fs::copy(config, dir.path().join("config.json")).unwrap();
    dir
}

/// The first module that differs, and all of them.
fn named(golden: &Golden, tensor: &str) -> (String, BTreeSet<String>) {
    let prompt = golden.ids("input_ids");
    let flipped = with_flipped_weight(golden, tensor, prompt[0]);
    let f32 = WeightFormat::F32;
    let mut reference = candle(&golden.dir, f32);
    let found = comparison(
        &mut reference,
        &mut cpu(flipped.path(), f32),
        &prompt,
        exact(f32),
    );
    let first = found
        .first
        .unwrap_or_else(|| panic!("{tensor} flipped, and nothing differs"));
    let differ = found.modules.into_iter().filter(|module| module.differs);
    (first.module, differ.map(|module| module.module).collect())
}

fn golden(name: &str) -> Golden {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    Golden::open(&fixtures.join(name))
}

#[test]
fn one_flipped_weight_is_found_in_its_module() {
    let shared = "model.layers.1.shared_transformer";
    let golden = golden("one_block_adapters_rope");
    for (tensor, module) in [
        ("model.embed_tokens.weight", "model.embed_tokens"),
        (
            "model.layers.0.input_layernorm.weight",
            "model.layers.0.input_layernorm",
        ),
        (
            "model.layers.2.mamba.in_proj.weight",
            "model.layers.2.mamba.in_proj",
        ),
        (
            "model.layers.0.mamba.conv1d.weight",
            "model.layers.0.mamba.conv1d",
        ),
        ("model.layers.2.mamba.A_log", "model.layers.2.mamba.ssm"),
        ("model.layers.0.mamba.dt_bias", "model.layers.0.mamba.ssm"),
        (
            "model.layers.2.mamba.norm.weight",
            "model.layers.2.mamba.norm",
        ),
        (
            "model.layers.3.mamba_decoder.mamba.out_proj.weight",
            "model.layers.3.mamba_decoder.mamba.out_proj",
        ),
        ("model.layers.3.linear.weight", "model.layers.3.linear"),
        (
            &format!("{shared}.self_attn.q_proj.weight"),
            &format!("{shared}.self_attn.q_proj"),
        ),
        (
            &format!("{shared}.feed_forward.down_proj.weight"),
            &format!("{shared}.feed_forward.down_proj"),
        ),
        ("model.final_layernorm.weight", "model.final_layernorm"),
    ] {
        let (first, _) = named(&golden, tensor);
        assert_eq!(first, module, "{tensor}");
    }
    // The adapter of the second call, of a shared transformer that is stored with the first.
    let adapter = format!("{shared}.self_attn.linear_v_adapter_list.1.0.weight");
    let (first, all) = named(&golden, &adapter);
    assert!(
        first.starts_with("model.layers.3.shared_transformer.self_attn"),
        "{first}"
    );
    assert!(first.contains("linear_v_adapter"), "{first}");
    assert_eq!(all.len(), 1, "{all:?}");
}

/// No other module is blamed: each gets the inputs of the reference. A shared weight is in every call of it, and a tied
/// embedding also in the output matrix.
#[test]
fn a_flipped_weight_of_any_tensor_is_found_in_the_modules_that_have_it_and_in_no_other() {
    for name in ["two_blocks_groups2_rope", "biases"] {
        let golden = golden(name);
        let model = cpu(&golden.dir, WeightFormat::F32);
        let modules = &model.tree().modules;
        for tensor in load(&golden).keys() {
            let owners = modules
                .iter()
                .filter(|module| module.tensors.iter().any(|own| own.name == *tensor))
                .map(|module| module.path.clone());
            let (_, differ) = named(&golden, tensor);
            assert_eq!(differ, owners.collect(), "{name}: {tensor}");
        }
    }
}
