//! The cells of the grid, ordered by what they are worth: by the share of a token's work that a matrix has.

use serde::Deserialize;

use crate::base::quant::WeightFormat;
use crate::device::webgpu::{TunedOp, WebGpu};

/// A matrix of Zamba2-1.2B.
#[derive(Debug)]
pub struct Matrix {
    pub name: &'static str,
    pub d_out: usize,
    pub d_in: usize,
    /// Calls per token.
    calls: usize,
}

const fn of(name: &'static str, [d_out, d_in]: [usize; 2], calls: usize) -> Matrix {
    Matrix {
        name,
        d_out,
        d_in,
        calls,
    }
}

const MATRICES: [Matrix; 9] = [
    of("in_proj", [8512, 2048], 38),
    of("out_proj", [2048, 4096], 38),
    of("gate_up", [16_384, 2048], 6),
    of("qkv", [4096, 4096], 18),
    of("down", [2048, 8192], 6),
    of("logits", [32_000, 2048], 1),
    of("attention_out", [2048, 4096], 6),
    of("linear", [2048, 2048], 6),
    of("adapter_0", [128, 4096], 24),
];

/// Formats and numbers of tokens, the most useful first: decode and a long prompt in the default format of large
/// models, then in the other one, then shorter and longer prompts.
const ORDER: [(WeightFormat, usize); 9] = [
    (WeightFormat::Q4, 1),
    (WeightFormat::Q4, 256),
    (WeightFormat::Q8, 1),
    (WeightFormat::Q8, 256),
    (WeightFormat::Q4, FEW_TOKENS),
    (WeightFormat::Q4, 64),
    (WeightFormat::Q4, 128),
    (WeightFormat::F32, 1),
    (WeightFormat::F32, 256),
];

/// Of these the variants of `linear_few` differ.
const FEW_TOKENS: usize = 8;

/// An op without variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlainOp {
    SsmScan,
    Attention,
    RmsNorm,
    GatedRmsNorm,
}

impl PlainOp {
    pub fn name(self) -> &'static str {
        match self {
            PlainOp::SsmScan => "ssm_scan",
            PlainOp::Attention => "attention",
            PlainOp::RmsNorm => "rms_norm",
            PlainOp::GatedRmsNorm => "gated_rms_norm",
        }
    }
}

/// An op of the grid, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "the name of an op of the grid")]
pub enum GridOp {
    Tuned(TunedOp),
    Plain(PlainOp),
}

/// Which cells to measure; all if nothing is given. Ops without variants have no variant, format and matrix, so a list
/// of these leaves them out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    pub ops: Option<Vec<GridOp>>,
    pub variants: Option<Vec<String>>,
    /// `q4`, `q8` and `f32`.
    pub formats: Option<Vec<String>>,
    pub matrices: Option<Vec<String>>,
    pub tokens: Option<Vec<usize>>,
}

/// A variant of an op at one size.
#[derive(Debug)]
pub struct Cell {
    pub op: TunedOp,
    pub format: WeightFormat,
    pub matrix: &'static Matrix,
    pub tokens: usize,
    pub variant: u8,
    pub variant_name: &'static str,
}

impl Cell {
    /// Unique in a grid.
    pub fn name(&self) -> String {
        let (op, format, matrix) = (self.op.name(), self.format.name(), self.matrix.name);
        format!(
            "{op} {format} {matrix} {} {}",
            self.tokens, self.variant_name
        )
    }
}

/// An op without variants at one size.
#[derive(Clone, Copy, Debug)]
pub struct PlainCell {
    pub op: PlainOp,
    pub tokens: usize,
    /// Positions in the KV cache; 0 for other ops than attention.
    pub context: usize,
}

impl PlainCell {
    /// Unique in a grid.
    pub fn name(&self) -> String {
        let (
            op,
            PlainCell {
                tokens, context, ..
            },
        ) = (self.op.name(), self);
        match context {
            0 => format!("{op} {tokens}"),
            _ => format!("{op} {tokens} of {context}"),
        }
    }
}

/// Decode at several lengths of the sequence, then prefill.
const PLAIN: [(PlainOp, usize, usize); 13] = [
    (PlainOp::SsmScan, 1, 0),
    (PlainOp::Attention, 1, 64),
    (PlainOp::Attention, 1, 256),
    (PlainOp::Attention, 1, 1024),
    (PlainOp::Attention, 1, 4096),
    (PlainOp::GatedRmsNorm, 1, 0),
    (PlainOp::RmsNorm, 1, 0),
    (PlainOp::SsmScan, 256, 0),
    (PlainOp::Attention, 256, 256),
    (PlainOp::Attention, 256, 1024),
    (PlainOp::Attention, 256, 4096),
    (PlainOp::GatedRmsNorm, 256, 0),
    (PlainOp::RmsNorm, 256, 0),
];

/// The selected cells of ops without variants.
pub fn plain(selection: &Selection) -> Vec<PlainCell> {
    let Selection {
        ops,
        variants,
        formats,
        matrices,
        tokens,
    } = selection;
    let has_other_list = [variants, formats, matrices]
        .iter()
        .any(|list| list.is_some());
    let cells = PLAIN.into_iter().map(|(op, tokens, context)| PlainCell {
        op,
        tokens,
        context,
    });
    let is_selected = |cell: &PlainCell| {
        !has_other_list
            && is_listed(ops, &GridOp::Plain(cell.op))
            && is_listed(tokens, &cell.tokens)
    };
    cells.filter(is_selected).collect()
}

/// The selected cells that the device can compute.
pub fn all(device: &WebGpu, selection: &Selection) -> Vec<Cell> {
    static SORTED: [Matrix; 9] = MATRICES;
    let mut matrices: Vec<&Matrix> = SORTED.iter().collect();
    matrices.sort_by_key(|matrix| std::cmp::Reverse(matrix.calls * matrix.d_out * matrix.d_in));
    let mut cells = Vec::new();
    for (format, tokens) in ORDER {
        let op = match tokens {
            1 => TunedOp::LinearOne,
            2..=FEW_TOKENS => TunedOp::LinearFew,
            _ => TunedOp::LinearMat,
        };
        for &matrix in &matrices {
            let variants = device.variants(op, format).into_iter();
            cells.extend(variants.map(|(variant, variant_name)| Cell {
                op,
                format,
                matrix,
                tokens,
                variant,
                variant_name,
            }));
        }
    }
    cells.retain(|cell| selection.contains(cell));
    cells
}

impl Selection {
    fn contains(&self, cell: &Cell) -> bool {
        is_listed(&self.ops, &GridOp::Tuned(cell.op))
            && is_listed(&self.variants, cell.variant_name)
            && is_listed(&self.formats, cell.format.name())
            && is_listed(&self.matrices, cell.matrix.name)
            && is_listed(&self.tokens, &cell.tokens)
    }
}

fn is_listed<T: std::borrow::Borrow<U>, U: PartialEq + ?Sized>(
    list: &Option<Vec<T>>,
    one: &U,
) -> bool {
    let Some(list) = list else { return true };
    list.iter().any(|listed| listed.borrow() == one)
}
