//! `zamba2 make-checkpoint`: random weights under the names and shapes of a real model, for measuring and for testing
//! at full size without a download. Names and shapes come from the loader's own list. It writes no tokenizer, and
//! the text of such a model is meaningless.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use half::bf16;
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde::Serialize;
use serde_json::{Value, json};
use zamba2::base::clock::now_us;
use zamba2::base::error::{Error, Fact};
use zamba2::family;
use zamba2::model::config::Config;
use zamba2::model::module::{Role, Slot, TensorSpec};

use super::progress::Progress;
use super::{Failure, print, print_json};

const INDEX: &str = "model.safetensors.index.json";
/// The largest file of weights, as on Hugging Face.
const SHARD_BYTES: u64 = 5_000_000_000;
/// Bytes of a bf16.
const NUMBER_BYTES: u64 = 2;
/// Bytes that are generated between two writes.
const PIECE_BYTES: usize = 1 << 20;

/// Write a checkpoint of random weights in the shape of a real model.
///
/// The folder gets config.json and the weights in bf16, in files of at most 5 GB. Activations stay in a healthy range
/// through all blocks, so speed, memory and finiteness are those of a real model. No tokenizer is written.
#[derive(Args)]
pub struct Arguments {
    /// zamba2-1.2b, zamba2-2.7b or zamba2-7b, or the path of a config.json.
    #[arg(long)]
    shape: String,

    /// The folder to write; it is created if it does not exist.
    out: PathBuf,

    /// Seed of the random numbers: the same seed gives the same bytes.
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Replace the checkpoint in a folder that is not empty; other files in it stay.
    #[arg(long)]
    force: bool,
}

/// Where the published models differ.
struct Shape {
    name: &'static str,
    hidden_size: usize,
    n_layers: usize,
    hybrid_layers: &'static [usize],
    d_state: usize,
    n_groups: usize,
    num_mem_blocks: usize,
    attention_adapter: bool,
    mem_rope: bool,
}

const SHAPES: [Shape; 3] = [
    Shape {
        name: "zamba2-1.2b",
        hidden_size: 2048,
        n_layers: 38,
        hybrid_layers: &[5, 11, 17, 23, 29, 35],
        d_state: 128,
        n_groups: 1,
        num_mem_blocks: 1,
        attention_adapter: true,
        mem_rope: true,
    },
    Shape {
        name: "zamba2-2.7b",
        hidden_size: 2560,
        n_layers: 54,
        hybrid_layers: &[6, 12, 18, 24, 30, 36, 42, 47, 51],
        d_state: 64,
        n_groups: 1,
        num_mem_blocks: 2,
        attention_adapter: false,
        mem_rope: false,
    },
    Shape {
        name: "zamba2-7b",
        hidden_size: 3584,
        n_layers: 81,
        hybrid_layers: &[6, 11, 17, 23, 29, 35, 41, 47, 53, 59, 65, 71, 77],
        d_state: 64,
        n_groups: 2,
        num_mem_blocks: 2,
        attention_adapter: false,
        mem_rope: true,
    },
];

impl Shape {
    /// config.json as transformers 5 writes it.
    fn config_json(&self) -> String {
        let kind = |index| match self.hybrid_layers.contains(&index) {
            true => "hybrid",
            false => "linear_attention",
        };
        let kinds: Vec<&str> = (0..self.n_layers).map(kind).collect();
        let config = json!({
            "architectures": ["Zamba2ForCausalLM"],
            "model_type": "zamba2",
            "dtype": "bfloat16",
            "vocab_size": 32000,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.n_layers,
            "layers_block_type": kinds,
            "mamba_d_state": self.d_state,
            "mamba_d_conv": 4,
            "mamba_expand": 2,
            "mamba_ngroups": self.n_groups,
            "n_mamba_heads": 2 * self.hidden_size / 64,
            "mamba_headdim": 64,
            "time_step_min": 0.001,
            "time_step_max": 0.1,
            "time_step_floor": 0.0001,
            "use_conv_bias": true,
            "add_bias_linear": false,
            "intermediate_size": 4 * self.hidden_size,
            "hidden_act": "gelu",
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "num_mem_blocks": self.num_mem_blocks,
            "use_shared_attention_adapter": self.attention_adapter,
            "adapter_rank": 128,
            "use_mem_rope": self.mem_rope,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "use_long_context": false,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": true,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        });
        format!("{config:#}\n")
    }
}

/// The text of the configuration of `shape`.
pub fn config_json(shape: &str) -> Result<String, Error> {
    if let Some(known) = SHAPES.iter().find(|known| known.name == shape) {
        return Ok(known.config_json());
    }
    fs::read_to_string(shape).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::Setting {
            name: "shape".into(),
            fact: Fact::new("unknown_shape").with("value", shape),
        },
        _ => Error::Io {
            file: shape.into(),
            fact: error.to_string().into(),
        },
    })
}

