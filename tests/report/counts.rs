//! Counted work compared with arithmetic written out from the shapes of the published models.

use serde_json::json;
use zamba2::base::quant::WeightFormat;
use zamba2::model::config::Config;
use zamba2::report::count::{self, Formats, Kind, ModuleWork};
use zamba2::report::run::Shapes;
use zamba2::{family, folder};

use super::{f32_formats, fixtures, sum};

pub struct Model {
    h: u64,
    layers: u64,
    pub hybrid: &'static [u64],
    d_state: u64,
    groups: u64,
    attention_adapters: bool,
    rope: bool,
    blocks: u64,
    parameters: u64,
}

const VOCAB: u64 = 32000;
const RANK: u64 = 128;
const HEAD: u64 = 64;

pub const SMALL: Model = Model {
    h: 2048,
    layers: 38,
    hybrid: &[5, 11, 17, 23, 29, 35],
    d_state: 128,
    groups: 1,
    attention_adapters: true,
    rope: true,
    blocks: 1,
    parameters: 1_215_064_704,
};
pub const MIDDLE: Model = Model {
    h: 2560,
    layers: 54,
    hybrid: &[6, 12, 18, 24, 30, 36, 42, 47, 51],
    d_state: 64,
    groups: 1,
    attention_adapters: false,
    rope: false,
    blocks: 2,
    parameters: 2_662_214_560,
};
pub const LARGE: Model = Model {
    h: 3584,
    layers: 81,
    hybrid: &[6, 11, 17, 23, 29, 35, 41, 47, 53, 59, 65, 71, 77],
    d_state: 64,
    groups: 2,
    attention_adapters: false,
    rope: true,
    blocks: 2,
    parameters: 7_356_749_648,
};

impl Model {
    pub fn config(&self) -> Config {
        let kind = |layer| match self.hybrid.contains(&layer) {
            true => "hybrid",
            false => "mamba",
        };
        let text = json!({
            "model_type": "zamba2", "vocab_size": VOCAB, "hidden_size": self.h, "num_hidden_layers": self.layers,
            "layers_block_type": (0..self.layers).map(kind).collect::<Vec<_>>(), "num_attention_heads": 32,
            "n_mamba_heads": 2 * self.h / HEAD, "mamba_d_state": self.d_state, "mamba_ngroups": self.groups,
            "num_mem_blocks": self.blocks, "use_shared_attention_adapter": self.attention_adapters,
            "use_mem_rope": self.rope, "adapter_rank": RANK,
        });
        Config::from_json(&text.to_string()).unwrap()
    }

    fn d_inner(&self) -> u64 {
        2 * self.h
    }

    fn channels(&self) -> u64 {
        self.d_inner() + 2 * self.groups * self.d_state
    }

    /// Rows and columns of every matrix that a mixer multiplies by.
    fn mixer(&self) -> Vec<[u64; 2]> {
        let heads = self.d_inner() / HEAD;
        vec![
            [self.d_inner() + self.channels() + heads, self.h],
            [self.h, self.d_inner()],
        ]
    }

    /// Rows and columns of every matrix of one call of the shared transformer, including the projection that feeds its
    /// output to the mixer.
    fn shared(&self) -> Vec<[u64; 2]> {
        let (h, wide, ffn) = (self.h, 2 * self.h, 4 * self.h);
        let mut matrices = vec![[wide, wide]; 3];
        if self.attention_adapters {
            matrices.extend([[RANK, wide], [wide, RANK]].repeat(3));
        }
        matrices.extend([
            [h, wide],
            [2 * ffn, h],
            [RANK, h],
            [2 * ffn, RANK],
            [h, ffn],
            [h, h],
        ]);
        matrices
    }

    /// FLOPs of a forward pass over `t` tokens after `past`, with logits for `rows` of them.
    pub fn flops(&self, t: u64, past: u64, rows: u64) -> u64 {
        let linear = |matrices: &[[u64; 2]]| -> u64 {
            matrices
                .iter()
                .map(|[rows, cols]| 2 * t * rows * cols)
                .sum()
        };
        let conv = 2 * 4 * self.channels() * t;
        let scan = t * (5 * self.d_inner() * self.d_state + 3 * self.d_inner());
        let attention: u64 = (0..t)
            .map(|query| 4 * 2 * self.h * (past + query + 1))
            .sum();
        self.layers * (linear(&self.mixer()) + conv + scan)
            + self.hybrid.len() as u64 * (linear(&self.shared()) + attention)
            + 2 * rows * self.h * VOCAB
    }

