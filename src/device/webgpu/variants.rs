//! Variants of kernels as data: other tiles, numbers of threads and orders of loading. Their results are the same.
//! Which one is the fastest depends on the device, and a trial finds out (`src/session/kernel_trial.rs`). The first one
//! of each list is the default.

use crate::base::checksum::{checksum64, hex};
use crate::base::quant::{BLOCK, WeightFormat};
use crate::device::webgpu::kernel_table::{
    ByFormat, Constant, Kernel, OptionalFeatures, THREADS, constants,
};

/// One way to compute a kernel.
#[derive(Debug)]
pub struct Variant {
    pub name: &'static str,
    /// Rows and tokens of y per workgroup: `ROWS` and `TOKENS` of the shader.
    pub rows: usize,
    pub tokens: usize,
    pub threads: usize,
    /// The most tokens for which the variant is used.
    pub most_tokens: usize,
    /// Additional constants of this variant.
    pub constants: &'static [Constant],
    unpacking: Unpacking,
}

/// How `linear/vec` turns quantised weights into floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unpacking {
    Shift,
    Mask,
    Magic,
    /// The kernel has its own method.
    Own,
}

impl Unpacking {
    fn fragment(self) -> &'static str {
        match self {
            Unpacking::Shift => include_str!("shaders/linear/unpack_shift.wgsl"),
            Unpacking::Mask => include_str!("shaders/linear/unpack_mask.wgsl"),
            Unpacking::Magic => include_str!("shaders/linear/unpack_magic.wgsl"),
            Unpacking::Own => "",
        }
    }
}

/// A kernel in one of its variants: what is compiled and dispatched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    pub kernel: Kernel,
    pub variant: u8,
}

impl From<Kernel> for Form {
    fn from(kernel: Kernel) -> Form {
        Form { kernel, variant: 0 }
    }
}

/// Blocks of columns per step, and whether the next step's weights are loaded before this one is computed.
const STEP: &[Constant] = &constants![STEP_BLOCKS = 1, LOADS_AHEAD = 0];
const STEP_AHEAD: &[Constant] = &constants![STEP_BLOCKS = 1, LOADS_AHEAD = 1];
const LONG_STEP: &[Constant] = &constants![STEP_BLOCKS = 2, LOADS_AHEAD = 0];

const fn mat(
    name: &'static str,
    [rows, tokens]: [usize; 2],
    threads: usize,
    constants: &'static [Constant],
) -> Variant {
    Variant {
        name,
        rows,
        tokens,
        threads,
        most_tokens: usize::MAX,
        constants,
        unpacking: Unpacking::Own,
    }
}

const fn one(name: &'static str, rows: usize, threads: usize, unpacking: Unpacking) -> Variant {
    Variant {
        name,
        rows,
        tokens: 1,
        threads,
        most_tokens: 1,
        constants: &[],
        unpacking,
    }
}

const fn few(name: &'static str, most_tokens: usize) -> Variant {
    Variant {
        name,
        rows: 4,
        tokens: 4,
        threads: THREADS,
        most_tokens,
        constants: &[],
        unpacking: Unpacking::Shift,
    }
}

/// `linear/vec` for a few tokens, four of which share each read of the weights. `linear/mat` reads the weights only
/// once, but few tokens would leave most of its tile empty.
const FEW: &[Variant] = &[few("up to 4 tokens", 4), few("up to 8 tokens", 8)];

/// `linear/vec` for one token. More rows per workgroup read x less often, fewer rows give more workgroups; threads
/// share the columns of a row. Shifts and conversions are slow on some devices.
const ONE: &[Variant] = &[
    one("8 rows", 8, 64, Unpacking::Shift),
    one("8 rows, magic", 8, 64, Unpacking::Magic),
    one("4 rows, magic", 4, 64, Unpacking::Magic),
    one("16 rows, magic", 16, 64, Unpacking::Magic),
    one("8 rows, mask", 8, 64, Unpacking::Mask),
    one("8 rows, 128 threads, magic", 8, 128, Unpacking::Magic),
    one("8 rows, 32 threads, magic", 8, 32, Unpacking::Magic),
    one("4 rows", 4, 64, Unpacking::Shift),
];

/// `linear/mat`. Each thread computes 8 × 4 results. A larger tile reads fewer bytes per result; a smaller one leaves
/// fewer cores idle. A longer step reads whole memory transactions of a row at once.
const MAT: &[Variant] = &[
    mat("64x32", [64, 32], 64, STEP),
    mat("64x64", [64, 64], 128, STEP),
    mat("128x64", [128, 64], 256, STEP),
    mat("64x64, loads ahead", [64, 64], 128, STEP_AHEAD),
    mat("128x64, loads ahead", [128, 64], 256, STEP_AHEAD),
    mat("64x32, long step", [64, 32], 64, LONG_STEP),
];

/// The variant of each kernel that a device uses: the first one of its list unless another was chosen.
pub struct ChosenVariants([u8; Kernel::ALL.len()]);

impl Default for ChosenVariants {
    fn default() -> ChosenVariants {
        ChosenVariants([0; Kernel::ALL.len()])
    }
}

