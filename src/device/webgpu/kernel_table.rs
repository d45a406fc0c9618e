//! The table of compute shaders, one entry each. A kernel is compiled on first use, once per device, in the form that
//! the device's optional features allow, with the marked loops of its files unrolled.

use crate::base::quant::WeightFormat;
use crate::device::webgpu::attention::{
    ATTENTION, ATTENTION_ONE, AttentionParams, MERGE, MergeParams,
};
use crate::device::webgpu::ceilings::{PEAK_F32, PeakF32Params, PeakMemoryParams};
use crate::device::webgpu::conv1d::Conv1dParams;
use crate::device::webgpu::elementwise::{ConcatParams, CopyParams, RopeParams, WidthParams};
use crate::device::webgpu::embed::{EMBED, EmbedParams};
use crate::device::webgpu::fused::{
    APPEND, AppendStepParams, GELU_STEP, GeluStepParams, InProjParams, NormLinearsParams, ROW_NORM,
    ROW_NORM_TWO,
};
use crate::device::webgpu::kv_cache::AppendKvParams;
use crate::device::webgpu::linear::{LinearParams, MAT, SHORT, VEC};
use crate::device::webgpu::norm::{GatedRmsNormParams, NORM, RmsNormParams};
use crate::device::webgpu::ssm_scan::{DUAL, SCAN_32, SCAN_64, SCAN_128, SCAN_ANY, SsmParams};
use crate::device::webgpu::top::{
    DRAW, DrawParams, PENALTY, PenaliseParams, TOP, TopGroupsParams, TopMergeParams,
};
use crate::device::webgpu::uniforms::Uniforms;
use crate::device::webgpu::unroll::unroll;
use crate::device::webgpu::variants::Form;

/// Threads per workgroup, unless a kernel has its own constant.
pub const THREADS: usize = 64;

/// How a kernel accesses a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    /// Read and write.
    Write,
}
use Access::{Read, Write};

/// Optional WebGPU features, each of which selects another form of some kernels. They do not change results beyond the
/// order of sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OptionalFeatures {
    /// Sums over a workgroup use subgroups.
    pub subgroups: bool,
    /// Weight tiles of quants are f16.
    pub f16: bool,
}

/// A fragment that depends on an optional feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FeatureFragment {
    Nothing,
    /// How a workgroup sums: by subgroups or by a tree.
    Sum,
    /// The element type of a weight tile: f16 or f32.
    Tile,
}

/// A WGSL constant: name and value. Constants shared by a kernel and its host side are defined in Rust only.
pub type Constant = (&'static str, usize);

/// `constants![A, B = 1]`: the constant A, and another named B.
macro_rules! constants {
    (@value $name:ident) => { $name };
    (@value $name:ident = $value:expr) => { $value };
    ($($name:ident $(= $value:expr)?),+) => {
        [$((stringify!($name), constants!(@value $name $(= $value)?))),+]
    };
}
pub(crate) use constants;

/// The parts that a shader is built from.
struct Definition {
    uniforms: fn() -> String,
    /// The storage buffers, bound from 1 on; binding 0 is the uniform block.
    bindings: &'static [Access],
    constants: &'static [Constant],
    fragment: FeatureFragment,
    /// The format of the matrix, if the kernel has one.
    weights: Option<WeightFormat>,
    /// Contents of the shader files; the last one has the entry point.
    files: &'static [&'static str],
}

/// The fragments of a weight format.
fn weight_fragments(format: WeightFormat) -> &'static [&'static str] {
    match format {
        WeightFormat::F32 => &[include_str!("shaders/shared/weights_f32.wgsl")],
        WeightFormat::Q8 => &[
            include_str!("shaders/shared/weights_q8.wgsl"),
            include_str!("shaders/shared/scales.wgsl"),
        ],
        WeightFormat::Q4 => &[
            include_str!("shaders/shared/weights_q4.wgsl"),
            include_str!("shaders/shared/scales.wgsl"),
        ],
    }
}