/// Every tensor of the model, in the order in which a forward pass needs them.
fn model_tensors(config: &Config) -> Vec<TensorSpec> {
    // An untied model gets a shared transformer for each hybrid block and an output matrix.
    let plan = family::full_plan(config);
    plan.all_tensors().into_iter().cloned().collect()
}

fn numbers(spec: &TensorSpec) -> u64 {
    spec.shape.iter().map(|&size| size as u64).product()
}

fn tensor_bytes(spec: &TensorSpec) -> u64 {
    NUMBER_BYTES * numbers(spec)
}

/// Distributes the tensors over files, each sorted by name: what comes first in the forward pass is downloaded first.
fn shards(specs: Vec<TensorSpec>, shard_bytes: u64) -> Vec<Vec<TensorSpec>> {
    let mut shards = vec![Vec::new()];
    let mut bytes = 0;
    for spec in specs {
        bytes += tensor_bytes(&spec);
        if bytes > shard_bytes {
            bytes = tensor_bytes(&spec);
            shards.push(Vec::new());
        }
        shards.last_mut().expect("there is at least one").push(spec);
    }
    for shard in &mut shards {
        shard.sort_by(|a, b| a.name.cmp(&b.name));
    }
    shards
}

fn shard_names(n_shards: usize) -> Vec<String> {
    if n_shards == 1 {
        return vec!["model.safetensors".into()];
    }
    let name = |i| format!("model-{i:05}-of-{n_shards:05}.safetensors");
    (1..=n_shards).map(name).collect()
}

/// The length, as eight bytes, and the JSON header of a file with these tensors back to back.
fn header(specs: &[TensorSpec]) -> Vec<u8> {
    let mut end = 0;
    let mut entries = BTreeMap::from([("__metadata__", json!({"format": "pt"}))]);
    for spec in specs {
        let start = end;
        end += tensor_bytes(spec);
        let entry = json!({"dtype": "BF16", "shape": spec.shape, "data_offsets": [start, end]});
        entries.insert(&spec.name, entry);
    }
    let mut text = json!(entries).to_string();
    // Spaces at the end align the weights to eight bytes, as the format's own writer does.
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend(text.into_bytes());
    header
}

/// The distribution of a tensor's numbers, as in a freshly initialised Mamba-2, whose activations neither vanish nor
/// explode.
fn fill(
    spec: &TensorSpec,
    rng: &mut Pcg64Mcg,
    write: &mut impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let count = numbers(spec);
    if spec.role != Role::Vector {
        // Uniform with variance 1 / d_in: outputs are as large as inputs.
        let radius = (3.0 / spec.shape[1] as f32).sqrt();
        return fill_with(count, rng, write, |u| radius * u);
    }
    match spec.slot {
        // ln of 1 to 16.
        Slot::ALog => fill_with(count, rng, write, |u| libm::logf(8.5 + 7.5 * u)),
        Slot::D => fill_with(count, rng, write, |_| 1.0),
        Slot::DtBias => fill_with(count, rng, write, |u| dt_bias(0.5 + 0.5 * u)),
        Slot::Taps => {
            let radius = (1.0 / spec.shape[2] as f32).sqrt();
            fill_with(count, rng, write, |u| radius * u)
        }
        Slot::Bias => fill_with(count, rng, write, |u| 0.02 * u),
        // Norms.
        Slot::Weight => fill_with(count, rng, write, |u| 1.0 + 0.1 * u),
    }
}

