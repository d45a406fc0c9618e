//! The table of kernels: which text each is made of and what it binds. It stands inside the WebGPU backend. A kernel is
//! compiled when it is first used, once for a device, in the form that the device's features allow.

/// What a kernel does to a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}
use Access::{Read, Write};

/// A compute shader. Bindings follow the uniform block, which has number 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    Add,
    AppendKvF32,
    AppendKvI8,
    AttentionF32,
    AttentionI8,
    AttentionMerge,
    Concat,
    Conv1d,
    Conv1dRows,
    Conv1dState,
    Copy,
    EmbedF32,
    EmbedQ8,
    EmbedQ4,
    GatedRmsNorm,
    GeluMul,
    LinearFewF32,
    LinearFewQ8,
    LinearFewQ4,
    LinearMatF32,
    LinearMatQ8,
    LinearMatQ4,
    LinearOneF32,
    LinearOneQ8,
    LinearOneQ4,
    LinearShortF32,
    LinearShortQ8,
    LinearShortQ4,
    PeakF32,
    PeakRead,
    RmsNorm,
    Rope,
    SsmCb,
    SsmDecays,
    SsmOutputs,
    SsmScan,
    SsmState,
    TopGroups,
    TopMerge,
}

/// What a device has beyond the floor that every WebGPU device stands on. A kernel gives the same without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Variants {
    /// Sums over a workgroup go by subgroups first.
    pub subgroups: bool,
    /// Quants pass a workgroup's memory in half the bytes.
    pub f16: bool,
}

/// Naga, which reads the shaders natively, has subgroups and does not know the line that asks a browser for them.
#[cfg(not(target_arch = "wasm32"))]
const ENABLE_SUBGROUPS: &str = "";
#[cfg(target_arch = "wasm32")]
const ENABLE_SUBGROUPS: &str = "enable subgroups;\n";

/// What of a kernel's text depends on the device.
enum Form {
    Only,
    Sum,
    Tile,
    TileF32,
}

/// The files of `shaders/` that make one text, in their order.
macro_rules! text {
    ($($file:literal)+) => {
        concat!($(include_str!(concat!("shaders/", $file, ".wgsl"))),+)
    };
}

impl Kernel {
    pub const ALL: [Kernel; 39] = [
        Kernel::Add,
        Kernel::AppendKvF32,
        Kernel::AppendKvI8,
        Kernel::AttentionF32,
        Kernel::AttentionI8,
        Kernel::AttentionMerge,
        Kernel::Concat,
        Kernel::Conv1d,
        Kernel::Conv1dRows,
        Kernel::Conv1dState,
        Kernel::Copy,
        Kernel::EmbedF32,
        Kernel::EmbedQ8,
        Kernel::EmbedQ4,
        Kernel::GatedRmsNorm,
        Kernel::GeluMul,
        Kernel::LinearFewF32,
        Kernel::LinearFewQ8,
        Kernel::LinearFewQ4,
        Kernel::LinearMatF32,
        Kernel::LinearMatQ8,
        Kernel::LinearMatQ4,
        Kernel::LinearOneF32,
        Kernel::LinearOneQ8,
        Kernel::LinearOneQ4,
        Kernel::LinearShortF32,
        Kernel::LinearShortQ8,
        Kernel::LinearShortQ4,
        Kernel::PeakF32,
        Kernel::PeakRead,
        Kernel::RmsNorm,
        Kernel::Rope,
        Kernel::SsmCb,
        Kernel::SsmDecays,
        Kernel::SsmOutputs,
        Kernel::SsmScan,
        Kernel::SsmState,
        Kernel::TopGroups,
        Kernel::TopMerge,
    ];

    /// The shader's text for a device.
    pub fn text(self, variants: Variants) -> String {
        let (extension, form) = match self.form() {
            Form::Only => ("", ""),
            Form::Sum if variants.subgroups => (ENABLE_SUBGROUPS, text!("shared/sum_subgroups")),
            Form::Sum => ("", text!("shared/sum_tree")),
            Form::Tile if variants.f16 => ("enable f16;\n", text!("shared/tile_f16")),
            Form::Tile | Form::TileF32 => ("", text!("shared/tile_f32")),
        };
        [extension, form, self.own_text()].concat()
    }

    fn form(self) -> Form {
        match self {
            Kernel::LinearFewF32
            | Kernel::LinearFewQ8
            | Kernel::LinearFewQ4
            | Kernel::LinearOneF32
            | Kernel::LinearOneQ8
            | Kernel::LinearOneQ4
            | Kernel::GatedRmsNorm
            | Kernel::RmsNorm => Form::Sum,
            Kernel::LinearMatQ8 | Kernel::LinearMatQ4 => Form::Tile,
            // Weights in f32 are no small whole numbers.
            Kernel::LinearMatF32 => Form::TileF32,
            _ => Form::Only,
        }
    }