macro_rules! kernels {
    ({$($kernel:ident: $uniforms:ty, $bindings:expr, $constants:expr, $fragment:ident, [$($file:literal)+];)+}
    by format {$($set:ident = [$f32:ident, $q8:ident, $q4:ident]:
        $of_uniforms:ty, $of_bindings:expr, $of_constants:expr, $of_fragment:ident, [$($of_file:literal)+];)+}) => {
        /// A compute shader.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kernel {
            $($kernel,)+
            $($f32, $q8, $q4,)+
        }

        impl Kernel {
            pub const ALL: &[Kernel] = &[
                $(Kernel::$kernel,)+
                $(Kernel::$f32, Kernel::$q8, Kernel::$q4,)+
            ];

            fn definition(self) -> Definition {
                match self {
                    $(Kernel::$kernel => Definition {
                        uniforms: <$uniforms>::wgsl,
                        bindings: &$bindings,
                        constants: $constants,
                        fragment: FeatureFragment::$fragment,
                        weights: None,
                        files: &[$(include_str!(concat!("shaders/", $file, ".wgsl"))),+],
                    },)+
                    $(Kernel::$f32 | Kernel::$q8 | Kernel::$q4 => Definition {
                        uniforms: <$of_uniforms>::wgsl,
                        bindings: &$of_bindings,
                        constants: $of_constants,
                        fragment: FeatureFragment::$of_fragment,
                        weights: Some(match self {
                            Kernel::$f32 => WeightFormat::F32,
                            Kernel::$q8 => WeightFormat::Q8,
                            _ => WeightFormat::Q4,
                        }),
                        files: &[$(include_str!(concat!("shaders/", $of_file, ".wgsl"))),+],
                    },)+
                }
            }
        }

        /// The kernels of an op, one per weight format, in the order of [`WeightFormat::ALL`].
        #[derive(Clone, Copy)]
        pub struct ByFormat([Kernel; WeightFormat::ALL.len()]);

        impl ByFormat {
            $(pub const $set: ByFormat = ByFormat([Kernel::$f32, Kernel::$q8, Kernel::$q4]);)+
        }
    };
}

// Kernels that share their bindings.
const APPEND_KV: [Access; 5] = [Read, Read, Write, Write, Write];
const APPEND_STEP: [Access; 8] = [Read, Read, Write, Write, Write, Read, Write, Read];
const ATTEND: [Access; 6] = [Read, Read, Read, Read, Write, Write];
const CONCAT: [Access; 8] = [Read, Read, Read, Write, Read, Read, Read, Read];
const CONV1D: [Access; 5] = [Read, Read, Read, Write, Write];
const EMBEDDING: [Access; 5] = [Read, Read, Read, Write, Write];
const GATED_NORM: [Access; 4] = [Read, Read, Read, Write];
const GELU: [Access; 4] = [Read, Read, Read, Write];
const IN_PROJ: [Access; 8] = [Read, Read, Read, Write, Read, Read, Read, Write];
const LINEAR: [Access; 5] = [Read, Read, Read, Write, Read];
const PAIR: [Access; 7] = [Read, Read, Read, Write, Read, Read, Read];
const RECURRENCE: [Access; 7] = [Read, Read, Read, Read, Read, Write, Write];