/// The bias whose softplus is a dt from 0.001 to 0.1, log-uniform in `share`.
fn dt_bias(share: f32) -> f32 {
    let (least, most) = (libm::logf(0.001), libm::logf(0.1));
    let dt = libm::expf(least + share * (most - least));
    dt + libm::logf(-libm::expm1f(-dt))
}

/// Writes `count` numbers; `shape` computes each from a uniform one in −1..1.
fn fill_with(
    count: u64,
    rng: &mut Pcg64Mcg,
    write: &mut impl FnMut(&[u8]) -> Result<(), Failure>,
    shape: impl Fn(f32) -> f32,
) -> Result<(), Failure> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = (NUMBER_BYTES * count) as usize;
    while left > 0 {
        let piece = &mut piece[..left.min(PIECE_BYTES)];
        for four in piece.chunks_mut(8) {
            // Sixteen random bits are more than a bf16 keeps.
            let bits = rng.next_u64().to_le_bytes();
            for (number, bits) in four
                .as_chunks_mut::<2>()
                .0
                .iter_mut()
                .zip(bits.as_chunks().0)
            {
                let uniform = f32::from(i16::from_le_bytes(*bits)) / 32768.0;
                *number = bf16::from_f32(shape(uniform)).to_le_bytes();
            }
        }
        write(piece)?;
        left -= piece.len();
    }
    Ok(())
}

/// Writes `file` under another name until it is complete, so that an interrupted run leaves nothing that looks like a
/// checkpoint.
fn write_whole(
    file: &Path,
    body: impl FnOnce(&mut File) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut partial = file.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let failed = |error: io::Error| Failure::write(file, &error);
    let written = File::create(&partial)
        .map_err(failed)
        .and_then(|mut out| body(&mut out));
    let written = written.and_then(|()| fs::rename(&partial, file).map_err(failed));
    if written.is_err() {
        // An incomplete file of gigabytes is useless. If removing it fails too, the first error is the one to report.
        let _ = fs::remove_file(&partial);
    }
    written
}

fn write_text(file: &Path, text: &str) -> Result<(), Failure> {
    write_whole(file, |out| {
        out.write_all(text.as_bytes())
            .map_err(|error| Failure::write(file, &error))
    })
}

fn write_shard(
    file: &Path,
    specs: &[TensorSpec],
    rng: &mut Pcg64Mcg,
    progress: &Progress,
) -> Result<(), Failure> {
    let header = header(specs);
    let bytes = header.len() as u64 + specs.iter().map(tensor_bytes).sum::<u64>();
    write_whole(file, |out| {
        let mut write = |piece: &[u8]| {
            progress.advance(piece.len() as u64);
            out.write_all(piece).map_err(|error| Failure::Write {
                file: file.display().to_string(),
                fact: format!("{error} (the file needs {bytes} bytes)"),
            })
        };
        write(&header)?;
        specs
            .iter()
            .try_for_each(|spec| fill(spec, rng, &mut write))
    })
}

