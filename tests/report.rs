//! The report: counts against arithmetic written out from shapes, spans against counts, derived figures against runs
//! whose answer is known, the exported forms, and files that nobody should have written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use pollster::block_on;
use serde_json::{Value, json};
use zamba2::base::clock::now_us;
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::family;
use zamba2::folder;
use zamba2::model::NumericSettings;
use zamba2::model::config::{BlockKind, Config};
use zamba2::ops::device::Ceilings;
use zamba2::ops::trace::{Level, Profile};
use zamba2::report::count::{self, Formats, Kind, ModuleWork};
use zamba2::report::measure::{NextRun, Protocol};
use zamba2::report::reference::{self, ReferenceKind};
use zamba2::report::run::{
    Conditions, Memory, ModelFacts, ProfiledRun, RecordedLevel, Run, SCHEMA, Shapes, Spans, Timer,
    UnprofiledRun,
};
use zamba2::report::sentence::Sentence;
use zamba2::report::summary::{PhaseSummary, summarise};
use zamba2::report::verdict::Verdict;
use zamba2::report::{Format, export};
use zamba2::session::{GenerateOptions, LoadSettings, Session};
use zamba2::text::sampling::SamplingOptions;
use zamba2::words::{self, Language};

/// Every checkpoint of `tests/fixtures`.
fn fixtures() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let folders = fs::read_dir(root).expect("the folder of fixtures is there");
    let mut dirs: Vec<PathBuf> = folders.map(|entry| entry.unwrap().path()).collect();
    dirs.retain(|dir| dir.join("config.json").exists());
    dirs.sort();
    assert!(!dirs.is_empty());
    dirs
}

// ---- the published models ----