kernels! {{
    // kernel: uniform block, bindings, constants, fragment by feature, files below `shaders/`
    Add: WidthParams, [Read, Read, Write], &[], Nothing, ["elementwise/add"];
    AppendKvF32: AppendKvParams, APPEND_KV, &[], Nothing,
        ["shared/kv_f32" "shared/append_kv" "shared/append_kv_f32" "attention/append_kv"];
    AppendKvI8: AppendKvParams, APPEND_KV, &[], Nothing,
        ["shared/kv_i8" "shared/append_kv" "shared/append_kv_i8" "attention/append_kv"];
    AttentionF32: AttentionParams, ATTEND, ATTENTION, Nothing,
        ["shared/activations" "shared/kv_f32" "attention/attention"];
    AttentionI8: AttentionParams, ATTEND, ATTENTION, Nothing,
        ["shared/activations" "shared/kv_i8" "attention/attention"];
    AttentionOneF32: AttentionParams, ATTEND, ATTENTION_ONE, Nothing,
        ["shared/activations" "shared/kv_f32" "attention/attention"];
    AttentionOneI8: AttentionParams, ATTEND, ATTENTION_ONE, Nothing,
        ["shared/activations" "shared/kv_i8" "attention/attention"];
    AttentionMerge: MergeParams, [Read, Write], MERGE, Nothing, ["shared/activations" "attention/merge"];
    Concat: ConcatParams, [Read, Read, Write], &[], Nothing, ["elementwise/concat"];
    Conv1d: Conv1dParams, CONV1D, &[], Nothing, ["shared/activations" "shared/conv1d" "conv1d/conv1d"];
    Conv1dRows: Conv1dParams, CONV1D, &[], Nothing, ["shared/activations" "shared/conv1d" "conv1d/rows"];
    Conv1dState: Conv1dParams, CONV1D, &[], Nothing, ["shared/activations" "shared/conv1d" "conv1d/state"];
    Copy: CopyParams, [Read, Write], &[], Nothing, ["elementwise/copy"];
    GatedRmsNorm: GatedRmsNormParams, GATED_NORM, NORM, Sum, ["shared/activations" "norm/gated_rms_norm"];
    GatedRmsNormAny: GatedRmsNormParams, GATED_NORM, NORM, Sum, ["shared/activations" "norm/gated_rms_norm_any"];
    GeluMul: WidthParams, [Read, Write], &[], Nothing, ["shared/activations" "elementwise/gelu_mul"];
    PeakCopy: PeakMemoryParams, [Read, Write], &[], Nothing, ["ceilings/peak_copy"];
    Penalise: PenaliseParams, [Read, Read, Write, Write], PENALTY, Nothing, ["top/penalise"];
    PeakF32: PeakF32Params, [Write], PEAK_F32, Nothing, ["ceilings/peak_f32"];
    PeakRead: PeakMemoryParams, [Read, Write], &[], Nothing, ["ceilings/peak_read"];
    RmsNorm: RmsNormParams, [Read, Read, Write], NORM, Sum, ["norm/rms_norm"];
    RmsNormAny: RmsNormParams, [Read, Read, Write], NORM, Sum, ["norm/rms_norm_any"];
    Rope: RopeParams, [Read, Write, Write], &[], Nothing, ["elementwise/rope"];
    SsmCb: SsmParams, [Read, Write], DUAL, Nothing,
        ["shared/activations" "shared/ssm" "shared/tiled_product" "ssm_scan/cb"];
    SsmDecay: SsmParams, [Read, Read, Read, Write], DUAL, Nothing, ["shared/activations" "shared/ssm" "ssm_scan/decay"];
    SsmOutputs: SsmParams, [Read, Read, Read, Read, Read, Write], DUAL, Nothing,
        ["shared/activations" "shared/ssm" "shared/tiled_product" "ssm_scan/outputs"];
    SsmScan32: SsmParams, RECURRENCE, SCAN_32, Nothing,
        ["shared/activations" "shared/ssm" "shared/ssm_output" "ssm_scan/scan"];
    SsmScan64: SsmParams, RECURRENCE, SCAN_64, Nothing,
        ["shared/activations" "shared/ssm" "shared/ssm_output" "ssm_scan/scan"];
    SsmScan128: SsmParams, RECURRENCE, SCAN_128, Nothing,
        ["shared/activations" "shared/ssm" "shared/ssm_output" "ssm_scan/scan"];
    SsmScanAny: SsmParams, RECURRENCE, SCAN_ANY, Nothing,
        ["shared/activations" "shared/ssm" "shared/ssm_output" "ssm_scan/scan_any"];
    SsmState: SsmParams, [Read, Read, Write], DUAL, Nothing,
        ["shared/activations" "shared/ssm" "shared/tiled_product" "ssm_scan/state"];
    TopDraw: DrawParams, [Write], DRAW, Nothing, ["top/draw"];
    TopGroups: TopGroupsParams, [Read, Write], TOP, Nothing, ["shared/top_keys" "shared/top_sort" "top/groups"];
    TopGroupsOne: TopGroupsParams, [Read, Write], TOP, Nothing, ["shared/top_keys" "shared/top_best" "top/groups"];
    TopMerge: TopMergeParams, [Read, Write], TOP, Nothing, ["shared/top_keys" "shared/top_sort" "top/merge"];
    TopMergeOne: TopMergeParams, [Read, Write], TOP, Nothing, ["shared/top_keys" "shared/top_best" "top/merge"];
} by format {
    APPEND_STEP_F32 = [AppendStepF32F32, AppendStepF32Q8, AppendStepF32Q4]:
        AppendStepParams, APPEND_STEP, APPEND, Nothing,
        ["shared/matrix" "shared/linear" "linear/adapter" "shared/kv_f32" "shared/append_kv" "shared/append_kv_f32"
            "attention/append_step"];
    APPEND_STEP_I8 = [AppendStepI8F32, AppendStepI8Q8, AppendStepI8Q4]:
        AppendStepParams, APPEND_STEP, APPEND, Nothing,
        ["shared/matrix" "shared/linear" "linear/adapter" "shared/kv_i8" "shared/append_kv" "shared/append_kv_i8"
            "attention/append_step"];
    EMBED = [EmbedF32, EmbedQ8, EmbedQ4]: EmbedParams, EMBEDDING, EMBED, Nothing, ["shared/matrix" "embed/embed"];
    GELU_STEP = [GeluStepF32, GeluStepQ8, GeluStepQ4]: GeluStepParams, GELU, GELU_STEP, Nothing,
        ["shared/activations" "shared/matrix" "shared/linear" "linear/adapter" "elementwise/gelu_step"];
    IN_PROJ_ONE = [InProjOneF32, InProjOneQ8, InProjOneQ4]: InProjParams, IN_PROJ, ROW_NORM, Sum,
        ["shared/activations" "shared/matrix" "shared/linear" "linear/x_row" "linear/input_normed"
            "linear/finish_conv1d" "linear/vec"];
    IN_PROJ_SHORT = [InProjShortF32, InProjShortQ8, InProjShortQ4]: InProjParams, IN_PROJ, ROW_NORM, Nothing,
        ["shared/activations" "shared/matrix" "shared/linear" "linear/x_row" "linear/input_normed"
            "linear/finish_conv1d" "linear/short"];
    LINEAR_FEW = [LinearFewF32, LinearFewQ8, LinearFewQ4]: LinearParams, LINEAR, VEC, Sum,
        ["shared/matrix" "shared/linear" "linear/input" "linear/finish" "linear/vec"];
    LINEAR_MAT = [LinearMatF32, LinearMatQ8, LinearMatQ4]: LinearParams, LINEAR, MAT, Tile,
        ["shared/matrix" "shared/linear" "linear/input" "linear/finish" "linear/mat"];
    LINEAR_ONE = [LinearOneF32, LinearOneQ8, LinearOneQ4]: LinearParams, LINEAR, VEC, Sum,
        ["shared/matrix" "shared/linear" "linear/input" "linear/finish" "linear/vec"];
    LINEAR_SHORT = [LinearShortF32, LinearShortQ8, LinearShortQ4]: LinearParams, LINEAR, SHORT, Nothing,
        ["shared/matrix" "shared/linear" "linear/input" "linear/finish" "linear/short"];
    NORM_CONCAT_ONE = [NormConcatOneF32, NormConcatOneQ8, NormConcatOneQ4]: NormLinearsParams, CONCAT, ROW_NORM, Sum,
        ["shared/two_matrices" "shared/linear" "linear/x_concat" "linear/input_normed" "linear/finish_row"
            "linear/vec"];
    NORM_CONCAT_SHORT = [NormConcatShortF32, NormConcatShortQ8, NormConcatShortQ4]:
        NormLinearsParams, CONCAT, ROW_NORM, Nothing,
        ["shared/two_matrices" "shared/linear" "linear/x_concat" "linear/input_normed" "linear/finish_row"
            "linear/short"];
    NORM_ONE = [NormOneF32, NormOneQ8, NormOneQ4]: NormLinearsParams, LINEAR, ROW_NORM, Sum,
        ["shared/matrix" "shared/linear" "linear/x_row" "linear/input_normed" "linear/finish_row" "linear/vec"];
    NORM_PAIR_ONE = [NormPairOneF32, NormPairOneQ8, NormPairOneQ4]: NormLinearsParams, PAIR, ROW_NORM, Sum,
        ["shared/two_matrices" "shared/linear" "linear/x_row" "linear/input_normed" "linear/finish_row" "linear/vec"];
    NORM_PAIR_SHORT = [NormPairShortF32, NormPairShortQ8, NormPairShortQ4]:
        NormLinearsParams, PAIR, ROW_NORM, Nothing,
        ["shared/two_matrices" "shared/linear" "linear/x_row" "linear/input_normed" "linear/finish_row"
            "linear/short"];
    NORM_SHORT = [NormShortF32, NormShortQ8, NormShortQ4]: NormLinearsParams, LINEAR, ROW_NORM, Nothing,
        ["shared/matrix" "shared/linear" "linear/x_row" "linear/input_normed" "linear/finish_row" "linear/short"];
    NORM_TWO_ONE = [NormTwoOneF32, NormTwoOneQ8, NormTwoOneQ4]: NormLinearsParams, LINEAR, ROW_NORM_TWO, Sum,
        ["shared/matrix" "shared/linear" "linear/x_row" "linear/input_normed" "linear/finish_row" "linear/vec"];
    NORM_TWO_SHORT = [NormTwoShortF32, NormTwoShortQ8, NormTwoShortQ4]:
        NormLinearsParams, LINEAR, ROW_NORM_TWO, Nothing,
        ["shared/matrix" "shared/linear" "linear/x_row" "linear/input_normed" "linear/finish_row" "linear/short"];
}}