    /// Bytes of a forward pass over `t` ≤ 64 tokens after `past` in f32.
    fn bytes(&self, t: u64, past: u64) -> u64 {
        let numbers = |matrices: &[[u64; 2]]| -> u64 {
            matrices.iter().map(|[rows, cols]| rows * cols).sum()
        };
        let heads = self.d_inner() / HEAD;
        let vectors = self.h + 5 * self.channels() + 3 * heads + self.d_inner();
        let states = 2 * (3 * self.channels() + self.d_inner() * self.d_state);
        let kv = 2 * 2 * self.h * (t + past + t);
        let hybrid = numbers(&self.shared()) + 2 * self.h + self.h + kv;
        // The embedding, the final norm and the output matrix.
        let outside = t * self.h + self.h + self.h * VOCAB;
        4 * (self.layers * (numbers(&self.mixer()) + vectors + states)
            + self.hybrid.len() as u64 * hybrid
            + outside)
    }
}

#[test]
fn counts_of_the_published_models_equal_arithmetic_from_their_shapes() {
    for model in [SMALL, MIDDLE, LARGE] {
        let config = model.config();
        assert_eq!(family::full_plan(&config).parameters(), model.parameters);
        for (t, past) in [(35, 0), (1, 35), (1, 4095), (64, 100)] {
            let works = count::pass(&config, t as usize, past as usize, f32_formats(&config));
            assert_eq!(
                sum(&works, |work| work.flops),
                model.flops(t, past, 1) as f64
            );
            assert_eq!(sum(&works, ModuleWork::bytes), model.bytes(t, past) as f64);
        }
    }
}

#[test]
fn the_smallest_model_has_the_known_totals() {
    let config = SMALL.config();
    let flops = |t, past| {
        sum(&count::pass(&config, t, past, f32_formats(&config)), |w| {
            w.flops
        })
    };
    assert_eq!(flops(35, 0), 122_302_033_920.0);
    assert_eq!(SMALL.flops(35, 0, 35), 126_758_481_920);
    for n in [36, 1024, 4096] {
        assert_eq!(flops(1, n - 1), (3_619_901_440 + 98_304 * n) as f64);
    }
}

#[test]
fn a_long_prompt_reads_its_weights_once_for_each_chunk() {
    let config = SMALL.config();
    let formats = f32_formats(&config);
    let linear = |t| {
        let works = count::pass(&config, t, 0, formats);
        let work = works
            .iter()
            .find(|work| work.path == "model.layers.7.mamba.in_proj");
        let work = work.expect("block 7 has a mixer").clone();
        (work.calls, work.weight_bytes)
    };
    let bytes = 4.0 * 8512.0 * 2048.0;
    assert_eq!(linear(64), (1, bytes));
    assert_eq!(linear(65), (2, 2.0 * bytes));
}

#[test]
fn q4_reads_each_matrix_once_and_the_shared_transformer_once_per_call() {
    let config = SMALL.config();
    let formats = Formats {
        weights: WeightFormat::Q4,
        kv_position_bytes: 0.0,
        chunk_rows: 64,
    };
    let works = count::pass(&config, 1, 35, formats);
    let q = works
        .iter()
        .filter(|work| work.path.ends_with("self_attn.q_proj"));
    let q: Vec<_> = q.map(|work| (work.block, work.weight_bytes)).collect();
    // A row is an f32 scale and 18 bytes per 32 columns.
    let bytes = 4096.0 * (4.0 + 18.0 * 4096.0 / 32.0);
    let expected: Vec<_> = SMALL
        .hybrid
        .iter()
        .map(|&b| (Some(b as usize), bytes))
        .collect();
    assert_eq!(q, expected);
    // The output matrix is stored in eight bits.
    let head = works.last().expect("there is an output matrix");
    assert_eq!((&head.path[..], head.kind), ("lm_head", Kind::Linear));
    assert_eq!(head.weight_bytes, 32000.0 * (4.0 + 34.0 * 2048.0 / 32.0));
}

#[test]
fn shapes_of_a_run_file_give_the_same_counts_as_the_config() {
    for dir in fixtures() {
        let config = folder::read_config(&dir).unwrap();
        let back = Shapes::from(&config).config().unwrap();
        let formats = f32_formats(&config);
        let same = count::pass(&config, 9, 4, formats) == count::pass(&back, 9, 4, formats);
        assert!(same, "{}", dir.display());
    }
}