    /// What all forms of the shader have in common.
    fn own_text(self) -> &'static str {
        match self {
            Kernel::Add => text!("elementwise/add"),
            Kernel::AppendKvF32 => text!("shared/kv_f32" "shared/append_kv" "attention/append_kv_f32"),
            Kernel::AppendKvI8 => text!("shared/kv_i8" "shared/append_kv" "attention/append_kv_i8"),
            Kernel::AttentionF32 => text!("shared/activations" "shared/kv_f32" "attention/attention"),
            Kernel::AttentionI8 => text!("shared/activations" "shared/kv_i8" "attention/attention"),
            Kernel::AttentionMerge => text!("shared/activations" "attention/merge"),
            Kernel::Concat => text!("elementwise/concat"),
            Kernel::Conv1d => text!("shared/activations" "shared/conv1d" "conv1d/conv1d"),
            Kernel::Conv1dRows => text!("shared/activations" "shared/conv1d" "conv1d/rows"),
            Kernel::Conv1dState => text!("shared/activations" "shared/conv1d" "conv1d/state"),
            Kernel::Copy => text!("elementwise/copy"),
            Kernel::EmbedF32 => text!("shared/weights_f32" "shared/eight" "embed/embed"),
            Kernel::EmbedQ8 => text!("shared/weights_q8" "shared/scales" "shared/eight" "embed/embed"),
            Kernel::EmbedQ4 => text!("shared/weights_q4" "shared/scales" "shared/eight" "embed/embed"),
            Kernel::GatedRmsNorm => text!("shared/activations" "norm/gated_rms_norm"),
            Kernel::GeluMul => text!("shared/activations" "elementwise/gelu_mul"),
            Kernel::LinearFewF32 => text!("shared/weights_f32" "shared/linear" "shared/linear_few" "linear/vec"),
            Kernel::LinearFewQ8 => {
                text!("shared/weights_q8" "shared/scales" "shared/linear" "shared/linear_few" "linear/vec")
            }
            Kernel::LinearFewQ4 => {
                text!("shared/weights_q4" "shared/scales" "shared/linear" "shared/linear_few" "linear/vec")
            }
            Kernel::LinearMatF32 => text!("shared/weights_f32" "shared/linear" "linear/mat"),
            Kernel::LinearMatQ8 => text!("shared/weights_q8" "shared/scales" "shared/linear" "linear/mat"),
            Kernel::LinearMatQ4 => text!("shared/weights_q4" "shared/scales" "shared/linear" "linear/mat"),
            Kernel::LinearOneF32 => text!("shared/weights_f32" "shared/linear" "shared/linear_one" "linear/vec"),
            Kernel::LinearOneQ8 => {
                text!("shared/weights_q8" "shared/scales" "shared/linear" "shared/linear_one" "linear/vec")
            }
            Kernel::LinearOneQ4 => {
                text!("shared/weights_q4" "shared/scales" "shared/linear" "shared/linear_one" "linear/vec")
            }
            Kernel::LinearShortF32 => text!("shared/weights_f32" "shared/linear" "linear/short"),
            Kernel::LinearShortQ8 => text!("shared/weights_q8" "shared/scales" "shared/linear" "linear/short"),
            Kernel::LinearShortQ4 => text!("shared/weights_q4" "shared/scales" "shared/linear" "linear/short"),
            Kernel::PeakF32 => text!("ceilings/peak_f32"),
            Kernel::PeakRead => text!("ceilings/peak_read"),
            Kernel::RmsNorm => text!("norm/rms_norm"),
            Kernel::Rope => text!("elementwise/rope"),
            Kernel::SsmCb => text!("shared/activations" "shared/ssm" "ssm/cb" "shared/tiled_product"),
            Kernel::SsmDecays => text!("shared/activations" "shared/ssm" "ssm/decay"),
            Kernel::SsmOutputs => text!("shared/activations" "shared/ssm" "ssm/outputs" "shared/tiled_product"),
            Kernel::SsmScan => text!("shared/activations" "shared/ssm" "ssm/scan"),
            Kernel::SsmState => text!("shared/activations" "shared/ssm" "ssm/state" "shared/tiled_product"),
            Kernel::TopGroups => text!("shared/top_sort" "top/groups"),
            Kernel::TopMerge => text!("shared/top_sort" "top/merge"),
        }
    }

    pub fn bindings(self) -> &'static [Access] {
        match self {
            Kernel::Add => &[Read, Read, Write],
            Kernel::AppendKvF32 | Kernel::AppendKvI8 => &[Read, Read, Write, Write, Write],
            Kernel::AttentionF32 | Kernel::AttentionI8 => &[Read, Read, Read, Read, Write, Write],
            Kernel::AttentionMerge => &[Read, Write],
            Kernel::Concat => &[Read, Read, Write],
            Kernel::Conv1d | Kernel::Conv1dRows | Kernel::Conv1dState => {
                &[Read, Read, Read, Write, Write]
            }
            Kernel::Copy => &[Read, Write],
            Kernel::EmbedF32 | Kernel::EmbedQ8 | Kernel::EmbedQ4 => &[Read, Read, Read, Write],
            Kernel::GatedRmsNorm => &[Read, Read, Read, Write],
            Kernel::GeluMul => &[Read, Write],
            Kernel::LinearFewF32
            | Kernel::LinearFewQ8
            | Kernel::LinearFewQ4
            | Kernel::LinearMatF32
            | Kernel::LinearMatQ8
            | Kernel::LinearMatQ4
            | Kernel::LinearOneF32
            | Kernel::LinearOneQ8
            | Kernel::LinearOneQ4
            | Kernel::LinearShortF32
            | Kernel::LinearShortQ8
            | Kernel::LinearShortQ4 => &[Read, Read, Read, Read, Write],
            Kernel::PeakF32 => &[Write],
            Kernel::PeakRead => &[Read, Write],
            Kernel::RmsNorm => &[Read, Read, Write],
            Kernel::Rope => &[Read, Write],
            Kernel::SsmCb => &[Read, Write],
            Kernel::SsmDecays => &[Read, Read, Read, Write],
            Kernel::SsmOutputs => &[Read, Read, Read, Read, Read, Write],
            Kernel::SsmScan => &[Read, Read, Read, Read, Read, Write, Write],
            Kernel::SsmState => &[Read, Read, Write],
            Kernel::TopGroups | Kernel::TopMerge => &[Read, Write],
        }
    }
}