/// Browsers need the directive for subgroups; naga, which compiles shaders natively, rejects it.
#[cfg(not(target_arch = "wasm32"))]
const ENABLE_SUBGROUPS: &str = "";
#[cfg(target_arch = "wasm32")]
const ENABLE_SUBGROUPS: &str = "enable subgroups;\n";

impl FeatureFragment {
    /// The directive that must open the shader, and the fragment.
    fn text(self, features: OptionalFeatures) -> (&'static str, &'static str) {
        match self {
            FeatureFragment::Nothing => ("", ""),
            FeatureFragment::Sum if features.subgroups => (
                ENABLE_SUBGROUPS,
                include_str!("shaders/shared/sum_subgroups.wgsl"),
            ),
            FeatureFragment::Sum => ("", include_str!("shaders/shared/sum_tree.wgsl")),
            FeatureFragment::Tile if features.f16 => (
                "enable f16;\n",
                include_str!("shaders/shared/tile_f16.wgsl"),
            ),
            FeatureFragment::Tile => ("", include_str!("shaders/shared/tile_f32.wgsl")),
        }
    }
}

impl Kernel {
    /// The storage buffers, in order.
    pub fn bindings(self) -> &'static [Access] {
        self.definition().bindings
    }

    /// The format of the matrix, if the kernel has one.
    pub fn weights(self) -> Option<WeightFormat> {
        self.definition().weights
    }
}

