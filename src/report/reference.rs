//! The reference report: its figures as published, and its pass counted again with this project's formulas. Times can't
//! be recomputed, so both versions have the published ones.

use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Fact, Result};
use crate::base::quant::WeightFormat;
use crate::family;
use crate::report::count::{self, Formats, ModuleWork};
use crate::report::run::Shapes;
use crate::report::sentence::{Sentence, SentenceValue};
use crate::report::summary::{FlopsByKind, Parts};

/// The published figures with their printed digits, and the shapes of the model.
const DATA: &str = include_str!("reference.json");

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReferenceKind {
    Published,
    Recomputed,
}

impl std::str::FromStr for ReferenceKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<ReferenceKind> {
        match name {
            "published" => Ok(ReferenceKind::Published),
            "recomputed" => Ok(ReferenceKind::Recomputed),
            _ => Err(Error::Setting {
                name: "kind".into(),
                fact: Fact::not_one_of(name, "published, recomputed"),
            }),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReferenceReport {
    pub kind: ReferenceKind,
    pub model: String,
    pub forward_us: f64,
    pub hidden_size: usize,
    pub vocab_size: usize,
    pub prompt_tokens: usize,
    pub n_blocks: usize,
    pub parameters: u64,
    pub flops: f64,
    /// The published report has one figure for linear layers and convolutions together; it is in `linear`.
    pub flops_by_kind: FlopsByKind,
    pub tflops: f64,
    pub blocks: Vec<ReferenceBlock>,
    pub types: Vec<ReferenceType>,
    pub slowest: Vec<ReferenceModule>,
    /// Why the published and the recomputed figures differ.
    pub explanation: Sentence,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ReferenceBlock {
    pub block: usize,
    pub mamba_flops: f64,
    pub attention_flops: f64,
    pub ffn_flops: f64,
    pub other_flops: f64,
    /// `None` if FLOPs are recomputed: block times were not published.
    pub tflops: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReferenceType {
    #[serde(rename = "type")]
    pub class: String,
    pub count: usize,
    pub total_us: f64,
    pub mean_us: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReferenceModule {
    pub path: String,
    #[serde(rename = "type")]
    pub class: String,
    pub us: f64,
}

#[derive(Deserialize)]
struct Published {
    model: String,
    forward_ms: f64,
    hidden_size: usize,
    vocab_size: usize,
    prompt_tokens: usize,
    n_blocks: usize,
    parameters: u64,
    gflops: PublishedGflops,
    tflops: f64,
    blocks: Vec<PublishedBlock>,
    types: Vec<PublishedType>,
    slowest: Vec<PublishedModule>,
    config: Shapes,
}

#[derive(Deserialize)]
struct PublishedGflops {
    linear_and_conv1d: f64,
    attention_kernel: f64,
    ssm: f64,
    total: f64,
}

#[derive(Deserialize)]
struct PublishedBlock {
    mamba_gflops: f64,
    attention_gflops: f64,
    ffn_gflops: f64,
    tflops: f64,
}

#[derive(Deserialize)]
struct PublishedType {
    #[serde(rename = "type")]
    class: String,
    count: usize,
    total_ms: f64,
    mean_ms: f64,
}

#[derive(Deserialize)]
struct PublishedModule {
    ms: f64,
    path: String,
    #[serde(rename = "type")]
    class: String,
}

/// A printed figure times `by`, without binary rounding errors.
fn scaled(printed: f64, by: f64) -> f64 {
    (printed * by).round()
}

pub fn report(kind: ReferenceKind) -> ReferenceReport {
    let data: Published = serde_json::from_str(DATA).expect("the file is our own");
    let shapes = data.config.clone();
    let published = published(data);
    let (recomputed, last_flops) = recomputed(published.clone(), &shapes);
    let explanation = Sentence::new(
        "report.reference.explanation",
        [
            ("published", SentenceValue::Giga(published.flops, 2)),
            ("recomputed", SentenceValue::Giga(recomputed.flops, 3)),
            ("last", SentenceValue::Giga(last_flops, 3)),
            ("parameters", SentenceValue::Grouped(recomputed.parameters)),
        ],
    );
    let report = match kind {
        ReferenceKind::Published => published,
        ReferenceKind::Recomputed => recomputed,
    };
    ReferenceReport {
        kind,
        explanation,
        ..report
    }
}

/// The published figures. The explanation is filled in later.
fn published(data: Published) -> ReferenceReport {
    let flops = |gflops| scaled(gflops, 1e9);
    ReferenceReport {
        kind: ReferenceKind::Published,
        model: data.model,
        forward_us: scaled(data.forward_ms, 1e3),
        hidden_size: data.hidden_size,
        vocab_size: data.vocab_size,
        prompt_tokens: data.prompt_tokens,
        n_blocks: data.n_blocks,
        parameters: data.parameters,
        flops: flops(data.gflops.total),
        flops_by_kind: FlopsByKind {
            linear: flops(data.gflops.linear_and_conv1d),
            conv1d: 0.0,
            attention: flops(data.gflops.attention_kernel),
            ssm: flops(data.gflops.ssm),
        },
        tflops: data.tflops,
        blocks: (data.blocks.iter().enumerate())
            .map(|(block, row)| ReferenceBlock {
                block,
                mamba_flops: flops(row.mamba_gflops),
                attention_flops: flops(row.attention_gflops),
                ffn_flops: flops(row.ffn_gflops),
                other_flops: 0.0,
                tflops: Some(row.tflops),
            })
            .collect(),
        types: (data.types.into_iter())
            .map(|row| ReferenceType {
                class: row.class,
                count: row.count,
                total_us: scaled(row.total_ms, 1e3),
                mean_us: scaled(row.mean_ms, 1e4) / 10.0,
            })
            .collect(),
        slowest: (data.slowest.into_iter())
            .map(|row| ReferenceModule {
                path: row.path,
                class: row.class,
                us: scaled(row.ms, 1e3),
            })
            .collect(),
        explanation: Sentence::new("", []),
    }
}

/// Each operation of the pass counted once, under its block. Also returns the total FLOPs with logits for the last
/// token only.
fn recomputed(mut report: ReferenceReport, shapes: &Shapes) -> (ReferenceReport, f64) {
    let config = shapes.config().expect("the file is our own");
    let tokens = report.prompt_tokens;
    // FLOPs are independent of the weight format and of chunks.
    let formats = Formats {
        weights: WeightFormat::F32,
        kv_position_bytes: 0.0,
        chunk_rows: tokens,
    };
    let mut works = count::pass(&config, tokens, 0, formats);
    let last_flops = total_flops(&works);
    if let Some(head) = works.last_mut() {
        // The reference timed a forward call rather than generation, and computed the logits of every token.
        head.flops *= tokens as f64;
    }
    report.flops_by_kind = FlopsByKind::of(&works);
    report.flops = total_flops(&works);
    report.tflops = report.flops / report.forward_us / 1e6;
    report.parameters = family::full_plan(&config).parameters();
    for row in &mut report.blocks {
        let mut parts = Parts::default();
        for work in works.iter().filter(|work| work.block == Some(row.block)) {
            *parts.of(work.part) += work.flops;
        }
        *row = ReferenceBlock {
            block: row.block,
            mamba_flops: parts.mamba,
            attention_flops: parts.attention,
            ffn_flops: parts.ffn,
            other_flops: parts.other,
            tflops: None,
        };
    }
    (report, last_flops)
}

fn total_flops(works: &[ModuleWork]) -> f64 {
    works.iter().map(|work| work.flops).sum()
}
