//! Which variants of kernels a device can run, and which it uses.

use crate::base::quant::WeightFormat;
use crate::device::webgpu::variants::{self, ChosenVariants, Form, TunedOp};
use crate::device::webgpu::{WebGpu, WebGpuWeight, linear};
use crate::ops::device::KernelChoice;

impl WebGpu {
    /// The names of the variants of `op` that this device can run, with their indices.
    pub fn variants(&self, op: TunedOp, format: WeightFormat) -> Vec<(u8, &'static str)> {
        let (features, most_bytes) = (self.facts.features(), self.facts.max_workgroup_bytes);
        let fits = |form: Form| form.is_available(features, most_bytes);
        let variants = (0..).zip(op.variants());
        let fitting = variants.filter(|(variant, _)| op.forms(format, *variant).all(fits));
        fitting
            .map(|(variant, found)| (variant, found.name))
            .collect()
    }

    /// Whether the kernel that computes `op` with this matrix has variants.
    pub fn has_variants(&self, op: TunedOp, weight: &WebGpuWeight) -> bool {
        op != TunedOp::LinearOne || !linear::has_short_rows(weight)
    }

    /// Begins to compile every variant of every op, without what is fused with it.
    pub fn compile_variants(&mut self, format: WeightFormat) {
        for op in TunedOp::ALL {
            for (variant, _) in self.variants(op, format) {
                let form = op.forms(format, variant).next();
                form.into_iter()
                    .for_each(|form| self.recorder.pipelines().begin(form));
            }
        }
    }

    /// From now on `op` itself uses this variant, one of [`WebGpu::variants`]. False if the device rejects it; the
    /// previous variant then stays in use.
    pub async fn try_variant(&mut self, op: TunedOp, format: WeightFormat, variant: u8) -> bool {
        let form = op
            .forms(format, variant)
            .next()
            .expect("the op is the first");
        let is_accepted = self.recorder.pipelines().try_compile(form).await;
        if is_accepted {
            self.variants.choose(form);
        }
        is_accepted
    }

    /// Like [`WebGpu::try_variant`], for `op` and everything that is fused with it.
    pub async fn use_variant(&mut self, op: TunedOp, format: WeightFormat, variant: u8) -> bool {
        for form in op.forms(format, variant) {
            if !self.recorder.pipelines().try_compile(form).await {
                return false;
            }
        }
        op.forms(format, variant)
            .for_each(|form| self.variants.choose(form));
        true
    }

    /// Returns to the first variant of every op.
    pub fn forget_variants(&mut self) {
        self.variants = ChosenVariants::default();
        self.kernel_choices.clear();
    }

    /// The choices of the latest trial.
    pub fn kernel_choices(&self) -> &[KernelChoice] {
        &self.kernel_choices
    }

    pub fn note_kernel_choices(&mut self, choices: &[KernelChoice]) {
        self.kernel_choices = choices.to_vec();
    }

    /// A version of the shaders of kernels that have variants.
    pub fn shader_version(&self) -> String {
        variants::shader_version()
    }
}