/// Creates the folder. An existing one must be empty, except for the leftovers of an interrupted run, unless `force`.
fn prepare(dir: &Path, force: bool) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::write(dir, &error);
    fs::create_dir_all(dir).map_err(failed)?;
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        if !force && !name.ends_with(".partial") {
            return Err(Failure::Occupied {
                dir: dir.display().to_string(),
            });
        }
        // Old weights beside a new index would be loaded as part of the model.
        let is_weights = name.starts_with("model") && name.contains(".safetensors");
        if is_weights || name == "config.json" {
            fs::remove_file(dir.join(&*name)).map_err(failed)?;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Output {
    dir: String,
    files: Vec<String>,
    tensors: usize,
    parameters: u64,
    bytes: u64,
    seconds: f64,
}

pub fn run(arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let start_us = now_us();
    let dir = &arguments.out;
    let config_text = config_json(&arguments.shape)?;
    let specs = model_tensors(&Config::from_json(&config_text)?);
    prepare(dir, arguments.force)?;

    let (n_tensors, parameters) = (specs.len(), specs.iter().map(numbers).sum());
    let shards = shards(specs, SHARD_BYTES);
    let names = shard_names(shards.len());
    let mut rng = Pcg64Mcg::seed_from_u64(arguments.seed);
    let mut weight_map = BTreeMap::new();
    let bytes = NUMBER_BYTES * parameters;
    let progress = Progress::of_bytes("Writing", bytes);
    for (name, specs) in names.iter().zip(&shards) {
        write_shard(&dir.join(name), specs, &mut rng, &progress)?;
        weight_map.extend(specs.iter().map(|spec| (spec.name.as_str(), name.as_str())));
    }
    drop(progress);
    let mut files = names.clone();
    if names.len() > 1 {
        let index: Value = json!({
            "metadata": {"total_parameters": parameters, "total_size": bytes},
            "weight_map": weight_map,
        });
        write_text(&dir.join(INDEX), &format!("{index:#}\n"))?;
        files.push(INDEX.into());
    }
    // Written last, so that a folder with a configuration is a complete checkpoint.
    write_text(&dir.join("config.json"), &config_text)?;
    files.push("config.json".into());

    let output = Output {
        dir: dir.display().to_string(),
        files,
        tensors: n_tensors,
        parameters,
        bytes,
        seconds: (now_us() - start_us) / 1e6,
    };
    if json {
        return print_json(&output);
    }
    print(&format!(
        "{}: {} tensors, {} parameters, {:.2} GB in {:.1} s\n\
         There is no tokenizer.json; `zamba2 logits` and `zamba2 bench` need none, and `zamba2 generate` does.\n",
        output.dir,
        output.tensors,
        output.parameters,
        output.bytes as f64 / 1e9,
        output.seconds
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zamba2::loader::safetensors::Shard;

    fn specs_of(shape: &str) -> Vec<TensorSpec> {
        model_tensors(&Config::from_json(&config_json(shape).unwrap()).unwrap())
    }

    #[test]
    fn the_published_sizes_have_as_many_parameters_and_tensors_as_in_the_reference() {
        for (shape, parameters, n_tensors) in [
            ("zamba2-1.2b", 1_215_064_704, 406),
            ("zamba2-2.7b", 2_662_214_560, 531),
            ("zamba2-7b", 7_356_749_648, 786),
        ] {
            let specs = specs_of(shape);
            let sum: u64 = specs.iter().map(numbers).sum();
            assert_eq!((sum, specs.len()), (parameters, n_tensors), "{shape}");
        }
    }

    #[test]
    fn every_tensor_is_in_one_shard_and_no_shard_is_too_large() {
        let specs = specs_of("zamba2-7b");
        let n_tensors = specs.len();
        let shards = shards(specs, SHARD_BYTES);
        assert_eq!(shards.len(), 3);
        assert_eq!(shards.iter().map(Vec::len).sum::<usize>(), n_tensors);
        for shard in &shards {
            assert!(shard.iter().map(tensor_bytes).sum::<u64>() <= SHARD_BYTES);
        }
        assert_eq!(shard_names(3)[1], "model-00002-of-00003.safetensors");
    }

    #[test]
    fn the_header_is_one_that_the_loader_accepts() {
        let specs = shards(specs_of("zamba2-1.2b"), SHARD_BYTES).remove(0);
        let header = header(&specs);
        assert_eq!(header.len() % 8, 0);
        let bytes = header.len() as u64 + specs.iter().map(tensor_bytes).sum::<u64>();
        let shard = Shard::parse("model.safetensors", bytes, &header[8..]).unwrap();
        assert_eq!(shard.tensors.len(), 406);
    }

    #[test]
    fn the_time_steps_begin_within_the_bounds_of_mamba2() {
        let softplus = |bias: f32| bias.exp().ln_1p();
        assert!((softplus(dt_bias(0.0)) - 0.001).abs() < 1e-6);
        assert!((softplus(dt_bias(1.0)) - 0.1).abs() < 1e-5);
    }
}