struct Model {
    h: u64,
    layers: u64,
    hybrid: &'static [u64],
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

const SMALL: Model = Model {
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
const MIDDLE: Model = Model {
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
const LARGE: Model = Model {
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
    fn config(&self) -> Config {
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

    /// Likewise of a call of the shared block, with the matrix that brings its result to the mixer.
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

    /// FLOPs of a pass over `t` tokens after `past`, with the logits of `rows` of them.
    fn flops(&self, t: u64, past: u64, rows: u64) -> u64 {
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

    /// Bytes of a pass over `t` ≤ 64 tokens after `past` in f32.
    fn bytes(&self, t: u64, past: u64) -> u64 {
        let numbers = |matrices: &[[u64; 2]]| -> u64 {
            matrices.iter().map(|[rows, cols]| rows * cols).sum()
        };
        let heads = self.d_inner() / HEAD;
        let vectors = self.h + 5 * self.channels() + 3 * heads + self.d_inner();
        let states = 2 * (3 * self.channels() + self.d_inner() * self.d_state);
        let kv = 2 * 2 * self.h * (t + past + t);
        let hybrid = numbers(&self.shared()) + 2 * self.h + self.h + kv;
        // The embedding is looked up twice; the final norm and the output matrix are read once.
        let outside = 2 * t * self.h + self.h + self.h * VOCAB;
        4 * (self.layers * (numbers(&self.mixer()) + vectors + states)
            + self.hybrid.len() as u64 * hybrid
            + outside)
    }
}

fn f32_formats(config: &Config) -> Formats {
    Formats {
        weights: WeightFormat::F32,
        kv_position_bytes: 8.0 * config.kv_width() as f64,
    }
}

fn sum(works: &[ModuleWork], of: impl Fn(&ModuleWork) -> f64) -> f64 {
    works.iter().map(of).sum()
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
fn q4_reads_the_stored_bytes_of_each_matrix_and_a_shared_block_at_each_of_its_calls() {
    let config = SMALL.config();
    let formats = Formats {
        weights: WeightFormat::Q4,
        kv_position_bytes: 0.0,
    };
    let works = count::pass(&config, 1, 35, formats);
    let q = works
        .iter()
        .filter(|work| work.path.ends_with("self_attn.q_proj"));
    let q: Vec<_> = q.map(|work| (work.block, work.weight_bytes)).collect();
    // A row is its scale and 18 bytes for each 32 columns.
    let bytes = 4096.0 * (4.0 + 18.0 * 4096.0 / 32.0);
    let expected: Vec<_> = SMALL
        .hybrid
        .iter()
        .map(|&b| (Some(b as usize), bytes))
        .collect();
    assert_eq!(q, expected);
    // The output matrix has eight bits.
    let head = works.last().expect("there is an output matrix");
    assert_eq!((&head.path[..], head.kind), ("lm_head", Kind::Linear));
    assert_eq!(head.weight_bytes, 32000.0 * (4.0 + 34.0 * 2048.0 / 32.0));
}

// ---- the reference report ----

/// The conventions behind the published figures: dense convolutions over the padded length, everything inside a
/// hybrid block's mixer and the shared block twice, and all of the latter on block 5.
#[test]
fn every_published_count_follows_from_its_own_conventions() {
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

    // Linear, convolution and embedding modules, the tied head as a module of its own, and no norms or scan vectors.
    let vectors = 38 * (3 * 64 + 4096 + 2048) + (4096 + 2048) + 2048;
    assert_eq!(published.parameters, 1_215_064_704 + 32000 * 2048 - vectors);

    // One hook for each module, a second one for the leaves inside shared_transformer and mamba_decoder.mamba.
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
        // The sum is printed to a microsecond, the mean to a tenth of one.
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
fn recomputed_the_same_pass_takes_less_than_a_third_of_the_published_operations() {
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

// ---- spans against counts ----

fn open(dir: &Path, weights: WeightFormat) -> Session<Cpu> {
    let settings = LoadSettings {
        weights,
        context: None,
        numeric: NumericSettings::default(),
        memory_limit_bytes: None,
    };
    folder::open(Cpu::new(1), dir, settings).unwrap()
}

/// Times as the command line takes them, and the spans.
fn measure(
    session: &mut Session<Cpu>,
    tokens: usize,
    steps: usize,
    level: Level,
) -> (UnprofiledRun, Profile) {
    let vocab_size = session.config().vocab_size;
    let ids: Vec<u32> = (0..tokens)
        .map(|i| (i * 7919 % vocab_size) as u32)
        .collect();
    let options = GenerateOptions {
        max_tokens: steps + 1,
        sampling: SamplingOptions {
            temperature: 0.0,
            ..SamplingOptions::default()
        },
        ignore_eos: true,
        ..GenerateOptions::default()
    };
    session.set_recording(level);
    let start_us = now_us();
    session.start(&ids, options).unwrap();
    block_on(session.step()).unwrap();
    let prefill_us = now_us() - start_us;
    let mut step = || {
        let start_us = now_us();
        block_on(session.step()).unwrap();
        now_us() - start_us
    };
    let step_us = (0..steps).map(|_| step()).collect();
    let times = UnprofiledRun::new(prefill_us, step_us);
    (times, session.take_profile())
}

/// Calls, FLOPs and bytes by module path, of those that have any work.
type Works = BTreeMap<String, (usize, f64, f64)>;

fn recorded(config: &Config, profile: &Profile, pass: u32) -> Works {
    let tree = family::full_plan(config).tree;
    let mut works = Works::new();
    let mut block = Vec::new();
    for row in 0..profile.len() {
        let name = &profile.names[usize::from(profile.name[row])];
        let around: Option<usize> = match profile.parent[row] {
            -1 => None,
            parent => block[parent as usize],
        };
        block.push(family::block_of_span(name).or(around));
        let work = (profile.flops[row], profile.bytes[row]);
        if profile.pass[row] != pass || work == (0.0, 0.0) {
            continue;
        }
        let module = tree.by_span(around, name);
        let path = tree.get(module.expect(name)).path.clone();
        let sum = works.entry(path).or_default();
        *sum = (sum.0 + 1, sum.1 + work.0, sum.2 + work.1);
    }
    works
}

#[test]
fn the_work_of_every_span_is_what_the_configuration_says() {
    for dir in fixtures() {
        for weights in [WeightFormat::F32, WeightFormat::Q8, WeightFormat::Q4] {
            let mut session = open(&dir, weights);
            let config = session.config().clone();
            // More than one chunk where the context allows it, and a rest.
            let tokens = (session.context() - 3).min(70);
            let profile = measure(&mut session, tokens, 2, Level::Module).1;
            let formats = Formats {
                weights,
                kv_position_bytes: session.kv_format().bytes(&config.attention_shape(), 1) as f64,
            };
            for (pass, new, past) in [(0, tokens, 0), (1, 1, tokens), (2, 1, tokens + 1)] {
                let counted: Works = count::pass(&config, new, past, formats)
                    .into_iter()
                    .map(|work| (work.path.clone(), (work.calls, work.flops, work.bytes())))
                    .collect();
                let what = format!("{} in {}, pass {pass}", dir.display(), weights.name());
                assert_eq!(recorded(&config, &profile, pass), counted, "{what}");
            }
        }
    }
}

#[test]
fn embedding_final_norm_output_and_sampling_are_recorded_in_every_pass() {
    let dir = &fixtures()[0];
    let profile = measure(&mut open(dir, WeightFormat::F32), 5, 2, Level::Module).1;
    for pass in 0..=2 {
        for name in ["embed_tokens", "final_layernorm", "lm_head", "sampling"] {
            let rows = (0..profile.len()).filter(|&row| profile.pass[row] == pass);
            let found = rows.filter(|&row| profile.names[usize::from(profile.name[row])] == name);
            let parents: Vec<i32> = found.map(|row| profile.parent[row]).collect();
            assert!(
                !parents.is_empty() && parents.iter().all(|&p| p == -1),
                "{name} in {pass}"
            );
        }
    }
}

// ---- what is derived ----

const CEILINGS: Ceilings = Ceilings {
    threads: 1,
    int8_gmacs_per_s: 100.0,
    int16_gmacs_per_s: 50.0,
    f32_gmacs_per_s: 25.0,
    read_gb_per_s: 20.0,
};

fn measured(name: &str, level: RecordedLevel, tokens: usize, steps: usize, runs: usize) -> Run {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name);
    let mut session = open(&dir, WeightFormat::Q8);
    let recording = match level {
        RecordedLevel::Block => Level::Block,
        RecordedLevel::Module => Level::Module,
    };
    let protocol = Protocol {
        warmup: 0,
        runs,
        is_recorded: true,
    };
    let (mut profiled, mut unprofiled) = (Vec::new(), Vec::new());
    for next in protocol.sequence() {
        if next == NextRun::Profiled {
            let (times, profile) = measure(&mut session, tokens, steps, recording);
            profiled.push(ProfiledRun::new(times, profile));
        } else {
            unprofiled.push(measure(&mut session, tokens, steps, Level::Off).0);
        }
    }
    let run = Run {
        schema: SCHEMA.into(),
        made_ms: 1e12,
        label: "q8 · 1 thread".into(),
        model: ModelFacts {
            name: name.into(),
            parameters: session.schedule().parameters,
            config: session.config().into(),
        },
        conditions: Conditions {
            backend: "cpu".into(),
            weights: "q8".into(),
            threads: 1,
            isolated: None,
            context: session.context(),
            level,
            host: "test".into(),
            hidden_ms: 0.0,
        },
        timer: Timer {
            source: "monotonic clock".into(),
            resolution_us: 0.1,
        },
        ceilings: Some(CEILINGS),
        memory: Memory::new(session.config(), session.schedule(), session.kv_format()),
        prompt_tokens: tokens,
        decode_tokens: steps,
        warmup: 0,
        runs: profiled,
        unprofiled,
    };
    assert_eq!(run.check(), Ok(()));
    run
}

const HYBRID: &str = "one_block_adapters_rope";

#[test]
fn self_times_and_what_no_span_covers_sum_to_the_profiled_time() {
    for level in [RecordedLevel::Module, RecordedLevel::Block] {
        let summary = summarise(&measured(HYBRID, level, 20, 3, 4));
        for phase in [&summary.prefill, &summary.decode] {
            let modules: f64 = phase.modules.iter().map(|row| row.self_us).sum();
            let types: f64 = phase.types.iter().map(|row| row.self_us).sum();
            let wall_us = phase.profiled_us.median;
            // Sums of some hundred f64.
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
fn the_tree_holds_every_child_inside_its_parent_and_starts_with_the_whole_pass() {
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
                // Durations are kept in f32.
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

#[test]
fn spans_lie_within_the_time_that_another_clock_sees() {
    let dir = fixtures()[0].clone();
    let mut session = open(&dir, WeightFormat::F32);
    // The best of many: something else may hold any one of them up between two readings of the clocks.
    let mut best = 0.0f64;
    for _ in 0..20 {
        let outside = Instant::now();
        let (times, profile) = measure(&mut session, 40, 2, Level::Module);
        let outside_us = outside.elapsed().as_secs_f64() * 1e6;
        let inside_us = times.prefill_us + times.step_us.iter().sum::<f64>();
        let tops = (0..profile.len()).filter(|&row| profile.parent[row] == -1);
        let tracked_us: f64 = tops.map(|row| f64::from(profile.duration_us[row])).sum();
        assert!(tracked_us <= inside_us * (1.0 + 1e-6) && inside_us <= outside_us);
        best = best.max(tracked_us / outside_us);
    }
    assert!(best > 0.5, "{best}");
}

/// A plain and a hybrid block with round times: five passes, of which the first and the last in time don't count.
fn known_run() -> Run {
    let mut run = measured(HYBRID, RecordedLevel::Module, 20, 0, 1);
    let kinds = &run.model.config.kinds;
    let plain = kinds
        .iter()
        .position(|kind| *kind == BlockKind::Mamba)
        .unwrap();
    let hybrid = kinds
        .iter()
        .position(|kind| *kind == BlockKind::Hybrid)
        .unwrap();
    let rows: [(String, i64, f64); 9] = [
        ("embed_tokens".into(), -1, 10.0),
        (format!("layers.{plain}"), -1, 100.0),
        ("mamba.in_proj".into(), 1, 60.0),
        ("mamba.out_proj".into(), 1, 30.0),
        (format!("layers.{hybrid}"), -1, 400.0),
        ("shared_transformer".into(), 4, 300.0),
        ("self_attn.q_proj".into(), 5, 200.0),
        ("feed_forward.down_proj".into(), 5, 80.0),
        ("mamba.in_proj".into(), 4, 90.0),
    ];
    let mut names: Vec<String> = Vec::new();
    for (name, ..) in &rows {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let spans = |times: f64| Spans {
        names: names.clone(),
        name: rows
            .iter()
            .map(|(name, ..)| names.iter().position(|n| n == name).unwrap())
            .collect(),
        parent: rows.iter().map(|row| row.1).collect(),
        pass: vec![0; rows.len()],
        start_us: vec![0.0; rows.len()],
        duration_us: rows.iter().map(|row| row.2 * times).collect(),
        flops: vec![0.0; rows.len()],
        bytes: vec![0.0; rows.len()],
    };
    run.runs = [1.0, 2.0, 2.0, 2.0, 50.0]
        .map(|times| ProfiledRun {
            prefill_us: 520.0 * times,
            step_us: Vec::new(),
            spans: spans(times),
        })
        .to_vec();
    run.unprofiled = [900.0, 1000.0, 1100.0]
        .map(|prefill_us| UnprofiledRun {
            prefill_us,
            step_us: Vec::new(),
        })
        .to_vec();
    assert_eq!(run.check(), Ok(()));
    run
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
fn times_of_a_known_run_are_what_they_must_be() {
    let run = known_run();
    let hybrid = run.config().hybrid_blocks()[0];
    let summary = summarise(&run);
    let phase = &summary.prefill;
    assert_eq!(
        (phase.wall_us.median, phase.profiled_us.median),
        (1000.0, 1040.0)
    );
    assert_eq!((phase.wall_us.n, phase.profiled_us.n), (3, 5));
    // A tenth of the way from the first to the second of three.
    assert!((phase.wall_us.p5 - 910.0).abs() < 1e-9);
    assert!((phase.recording_percent - 4.0).abs() < 1e-9);
    // Everything twice the table: the middle three of five passes are alike. The rest of 520 is 10.
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
    assert_eq!((row.shared_block, row.call), (Some(0), Some(1)));
}

#[test]
fn percent_of_ceiling_is_the_time_that_the_roofline_allows() {
    let run = known_run();
    let config = run.config();
    let summary = summarise(&run);
    let works = count::pass(&config, run.prompt_tokens, 0, run.formats());
    let path = format!(
        "model.layers.{}.shared_transformer.self_attn.q_proj",
        config.hybrid_blocks()[0]
    );
    let work = works.iter().find(|work| work.path == path).unwrap();
    // q8 multiplies in 16 bits: 50 GMAC/s are 100 GFLOP/s; reading goes at 20 GB/s.
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
fn without_ceilings_there_is_no_percentage_and_a_caution_says_so() {
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
fn what_weakens_the_figures_is_stated_in_both_languages() {
    let mut run = known_run();
    run.conditions.hidden_ms = 12_000.0;
    run.conditions.threads = 1;
    run.conditions.isolated = Some(false);
    run.runs.truncate(2);
    // Far more than what these ceilings allow.
    run.memory.weights_bytes = 1 << 30;
    run.ceilings = Some(Ceilings {
        int16_gmacs_per_s: 1e-4,
        f32_gmacs_per_s: 1e-4,
        read_gb_per_s: 1e-3,
        ..CEILINGS
    });
    for (language, words) in [
        (
            Language::En,
            [
                "background for 12.0 s",
                "Measured runs: 2",
                "ceiling was measured too low",
                "isolation headers",
            ],
        ),
        (
            Language::Ru,
            [
                "12,0 с была в фоне",
                "прогонов: 2",
                "измерен слишком низко",
                "заголовками изоляции",
            ],
        ),
    ] {
        let sentences = all_sentences(&run);
        let texts: Vec<String> = sentences.iter().map(|one| one.text(language)).collect();
        let all = texts.join("\n");
        for word in words {
            assert!(all.contains(word), "{word} in:\n{all}");
        }
    }
}

/// Advice and cautions on `run`.
fn all_sentences(run: &Run) -> Vec<Sentence> {
    let summary = summarise(run);
    [summary.advice, summary.cautions].concat()
}

/// Scales the spans so that those of each pass cover `us`.
fn stretch(spans: &mut Spans, us: f64) {
    let mut covered_us: BTreeMap<usize, f64> = BTreeMap::new();
    for row in (0..spans.len()).filter(|&row| spans.parent[row] == -1) {
        *covered_us.entry(spans.pass[row]).or_default() += spans.duration_us[row];
    }
    for row in 0..spans.len() {
        spans.duration_us[row] *= us / covered_us[&spans.pass[row]];
    }
}

/// A run whose passes all take a second, with ceilings at which its decode reaches `percent` of the one that binds it.
fn decode_at(percent: f64, by_memory: bool) -> Run {
    let run = measured(HYBRID, RecordedLevel::Module, 20, 2, 3);
    with_decode_at(percent, by_memory, run)
}

/// `run` with those times and ceilings.
fn with_decode_at(percent: f64, by_memory: bool, mut run: Run) -> Run {
    for run in &mut run.unprofiled {
        (run.prefill_us, run.step_us) = (1e6, vec![1e6; 2]);
    }
    for run in &mut run.runs {
        (run.prefill_us, run.step_us) = (1e6, vec![1e6; 2]);
        stretch(&mut run.spans, 1e6);
    }
    run.timer.resolution_us = 0.0;
    let ceilings = |arithmetic: f64, memory: f64| {
        Some(Ceilings {
            threads: 1,
            int8_gmacs_per_s: arithmetic,
            int16_gmacs_per_s: arithmetic,
            f32_gmacs_per_s: arithmetic,
            read_gb_per_s: memory,
        })
    };
    let (arithmetic, memory) = if by_memory { (1e3, 1.0) } else { (1.0, 1e3) };
    run.ceilings = ceilings(arithmetic, memory);
    let reached = summarise(&run).decode.percent_of_ceiling.unwrap();
    let scale = reached / percent;
    run.ceilings = ceilings(arithmetic * scale, memory * scale);
    run
}

/// The median of the fastest ordinary block in a decode step.
fn shortest_block_us(run: &Run) -> f64 {
    let blocks = summarise(run).decode.blocks;
    let plain = blocks.iter().filter(|row| row.kind == BlockKind::Mamba);
    plain.map(|row| row.us.median).fold(f64::INFINITY, f64::min)
}

/// A clock whose steps are longer than a pass, as browsers have that resist fingerprinting.
#[test]
fn passes_of_no_time_are_a_run_where_the_clock_is_coarse() {
    let mut run = measured(HYBRID, RecordedLevel::Module, 20, 2, 3);
    run.ceilings = None;
    for run in &mut run.unprofiled {
        (run.prefill_us, run.step_us) = (0.0, vec![0.0; 2]);
    }
    for run in &mut run.runs {
        (run.prefill_us, run.step_us) = (0.0, vec![0.0, 1e5]);
        run.spans.duration_us.fill(0.0);
    }
    run.timer.resolution_us = 1.0;
    assert!(
        run.check().is_err(),
        "a fine clock would have seen the pass"
    );
    run.timer.resolution_us = 1e5;
    assert_eq!(run.check(), Ok(()));
    let summary = summarise(&run);
    let finite = |phase: &PhaseSummary| {
        let rates = [phase.tflops, phase.gb_per_s, phase.recording_percent];
        rates.iter().all(|rate| rate.is_finite())
    };
    assert!(finite(&summary.prefill) && finite(&summary.decode));
    let keys: Vec<_> = summary.cautions.iter().map(|caution| caution.key).collect();
    assert!(keys.contains(&"advice.caution.no_block_times"), "{keys:?}");
    let of_noise = |key: &&str| key.ends_with(".spread") || key.ends_with(".recording");
    assert!(!keys.iter().any(of_noise), "{keys:?}");
}

/// A run for every sentence, by its key.
fn runs_for_all_sentences() -> Vec<(&'static str, Run)> {
    let changed = |change: fn(&mut Run)| {
        let mut run = decode_at(70.0, true);
        change(&mut run);
        run
    };
    let mut in_q4 = measured(HYBRID, RecordedLevel::Module, 20, 2, 3);
    in_q4.conditions.weights = "q4".into();
    let in_q4 = with_decode_at(70.0, true, in_q4);
    let heavy = |mut run: Run| {
        run.memory.weights_bytes = 1 << 30;
        run
    };
    vec![
        ("advice.decode.neither", decode_at(7.0, true)),
        ("advice.decode.neither", decode_at(7.0, false)),
        ("advice.decode.memory_q4", decode_at(70.0, true)),
        ("advice.decode.memory", in_q4),
        ("advice.decode.arithmetic", decode_at(70.0, false)),
        ("advice.farthest.prefill", decode_at(0.01, true)),
        (
            "advice.farthest.decode",
            changed(|run| {
                for run in &mut run.runs {
                    let spans = &mut run.spans;
                    for (pass, us) in spans.pass.iter().zip(&mut spans.duration_us) {
                        *us = if *pass == 0 { 0.0 } else { 1e6 };
                    }
                }
            }),
        ),
        (
            "advice.threads",
            changed(|run| run.conditions.isolated = Some(false)),
        ),
        (
            "advice.caution.hidden",
            changed(|run| run.conditions.hidden_ms = 5.0),
        ),
        ("advice.caution.cached", decode_at(200.0, true)),
        ("advice.caution.above_ceiling", decode_at(200.0, false)),
        (
            "advice.caution.above_ceiling",
            heavy(decode_at(200.0, true)),
        ),
        (
            "advice.caution.few_runs",
            changed(|run| run.runs.truncate(2)),
        ),
        (
            "advice.caution.spread",
            changed(|run| run.unprofiled[0].step_us = vec![2e6; 2]),
        ),
        (
            "advice.caution.recording",
            changed(|run| run.runs.iter_mut().for_each(|run| run.prefill_us *= 1.5)),
        ),
        (
            "advice.caution.coarse_clock",
            changed(|run| run.timer.resolution_us = shortest_block_us(run) / 2.0),
        ),
        (
            "advice.caution.no_block_times",
            changed(|run| run.timer.resolution_us = 1e6),
        ),
        (
            "advice.caution.blocks_only",
            changed(|run| run.conditions.level = RecordedLevel::Block),
        ),
        (
            "advice.caution.no_ceilings",
            changed(|run| run.ceilings = None),
        ),
    ]
}

/// The words of a language as its file has them.
fn words_of(language: Language) -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("www/words");
    let file = root.join(format!("{}.json", language.code()));
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn every_sentence_of_advice_is_given_by_some_run_and_has_words_in_every_language() {
    let mut given = BTreeMap::new();
    for (key, run) in runs_for_all_sentences() {
        assert_eq!(run.check(), Ok(()), "{key}");
        let sentences = all_sentences(&run);
        let one = sentences.iter().find(|sentence| sentence.key == key);
        given.insert(key, one.unwrap_or_else(|| panic!("no {key}")).clone());
    }
    for &language in Language::ALL {
        let words = words_of(language);
        for (key, sentence) in &given {
            assert!(words.contains_key(*key), "{key} in {}", language.code());
            // It panics if the words have a placeholder without a value.
            assert!(!sentence.text(language).contains(['{', '}']), "{key}");
            for (name, _) in &sentence.values {
                let placeholder = format!("{{{name}}}");
                assert!(words[*key].contains(&placeholder), "{key}: {placeholder}");
            }
        }
        // The other way round: no words without a run that asks for them. Titles and phases are parts of a page.
        let is_sentence = |key: &&String| {
            key.starts_with("advice.")
                && *key != "advice.title"
                && !key.starts_with("advice.phase.")
        };
        for key in words.keys().filter(is_sentence) {
            assert!(given.contains_key(&key[..]), "nothing gives {key}");
        }
    }
}

/// A key without words would be a panic in English and an English text elsewhere.
#[test]
fn every_key_in_the_sources_of_the_report_has_words_in_every_language() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report")];
    let mut keys = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let literals = text.split('"').filter(|part| !part.contains(' '));
            let is_key = |part: &&str| part.starts_with("report.") || part.starts_with("advice.");
            keys.extend(literals.filter(is_key).map(str::to_owned));
        }
    }
    // A prefix alone is what a test builds keys from.
    keys.retain(|key| !key.ends_with('.') && !key.contains('{'));
    assert!(keys.len() > 100, "{}", keys.len());
    for &language in Language::ALL {
        let words = words_of(language);
        for key in &keys {
            assert!(words.contains_key(key), "{key} in {}", language.code());
        }
    }
}

#[test]
fn a_summary_has_no_words_of_any_language() {
    for (_, run) in runs_for_all_sentences() {
        let json = serde_json::to_string(&summarise(&run)).unwrap();
        for &language in Language::ALL {
            for (key, text) in words_of(language) {
                // Parts between placeholders; shorter ones also occur in keys and paths.
                let parts = text.split(['{', '}']).filter(|part| part.len() >= 12);
                for part in parts.filter(|_| key.starts_with("advice.")) {
                    assert!(!json.contains(part), "{part}");
                }
            }
        }
        let cyrillic = |c: char| ('а'..='я').contains(&c);
        assert!(!json.contains(cyrillic));
    }
}

#[test]
fn one_verdict_stands_in_the_summary_in_the_advice_and_in_the_list_of_ceilings() {
    for (percent, by_memory, verdict) in [
        (7.0, true, Verdict::NearestMemory),
        (7.0, false, Verdict::NearestArithmetic),
        (70.0, true, Verdict::HeldByMemory),
        (70.0, false, Verdict::HeldByArithmetic),
        (200.0, true, Verdict::AboveCeiling),
    ] {
        let mut run = decode_at(percent, by_memory);
        assert_eq!(summarise(&run).decode.verdict, verdict);
        // The prefill has a verdict of its own, which is not looked at here.
        for run in &mut run.unprofiled {
            run.prefill_us = 1e9;
        }
        for &language in Language::ALL {
            let text = export(&run, Format::Markdown, language);
            assert!(text.contains(words::get(language, verdict.key())), "{text}");
            let held = [Verdict::HeldByMemory, Verdict::HeldByArithmetic];
            for other in held.into_iter().filter(|other| *other != verdict) {
                let other = words::get(language, other.key());
                assert!(!text.contains(other), "{other} in {text}");
            }
        }
    }
}

#[test]
fn a_russian_report_has_no_english_units_and_headings() {
    let run = measured(HYBRID, RecordedLevel::Module, 20, 2, 2);
    let text = export(&run, Format::Markdown, Language::Ru);
    for line in text.lines() {
        // Names and paths are the checkpoint's, and the clock names itself.
        let words = line.split([' ', '(', ')', ',']);
        let english = [
            "ms", "s", "µs", "B", "MB", "GB", "GB/s", "True", "False", "None",
        ];
        let found: Vec<&str> = words.filter(|word| english.contains(word)).collect();
        assert!(found.is_empty(), "{found:?} in {line}");
        if let Some(heading) = line.strip_prefix("## ") {
            assert!(
                heading.contains(|c: char| ('а'..='я').contains(&c)),
                "{line}"
            );
        }
    }
}

#[test]
fn at_block_level_a_plain_block_is_its_mixer_and_counts_are_the_same() {
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
fn memory_grows_by_the_keys_and_values_of_each_token_alone() {
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

// ---- exported forms ----

#[test]
fn markdown_has_the_headings_of_the_reference_report_in_its_order() {
    let run = measured(HYBRID, RecordedLevel::Module, 20, 2, 2);
    let text = export(&run, Format::Markdown, Language::Ru);
    let headings: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
    assert_eq!(
        headings[..8],
        [
            "# one_block_adapters_rope",
            "## Общие параметры",
            "## FLOPs (оценка по трейсу)",
            "## Графики",
            "## Пример информации по одному блоку",
            "### Эффективность по блокам",
            "## Сводная таблица времени по типам модулей",
            "## Самые медленные модули (20)",
        ]
    );
    for line in [
        "- Время forward-pass: ",
        "- Размер скрытого пространства: ",
        "- Размер словаря: ",
        "- Длина входной последовательности: 20",
        "- Количество блоков: ",
        "- Количество параметров: ",
        "- Linear + Conv1d: ",
        "- Attention kernel (QK^T + AV): ",
        "- Mamba SSM: ",
        "- Итого: ",
        "- Эффективная производительность: ",
        "- Номер блока: ",
        "- Есть Mamba-блок: да",
        "- Есть Mamba decoder: да",
        "- Есть shared Transformer: да",
        "- Размер внутреннего пространства FFN (если есть): ",
        "- FLOPs Attention: ",
        "- FLOPs FFN: ",
        "- FLOPs Mamba: ",
        "| Номер блока | Mamba (GF) | Attention (GF) | FFN (GF) | Эффективность (TFLOPs) |",
        "| Тип | Кол-во | Суммарное время (мс) | Среднее (мс) |",
    ] {
        assert!(text.lines().any(|own| own.starts_with(line)), "{line}");
    }
    let english = export(&run, Format::Markdown, Language::En);
    let count = |text: &str| text.lines().filter(|line| line.starts_with('#')).count();
    assert_eq!(count(&english), count(&text));
    let cyrillic = |c: char| ('а'..='я').contains(&c.to_lowercase().next().unwrap_or(c));
    assert!(!english.contains(cyrillic));
    // Every table row has as many cells as its head.
    for text in [&english, &text] {
        let mut cells = 0;
        for line in text.lines() {
            let own = line.replace("\\|", "").matches('|').count();
            if own > 0 && cells > 0 {
                assert_eq!(own, cells, "{line}");
            }
            cells = own;
        }
    }
}

/// `UPDATE_EXAMPLES=1 cargo test` writes the files anew, for a change of wording.
#[test]
fn the_example_reports_are_what_their_run_gives() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/example");
    let run = Run::parse(&fs::read_to_string(dir.join("run.json")).unwrap()).unwrap();
    for (file, format, language) in [
        ("report.md", Format::Markdown, Language::En),
        ("report.ru.md", Format::Markdown, Language::Ru),
        ("tables.csv", Format::Csv, Language::En),
    ] {
        let text = export(&run, format, language);
        if std::env::var_os("UPDATE_EXAMPLES").is_some() {
            fs::write(dir.join(file), &text).unwrap();
        }
        let kept = fs::read_to_string(dir.join(file)).unwrap();
        let differs = text.lines().zip(kept.lines()).find(|(a, b)| a != b);
        assert!(text == kept, "{file}: (now, kept) = {differs:?}");
    }
}

#[test]
fn a_name_from_a_file_breaks_neither_markdown_nor_a_spreadsheet() {
    let mut run = measured(HYBRID, RecordedLevel::Module, 20, 1, 1);
    run.model.name = "<b>|`x`".into();
    run.runs[0].spans.names[0] = "=1+1".into();
    let name = run.runs[0].spans.names[0].clone();
    let text = export(&run, Format::Markdown, Language::En);
    assert!(text.starts_with("# \\<b\\>\\|\\`x\\`\n"));
    run.runs[0].spans.names.push("a,\"b".into());
    let last = run.runs[0].spans.names.len() - 1;
    run.runs[0].spans.name[0] = last;
    run.runs[0].spans.name[1] = 0;
    run.runs[0].spans.parent[1] = -1;
    let csv = export(&run, Format::Csv, Language::En);
    assert!(
        csv.contains("\"a,\"\"b\"") && csv.contains(&format!(",'{name},")),
        "{csv}"
    );
}

#[test]
fn the_table_has_a_row_for_every_block_type_module_and_token() {
    let run = measured(HYBRID, RecordedLevel::Module, 20, 3, 2);
    let summary = summarise(&run);
    let text = export(&run, Format::Csv, Language::En);
    let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
    let columns: Vec<&str> = lines.next().unwrap().split(',').collect();
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut total_us = 0.0;
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!(fields.len(), columns.len(), "{line}");
        let field = |name: &str| fields[columns.iter().position(|own| *own == name).unwrap()];
        let us: f64 = field("us").parse().unwrap();
        assert!(us.is_finite());
        if (field("table"), field("phase")) == ("modules", "decode") {
            total_us += field("self_us").parse::<f64>().unwrap();
        }
        let key = (field("table").to_owned(), field("phase").to_owned());
        *counts.entry(key).or_default() += 1;
    }
    let of = |table: &str, phase: &str| counts[&(table.to_owned(), phase.to_owned())];
    for (phase, own) in [("prefill", &summary.prefill), ("decode", &summary.decode)] {
        assert_eq!(of("blocks", phase), own.blocks.len());
        assert_eq!(of("types", phase), own.types.len());
        assert_eq!(of("modules", phase), own.modules.len());
    }
    assert_eq!((of("tokens", "prefill"), of("tokens", "decode")), (4, 12));
    let expected = summary.decode.profiled_us.median - summary.decode.untracked_us;
    assert!((total_us - expected).abs() < 1e-6 * expected);
}

#[test]
fn the_trace_is_in_order_and_spans_on_a_track_nest() {
    let run = measured(HYBRID, RecordedLevel::Module, 20, 2, 2);
    let trace: Value = serde_json::from_str(&export(&run, Format::Trace, Language::En)).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let mut last_us = 0.0;
    // The ends of the open spans of each track.
    let mut open: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for event in events {
        let phase = event["ph"].as_str().unwrap();
        *counts.entry(phase).or_default() += 1;
        let ts = event["ts"].as_f64().unwrap();
        if phase != "M" {
            assert!(ts >= last_us, "{event}");
            last_us = ts;
        }
        if phase != "X" {
            continue;
        }
        // Starts are rounded to nanoseconds, durations to f32.
        let slack = 0.1;
        let end = ts + event["dur"].as_f64().unwrap();
        let ends = open.entry(event["tid"].as_u64().unwrap()).or_default();
        while ends.last().is_some_and(|&outer| outer <= ts + slack) {
            ends.pop();
        }
        assert!(
            ends.last().is_none_or(|&outer| end <= outer + slack),
            "{event}"
        );
        ends.push(end);
    }
    let spans: usize = run.runs.iter().map(|run| run.spans.len()).sum();
    let passes = run.runs.len() * (1 + run.decode_tokens);
    assert_eq!((counts["X"], counts["C"]), (spans + passes, passes));
    let named = events.iter().filter(|event| event["name"] == "thread_name");
    let tracks: Vec<u64> = named.map(|event| event["tid"].as_u64().unwrap()).collect();
    assert!(open.keys().all(|track| tracks.contains(track)));
}

#[test]
fn a_run_that_was_written_is_read_back_the_same() {
    let run = measured(HYBRID, RecordedLevel::Module, 20, 2, 2);
    let text = export(&run, Format::Json, Language::En);
    assert_eq!(Run::parse(&text), Ok(run));
}

// ---- files that nobody should have written ----

#[test]
fn a_bad_file_is_refused_with_the_field_and_what_it_must_be() {
    let good = measured(HYBRID, RecordedLevel::Module, 20, 2, 1);
    let good: Value = serde_json::from_str(&good.to_json()).unwrap();
    let rows = good["runs"][0]["spans"]["name"].as_array().unwrap().len();
    for (pointer, value, field, fact) in [
        ("/schema", json!("zamba2-run/2"), "schema", "zamba2-run/1"),
        ("/schema", json!(7), "the file", "schema"),
        ("/prompt_tokens", json!(0), "prompt_tokens", "from 1"),
        (
            "/prompt_tokens",
            json!(1e12),
            "prompt_tokens",
            "expected usize",
        ),
        (
            "/prompt_tokens",
            json!(1u64 << 40),
            "prompt_tokens",
            "from 1",
        ),
        ("/decode_tokens", json!(-1), "decode_tokens", "-1"),
        ("/decode_tokens", json!(3), "runs[0].step_us", "3 entries"),
        ("/label", json!("two\nlines"), "label", "one line"),
        ("/label", json!("x".repeat(1000)), "label", "400 characters"),
        ("/made_ms", json!(-5.0), "made_ms", "at least 0"),
        (
            "/conditions/weights",
            json!("q5"),
            "conditions.weights",
            "f32, q8, q4",
        ),
        (
            "/conditions/level",
            json!("deep"),
            "conditions.level",
            "unknown variant",
        ),
        (
            "/conditions/threads",
            json!(0),
            "conditions.threads",
            "at least 1",
        ),
        (
            "/timer/resolution_us",
            Value::Null,
            "timer.resolution_us",
            "null",
        ),
        (
            "/ceilings/read_gb_per_s",
            json!(0.0),
            "ceilings.read_gb_per_s",
            "above 0",
        ),
        (
            "/model/config/hidden_size",
            json!(0),
            "model.config",
            "multiple of hidden_size",
        ),
        (
            "/model/config/hidden_size",
            json!(7),
            "model.config.d_inner",
            "multiple of hidden_size",
        ),
        (
            "/model/config/n_groups",
            json!(5),
            "model.config",
            "mamba_ngroups",
        ),
        (
            "/model/config/vocab_size",
            json!(u64::MAX),
            "model.config",
            "vocab_size",
        ),
        (
            "/model/config/kinds",
            json!([]),
            "model.config",
            "num_hidden_layers",
        ),
        (
            "/model/config/kinds/0",
            json!("mlp"),
            "model.config.kinds[0]",
            "unknown variant",
        ),
        ("/model/parameters", json!(-1), "model.parameters", "-1"),
        ("/runs", json!([]), "runs", "from 1 to 1000"),
        ("/unprofiled", json!([]), "unprofiled", "from 1 to 1000"),
        (
            "/unprofiled/0/prefill_us",
            json!(0.0),
            "unprofiled[0].prefill_us",
            "above 0",
        ),
        (
            "/runs/0/step_us/1",
            json!(-1.0),
            "runs[0].step_us[1]",
            "above 0",
        ),
        (
            "/runs/0/spans/parent",
            json!([0]),
            "runs[0].spans.parent",
            "as long as",
        ),
        (
            "/runs/0/spans/name/3",
            json!(9999),
            "runs[0].spans.name[3]",
            "length of `names`",
        ),
        (
            "/runs/0/spans/parent/2",
            json!(2),
            "runs[0].spans.parent[2]",
            "earlier span",
        ),
        (
            "/runs/0/spans/parent/2",
            json!(-2),
            "runs[0].spans.parent[2]",
            "earlier span",
        ),
        (
            "/runs/0/spans/pass/0",
            json!(3),
            "runs[0].spans.pass[0]",
            "at most 2",
        ),
        (
            "/runs/0/spans/pass/4",
            json!(2),
            "runs[0].spans.parent",
            "same pass",
        ),
        (
            "/runs/0/spans/duration_us/5",
            json!(-0.5),
            "runs[0].spans.duration_us[5]",
            "at least 0",
        ),
        (
            "/runs/0/spans/bytes/5",
            json!("8"),
            "runs[0].spans.bytes[5]",
            "string",
        ),
        (
            "/runs/0/spans/names/0",
            json!("layers.4000000000"),
            "runs[0].spans.names[0]",
            "blocks",
        ),
    ] {
        assert!(rows > 5);
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect(pointer) = value;
        let error = Run::parse(&bad.to_string()).expect_err(pointer);
        let text = error.to_string();
        assert_eq!(error.code(), "bad_run", "{text}");
        assert!(
            text.contains(field) && text.contains(fact),
            "{pointer}: {text}"
        );
        assert!(text.chars().count() < 700 && !text.contains('\n'), "{text}");
    }
}

#[test]
fn every_field_is_missed_by_name() {
    let good = measured(HYBRID, RecordedLevel::Module, 5, 1, 1);
    let good: Value = serde_json::from_str(&good.to_json()).unwrap();
    for pointer in [
        "",
        "/model",
        "/model/config",
        "/conditions",
        "/timer",
        "/memory",
        "/runs/0",
        "/runs/0/spans",
    ] {
        let names: Vec<String> = good
            .pointer(pointer)
            .unwrap()
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        for name in names {
            let mut bad = good.clone();
            bad.pointer_mut(pointer)
                .unwrap()
                .as_object_mut()
                .unwrap()
                .remove(&name);
            let parsed = Run::parse(&bad.to_string());
            // These three may be null, and null may be left out.
            if ["ceilings", "isolated", "process_bytes"].contains(&&name[..]) {
                assert!(parsed.is_ok(), "{name}");
                continue;
            }
            let text = parsed.expect_err(&name).to_string();
            assert!(text.contains(&name[..]), "{pointer}/{name}: {text}");
        }
    }
}

#[test]
fn what_is_no_run_at_all_is_refused() {
    for text in [
        "",
        "null",
        "[]",
        "3",
        "{}",
        "{\"schema\": \"zamba2-run/1\"}",
        "\u{0}",
        "{\"schema\": \"zamba2-run/1\", \"made_ms\": 1e999}",
    ] {
        assert_eq!(Run::parse(text).expect_err(text).code(), "bad_run");
    }
    let deep = "[".repeat(1 << 20);
    assert_eq!(Run::parse(&deep).unwrap_err().code(), "bad_run");
    let large = " ".repeat((64 << 20) + 1);
    let error = Run::parse(&large).unwrap_err();
    assert!(error.to_string().contains("64 MB"), "{error}");
}

#[test]
fn nonsense_that_passes_the_checks_is_summed_up_without_a_panic() {
    let good = measured(HYBRID, RecordedLevel::Module, 20, 2, 2);
    let mut bad = good.clone();
    for run in &mut bad.runs {
        let spans = &mut run.spans;
        for row in 0..spans.len() {
            // Children longer than parents, huge numbers, names in the wrong place.
            spans.duration_us[row] = if row % 2 == 0 { 1e18 } else { 0.0 };
            spans.name[row] = row * 31 % spans.names.len();
            spans.parent[row] = -1;
        }
    }
    bad.prompt_tokens = 1 << 20;
    bad.memory.kv_bytes_per_token = u64::MAX;
    let mut empty = good.clone();
    for run in &mut empty.runs {
        run.spans = Spans::default();
    }
    let mut no_hybrid = good;
    no_hybrid.model.config.kinds.fill(BlockKind::Mamba);
    for run in [bad, empty, no_hybrid] {
        assert_eq!(run.check(), Ok(()));
        for format in [Format::Markdown, Format::Csv, Format::Trace, Format::Json] {
            assert!(!export(&run, format, Language::Ru).is_empty());
        }
        let summary = serde_json::to_value(summarise(&run)).unwrap();
        assert!(summary["prefill"]["wall_us"]["median"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn shapes_keep_what_counting_needs() {
    for dir in fixtures() {
        let config = folder::read_config(&dir).unwrap();
        let back = Shapes::from(&config).config().unwrap();
        let formats = f32_formats(&config);
        let same = count::pass(&config, 9, 4, formats) == count::pass(&back, 9, 4, formats);
        assert!(same, "{}", dir.display());
    }
}