impl ChosenVariants {
    pub fn form(&self, kernel: Kernel) -> Form {
        Form {
            kernel,
            variant: self.0[kernel as usize],
        }
    }

    pub fn choose(&mut self, form: Form) {
        self.0[form.kernel as usize] = form.variant;
    }
}

/// An op that has kernels in several variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TunedOp {
    /// A linear layer for one token.
    LinearOne,
    /// A linear layer for a few tokens.
    LinearFew,
    /// A linear layer for many tokens.
    LinearMat,
}

impl TunedOp {
    pub const ALL: [TunedOp; 3] = [TunedOp::LinearOne, TunedOp::LinearFew, TunedOp::LinearMat];

    pub fn name(self) -> &'static str {
        match self {
            TunedOp::LinearOne => "linear_one",
            TunedOp::LinearFew => "linear_few",
            TunedOp::LinearMat => "linear_mat",
        }
    }

    /// The op itself and the ops that are fused with it: all use the same variant.
    const fn kernels(self) -> &'static [ByFormat] {
        match self {
            TunedOp::LinearOne => &[
                ByFormat::LINEAR_ONE,
                ByFormat::IN_PROJ_ONE,
                ByFormat::NORM_CONCAT_ONE,
                ByFormat::NORM_ONE,
                ByFormat::NORM_PAIR_ONE,
                ByFormat::NORM_TWO_ONE,
            ],
            TunedOp::LinearFew => &[ByFormat::LINEAR_FEW],
            TunedOp::LinearMat => &[ByFormat::LINEAR_MAT],
        }
    }

    pub fn variants(self) -> &'static [Variant] {
        match self {
            TunedOp::LinearOne => ONE,
            TunedOp::LinearFew => FEW,
            TunedOp::LinearMat => MAT,
        }
    }

    /// The kernels of the op and of those fused with it, in one variant.
    pub fn forms(self, format: WeightFormat, variant: u8) -> impl Iterator<Item = Form> {
        let kernels = self.kernels().iter();
        kernels.map(move |set| Form {
            kernel: set.kernel(format),
            variant,
        })
    }
}

impl Kernel {
    /// This kernel in each variant for its format; unchanged if it has none.
    pub fn forms(self) -> impl Iterator<Item = Form> {
        let n = self.variants().len().max(1) as u8;
        let forms = (0..n).map(move |variant| Form {
            kernel: self,
            variant,
        });
        forms.filter(|form| form.is_available(OptionalFeatures::default(), usize::MAX))
    }

    /// All variants; none if there is only one.
    pub fn variants(self) -> &'static [Variant] {
        let has = |op: &TunedOp| op.kernels().iter().any(|set| set.contains(self));
        let op = TunedOp::ALL.into_iter().find(has);
        op.map_or(&[], TunedOp::variants)
    }
}

/// Changes whenever a kernel with variants changes: measurements of another version are then invalid.
pub fn shader_version() -> String {
    let mut text = String::new();
    for kernel in Kernel::ALL {
        for form in kernel.forms() {
            text += &form.text(OptionalFeatures::default());
        }
    }
    hex(checksum64(text.as_bytes()))
}

impl Form {
    /// `None` if the kernel has no variants.
    pub fn variant(self) -> Option<&'static Variant> {
        self.kernel.variants().get(usize::from(self.variant))
    }

    /// For kernels with variants.
    pub fn shape(self) -> &'static Variant {
        self.variant().expect("the kernel has variants")
    }

    /// Whether a device with these features and this much workgroup memory can compute it.
    pub fn is_available(self, features: OptionalFeatures, max_workgroup_bytes: usize) -> bool {
        let unpacking = self.variant().map(|variant| variant.unpacking);
        let is_of_quants = matches!(unpacking, Some(Unpacking::Mask | Unpacking::Magic));
        let has_quants = self.kernel.weights() != Some(WeightFormat::F32);
        (has_quants || !is_of_quants) && self.tile_bytes(features) <= max_workgroup_bytes
    }

    /// The shader text that differs between variants.
    pub fn fragment(self) -> &'static str {
        self.variant()
            .map_or("", |variant| variant.unpacking.fragment())
    }

    /// The constants that the kernel's entry in the table lacks.
    pub fn constants(self) -> Vec<Constant> {
        let Some(variant) = self.variant() else {
            return Vec::new();
        };
        let shape = [
            ("ROWS", variant.rows),
            ("TOKENS", variant.tokens),
            ("THREADS", variant.threads),
        ];
        [&shape, variant.constants].concat()
    }

    /// Bytes of workgroup memory for the tiles of `linear/mat`; 0 for other kernels, which fit every device.
    pub fn tile_bytes(self, features: OptionalFeatures) -> usize {
        let constants = self.constants();
        let step_blocks = constants.iter().find(|(name, _)| *name == "STEP_BLOCKS");
        let (Some(variant), Some((_, step_blocks))) = (self.variant(), step_blocks) else {
            return 0;
        };
        let stride = step_blocks * BLOCK / 4 + 1;
        let is_half = features.f16 && self.kernel.weights() != Some(WeightFormat::F32);
        let weight_bytes = if is_half { 8 } else { 16 };
        stride * (variant.rows * weight_bytes + variant.tokens * 16)
            + 4 * variant.rows * step_blocks
    }
}
