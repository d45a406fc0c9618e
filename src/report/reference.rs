//! The reference report that this one succeeds: its figures as published, and the same pass counted anew. It stands
//! inside the report. Times can't be recomputed and are the published ones in both.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::family;
use crate::quant::WeightFormat;
use crate::report::count::{self, Formats, Kind};
use crate::report::run::Shapes;
use crate::report::summary::{FlopsByKind, Parts};
use crate::report::words::Language;

/// The published figures, to their printed digits, and the shapes of the model that they are about.
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
                fact: format!("`{name}` is not one of published, recomputed"),
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
    /// The published report has one figure for linear layers and convolutions, which stands under `linear`.
    pub flops_by_kind: FlopsByKind,
    pub tflops: f64,
    pub blocks: Vec<ReferenceBlock>,
    pub types: Vec<ReferenceType>,
    pub slowest: Vec<ReferenceModule>,
    pub explanation: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ReferenceBlock {
    pub block: usize,
    pub mamba_flops: f64,
    pub attention_flops: f64,
    pub ffn_flops: f64,
    pub other_flops: f64,
    /// Unknown where FLOPs are recomputed: no time of a block was published.
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

/// Of a printed figure, without what binary fractions add to it.
fn scaled(printed: f64, by: f64) -> f64 {
    (printed * by).round()
}

pub fn report(kind: ReferenceKind, language: Language) -> ReferenceReport {
    let published: Published = serde_json::from_str(DATA).expect("the file is our own");
    let explanation = language.say(
        "The published report counts the depthwise convolution as a dense one, the parts of hybrid blocks twice, and all six calls of the shared block on block 5; its parameters have the tied embedding twice and no norms. Counted from the shapes, the same pass is {recomputed} GFLOP instead of {published} ({last} with the logits of the last token only), and the model has 1 215 064 704 parameters; the times are the published ones in both.",
        "В опубликованном отчёте поканальная свёртка посчитана как плотная, части гибридных блоков — дважды, а все шесть вызовов общего блока записаны на блок 5; среди параметров связанная матрица эмбеддингов посчитана дважды, а нормы не посчитаны. По размерам матриц тот же проход — {recomputed} GFLOP вместо {published} ({last}, если логиты нужны только для последнего токена), а параметров 1 215 064 704; времена в обоих случаях опубликованные.",
        &[
            ("recomputed", &language.number(126.758, 3)),
            ("published", &language.number(436.29, 2)),
            ("last", &language.number(122.302, 3)),
        ],
    );
    let report = ReferenceReport {
        kind,
        model: published.model,
        forward_us: scaled(published.forward_ms, 1e3),
        hidden_size: published.hidden_size,
        vocab_size: published.vocab_size,
        prompt_tokens: published.prompt_tokens,
        n_blocks: published.n_blocks,
        parameters: published.parameters,
        flops: scaled(published.gflops.total, 1e9),
        flops_by_kind: FlopsByKind {
            linear: scaled(published.gflops.linear_and_conv1d, 1e9),
            conv1d: 0.0,
            attention: scaled(published.gflops.attention_kernel, 1e9),
            ssm: scaled(published.gflops.ssm, 1e9),
        },
        tflops: published.tflops,
        blocks: (published.blocks.iter().enumerate())
            .map(|(block, row)| ReferenceBlock {
                block,
                mamba_flops: scaled(row.mamba_gflops, 1e9),
                attention_flops: scaled(row.attention_gflops, 1e9),
                ffn_flops: scaled(row.ffn_gflops, 1e9),
                other_flops: 0.0,
                tflops: Some(row.tflops),
            })
            .collect(),
        types: (published.types.into_iter())
            .map(|row| ReferenceType {
                class: row.class,
                count: row.count,
                total_us: scaled(row.total_ms, 1e3),
                mean_us: scaled(row.mean_ms, 1e4) / 10.0,
            })
            .collect(),
        slowest: (published.slowest.into_iter())
            .map(|row| ReferenceModule {
                path: row.path,
                class: row.class,
                us: scaled(row.ms, 1e3),
            })
            .collect(),
        explanation,
    };
    match kind {
        ReferenceKind::Published => report,
        ReferenceKind::Recomputed => recomputed(report, &published.config),
    }
}

/// The same pass with every operation counted once, under the block that it belongs to.
fn recomputed(mut report: ReferenceReport, shapes: &Shapes) -> ReferenceReport {
    let config = shapes.config().expect("the file is our own");
    let tokens = report.prompt_tokens;
    // The reference's weights were not quantised; FLOPs don't depend on it.
    let formats = Formats {
        weights: WeightFormat::F32,
        kv_position_bytes: 0.0,
    };
    let mut works = count::pass(&config, tokens, 0, formats);
    if let Some(head) = works.last_mut() {
        // Called by itself and not to generate, the reference computes the logits of every token.
        head.flops *= tokens as f64;
    }
    let of_kind = |kind: Kind| -> f64 {
        let alike = works.iter().filter(|work| work.kind == kind);
        alike.map(|work| work.flops).sum()
    };
    report.flops_by_kind = FlopsByKind {
        linear: of_kind(Kind::Linear),
        conv1d: of_kind(Kind::Conv1d),
        attention: of_kind(Kind::Attention),
        ssm: of_kind(Kind::Ssm),
    };
    report.flops = works.iter().map(|work| work.flops).sum();
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
    report
}