impl Form {
    /// Like [`Form::source`], for tests: kernels that use a feature in `wrong` compute wrong results, and so does any
    /// linear layer if `is_wrong`.
    pub fn source_with_faults(
        self,
        features: OptionalFeatures,
        wrong: OptionalFeatures,
        is_wrong: bool,
    ) -> String {
        let mut source = self.source(features);
        if is_wrong {
            source = source.replace("fma(a.w,", "fma(2.0 * a.w,");
        }
        if wrong.subgroups {
            source = source.replace("subgroupAdd(own[", "(own[");
        }
        if wrong.f16 && source.contains("enable f16;") {
            source = source.replace("TileFour(four(", "TileFour(2.0 * four(");
        }
        source
    }

    /// The shader for a device.
    pub fn source(self, features: OptionalFeatures) -> String {
        unroll(&self.text(features))
    }

    /// The shader before its marked loops are unrolled.
    pub fn text(self, features: OptionalFeatures) -> String {
        let Definition {
            uniforms,
            constants,
            fragment,
            weights,
            files,
            ..
        } = self.kernel.definition();
        let (directive, fragment) = fragment.text(OptionalFeatures {
            // Only for quants: they are small integers, which f16 represents exactly.
            f16: features.f16 && weights != Some(WeightFormat::F32),
            ..features
        });
        let weights = weights.map_or(String::new(), |format| weight_fragments(format).concat());
        let mut constants = [constants, &self.constants()].concat();
        if !constants.iter().any(|(name, _)| *name == "THREADS") {
            constants.push(("THREADS", THREADS));
        }
        let constants: String = constants
            .iter()
            .map(|(name, value)| format!("const {name}: u32 = {value};\n"))
            .collect();
        let params = uniforms() + "@group(0) @binding(0) var<uniform> params: Params;\n";
        [
            directive,
            &constants,
            &params,
            fragment,
            &weights,
            self.fragment(),
            &files.concat(),
        ]
        .concat()
    }
}

