//! The table of kernels: which text each is made of and what it binds. It stands inside the WebGPU backend. A kernel is
//! compiled when it is first used, once for a device.

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
    Attention,
    Conv1d,
    Copy,
    EmbedF32,
    EmbedQ8,
    EmbedQ4,
    GatedRmsNorm,
    GeluMul,
    LinearMatF32,
    LinearMatQ8,
    LinearMatQ4,
    LinearVecF32,
    LinearVecQ8,
    LinearVecQ4,
    RmsNorm,
    Rope,
    SsmScan,
    SsmSteps,
    TopGroups,
    TopMerge,
}

/// The files of `shaders/` that make one text, in their order.
macro_rules! text {
    ($($file:literal)+) => {
        concat!($(include_str!(concat!("shaders/", $file, ".wgsl"))),+)
    };
}

impl Kernel {
    pub const ALL: [Kernel; 21] = [
        Kernel::Add,
        Kernel::Attention,
        Kernel::Conv1d,
        Kernel::Copy,
        Kernel::EmbedF32,
        Kernel::EmbedQ8,
        Kernel::EmbedQ4,
        Kernel::GatedRmsNorm,
        Kernel::GeluMul,
        Kernel::LinearMatF32,
        Kernel::LinearMatQ8,
        Kernel::LinearMatQ4,
        Kernel::LinearVecF32,
        Kernel::LinearVecQ8,
        Kernel::LinearVecQ4,
        Kernel::RmsNorm,
        Kernel::Rope,
        Kernel::SsmScan,
        Kernel::SsmSteps,
        Kernel::TopGroups,
        Kernel::TopMerge,
    ];

    /// The shader's text.
    pub fn source(self) -> &'static str {
        match self {
            Kernel::Add => text!("add"),
            Kernel::Attention => text!("activations" "attention"),
            Kernel::Conv1d => text!("activations" "conv1d"),
            Kernel::Copy => text!("copy"),
            Kernel::EmbedF32 => text!("weights_f32" "embed"),
            Kernel::EmbedQ8 => text!("weights_q8" "scales" "embed"),
            Kernel::EmbedQ4 => text!("weights_q4" "scales" "embed"),
            Kernel::GatedRmsNorm => text!("activations" "gated_rms_norm"),
            Kernel::GeluMul => text!("activations" "gelu_mul"),
            Kernel::LinearMatF32 => text!("weights_f32" "linear_x" "linear_mat"),
            Kernel::LinearMatQ8 => text!("weights_q8" "scales" "linear_x" "linear_mat"),
            Kernel::LinearMatQ4 => text!("weights_q4" "scales" "linear_x" "linear_mat"),
            Kernel::LinearVecF32 => text!("weights_f32" "linear_x" "linear_vec"),
            Kernel::LinearVecQ8 => text!("weights_q8" "scales" "linear_x" "linear_vec"),
            Kernel::LinearVecQ4 => text!("weights_q4" "scales" "linear_x" "linear_vec"),
            Kernel::RmsNorm => text!("rms_norm"),
            Kernel::Rope => text!("rope"),
            Kernel::SsmScan => text!("ssm_scan"),
            Kernel::SsmSteps => text!("activations" "ssm_steps"),
            Kernel::TopGroups => text!("top_sort" "top_groups"),
            Kernel::TopMerge => text!("top_sort" "top_merge"),
        }
    }

    pub fn bindings(self) -> &'static [Access] {
        match self {
            Kernel::Add => &[Read, Read, Write],
            Kernel::Attention => &[Read, Read, Read, Write],
            Kernel::Conv1d => &[Read, Read, Read, Write, Write],
            Kernel::Copy => &[Read, Write],
            Kernel::EmbedF32 | Kernel::EmbedQ8 | Kernel::EmbedQ4 => &[Read, Read, Read, Write],
            Kernel::GatedRmsNorm => &[Read, Read, Read, Write],
            Kernel::GeluMul => &[Read, Write],
            Kernel::LinearMatF32
            | Kernel::LinearMatQ8
            | Kernel::LinearMatQ4
            | Kernel::LinearVecF32
            | Kernel::LinearVecQ8
            | Kernel::LinearVecQ4 => &[Read, Read, Read, Read, Write],
            Kernel::RmsNorm => &[Read, Read, Write],
            Kernel::Rope => &[Read, Write],
            Kernel::SsmScan => &[Read, Read, Read, Read, Read, Write, Write],
            Kernel::SsmSteps => &[Read, Read, Read, Write],
            Kernel::TopGroups | Kernel::TopMerge => &[Read, Write],
        }
    }
}