impl ByFormat {
    pub fn kernel(self, format: WeightFormat) -> Kernel {
        let at = WeightFormat::ALL.iter().position(|one| *one == format);
        self.0[at.expect("all formats are listed")]
    }

    pub fn contains(self, kernel: Kernel) -> bool {
        self.0.contains(&kernel)
    }
}

/// Workgroups of a kernel with one thread per element of a `[rows, width]` tensor.
pub fn per_number(width: usize, rows: usize) -> [usize; 3] {
    [width.div_ceil(THREADS), rows, 1]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use wgpu::naga::valid::{Capabilities, ValidationFlags, Validator};
    use wgpu::naga::{AddressSpace, StorageAccess, TypeInner};

    use super::*;

    const ALL_FEATURES: [OptionalFeatures; 3] = [
        OptionalFeatures {
            subgroups: false,
            f16: false,
        },
        OptionalFeatures {
            subgroups: true,
            f16: false,
        },
        OptionalFeatures {
            subgroups: false,
            f16: true,
        },
    ];

    /// Every kernel in every variant.
    fn forms() -> impl Iterator<Item = Form> {
        Kernel::ALL.iter().flat_map(|kernel| kernel.forms())
    }

    #[test]
    fn every_kernel_is_valid_wgsl_and_binds_what_the_table_says() {
        for form in forms() {
            let kernel = form.kernel;
            for features in ALL_FEATURES {
                let source = form.source(features);
                let module = wgpu::naga::front::wgsl::parse_str(&source).unwrap_or_else(|error| {
                    panic!("{kernel:?}: {}", error.emit_to_string(&source))
                });
                let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
                validator.validate(&module).unwrap_or_else(|error| {
                    panic!("{kernel:?}: {}", error.emit_to_string(&source))
                });
                let mut bindings: Vec<_> = (module.global_variables.iter())
                    .filter_map(|(_, variable)| {
                        let AddressSpace::Storage { access } = variable.space else {
                            return None;
                        };
                        let written = access.contains(StorageAccess::STORE);
                        let binding = variable.binding.as_ref().unwrap().binding;
                        Some((binding, if written { Write } else { Read }))
                    })
                    .collect();
                bindings.sort_by_key(|(binding, _)| *binding);
                let expected: Vec<_> = (1..).zip(kernel.bindings().iter().copied()).collect();
                assert_eq!(bindings, expected, "{kernel:?}");
            }
        }
    }

    /// A compiler that cannot resolve an index keeps the array in memory instead of registers (`unroll.rs`).
    #[test]
    fn arrays_of_a_function_are_indexed_by_constants_only() {
        let (mut n_functions, mut faults) = (0, BTreeSet::new());
        for form in forms() {
            for features in ALL_FEATURES {
                let module = wgpu::naga::front::wgsl::parse_str(&form.source(features)).unwrap();
                let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
                let info = validator.validate(&module).unwrap();
                let functions = (module.functions.iter()).map(|(at, found)| (found, &info[at]));
                let entry_points = (module.entry_points.iter().enumerate())
                    .map(|(at, found)| (&found.function, info.get_entry_point(at)));
                for (function, info) in functions.chain(entry_points) {
                    for (_, expression) in function.expressions.iter() {
                        // A constant index is `AccessIndex`.
                        let wgpu::naga::Expression::Access { base, .. } = *expression else {
                            continue;
                        };
                        let inner = info[base].ty.inner_with(&module.types);
                        let is_of_function = match inner {
                            TypeInner::Pointer { space, .. }
                            | TypeInner::ValuePointer { space, .. } => {
                                *space == AddressSpace::Function
                            }
                            // A vector that is a value needs no memory.
                            inner => matches!(inner, TypeInner::Array { .. }),
                        };
                        if is_of_function {
                            let name = function.name.clone().unwrap_or_default();
                            faults.insert(format!("{:?}: {inner:?} in {name}", form.kernel));
                        }
                    }
                    n_functions += 1;
                }
            }
        }
        assert!(faults.is_empty(), "{faults:#?}");
        assert!(n_functions > 1000, "{n_functions}");
    }

    /// A driver may report a larger subgroup size than the number of lanes that execute together, and lanes need not
    /// reconverge after a loop.
    #[test]
    fn sums_by_subgroups_use_the_active_lanes_and_wait_for_all_of_them() {
        let subgroups = OptionalFeatures {
            subgroups: true,
            ..OptionalFeatures::default()
        };
        let mut n_kernels = 0;
        for form in forms() {
            let (kernel, source) = (form.kernel, form.source(subgroups));
            let code = source
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            let code: String = code.collect();
            let Some(first) = code.find("subgroupAdd") else {
                continue;
            };
            assert!(!code.contains("subgroup_size"), "{kernel:?}");
            assert!(code[..first].contains("workgroupBarrier()"), "{kernel:?}");
            n_kernels += 1;
        }
        assert!(n_kernels >= 8);
    }

    #[test]
    fn the_workgroup_memory_of_a_tile_is_what_its_variables_take() {
        let mut n_forms = 0;
        for form in forms().filter(|form| form.variant().is_some()) {
            for features in ALL_FEATURES {
                let module = wgpu::naga::front::wgsl::parse_str(&form.source(features)).unwrap();
                let is_tile = |variable: &&wgpu::naga::GlobalVariable| {
                    variable.space == AddressSpace::WorkGroup
                        && (variable.name.as_deref()).is_some_and(|name| name.ends_with("_tile"))
                };
                let variables = module.global_variables.iter().map(|(_, variable)| variable);
                let bytes = variables
                    .filter(is_tile)
                    .map(|variable| module.types[variable.ty].inner.size(module.to_ctx()))
                    .sum::<u32>();
                assert_eq!(bytes as usize, form.tile_bytes(features), "{form:?}");
                n_forms += usize::from(bytes > 0);
            }
        }
        assert!(n_forms >= 3 * ALL_FEATURES.len());
    }

    /// A device is opened with the adapter's own limit, so a kernel that exceeds the least one would fail only where
    /// nobody has tried it.
    #[test]
    fn every_kernel_fits_the_smallest_device_unless_its_tile_says_that_it_does_not() {
        let least = wgpu::Limits::default();
        for form in forms() {
            for features in ALL_FEATURES {
                let module = wgpu::naga::front::wgsl::parse_str(&form.source(features)).unwrap();
                let variables = module.global_variables.iter().map(|(_, variable)| variable);
                let bytes = variables
                    .filter(|variable| variable.space == AddressSpace::WorkGroup)
                    .map(|variable| module.types[variable.ty].inner.size(module.to_ctx()))
                    .sum::<u32>();
                let most = (least.max_compute_workgroup_storage_size as usize)
                    .max(form.tile_bytes(features));
                assert!(
                    bytes as usize <= most,
                    "{form:?} {features:?}: {bytes} bytes"
                );
                let threads: u32 = module.entry_points[0].workgroup_size.iter().product();
                assert!(
                    threads <= least.max_compute_invocations_per_workgroup,
                    "{form:?}"
                );
            }
        }
    }

    #[test]
    fn every_storage_binding_states_its_shape() {
        for form in forms() {
            for line in form.source(OptionalFeatures::default()).lines() {
                if line.contains("var<storage") {
                    assert!(line.contains("; // ["), "{form:?}: {line}");
                }
            }
        }
    }
}
