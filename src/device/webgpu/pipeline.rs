//! Compiles the shaders of kernels, each before its first use or as a trial, which a device may reject.

use std::collections::HashMap;
use std::pin::Pin;

use crate::device::webgpu::adapter::OpenDevice;
use crate::device::webgpu::kernel_table::{Access, OptionalFeatures};
use crate::device::webgpu::variants::Form;

pub struct CompiledKernel {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// A form that is being compiled, and whether the device accepts it.
struct Compiling {
    form: Form,
    compiled: CompiledKernel,
    is_accepted: Pin<Box<dyn Future<Output = bool>>>,
}

/// The compiled kernels of a device.
pub struct Pipelines {
    device: wgpu::Device,
    features: OptionalFeatures,
    wrong_features: OptionalFeatures,
    wrong_variants: bool,
    compiled: HashMap<Form, CompiledKernel>,
    compiling: Vec<Compiling>,
}

impl Pipelines {
    pub fn new(open: &OpenDevice) -> Pipelines {
        Pipelines {
            device: open.device.clone(),
            features: open.facts.features(),
            wrong_features: open.wrong_features,
            wrong_variants: open.wrong_variants,
            compiled: HashMap::new(),
            compiling: Vec::new(),
        }
    }

    /// A kernel, compiled now if it was not before.
    pub fn compiled(&mut self, form: Form) -> &CompiledKernel {
        if !self.compiled.contains_key(&form) {
            let compiled = self.compile(form);
            self.compiled.insert(form, compiled);
        }
        &self.compiled[&form]
    }

    /// A kernel that was used before.
    pub fn get(&self, form: Form) -> Option<&CompiledKernel> {
        self.compiled.get(&form)
    }

    /// Begins to compile a form before its first use, so that others can be compiled at the same time.
    pub fn begin(&mut self, form: Form) {
        let is_begun = self.compiling.iter().any(|begun| begun.form == form);
        if is_begun || self.compiled.contains_key(&form) {
            return;
        }
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let compiled = self.compile(form);
        let (internal, validation) = (internal.pop(), validation.pop());
        self.compiling.push(Compiling {
            form,
            compiled,
            is_accepted: Box::pin(
                async move { internal.await.is_none() && validation.await.is_none() },
            ),
        });
    }

    /// Compiles a form before its first use. False if the device rejects it; this does not count as a failure of the
    /// device.
    pub async fn try_compile(&mut self, form: Form) -> bool {
        self.begin(form);
        let begun = self.compiling.iter().position(|begun| begun.form == form);
        if let Some(at) = begun {
            let Compiling {
                compiled,
                is_accepted,
                ..
            } = self.compiling.swap_remove(at);
            if is_accepted.await {
                self.compiled.insert(form, compiled);
            }
        }
        self.compiled.contains_key(&form)
    }

    fn compile(&self, form: Form) -> CompiledKernel {
        let is_wrong = self.wrong_variants && form.variant > 0;
        let source = form.source_with_faults(self.features, self.wrong_features, is_wrong);
        compile(&self.device, form, source)
    }
}

/// The kernel of `source`, with a layout for its uniform block and its storage buffers.
fn compile(device: &wgpu::Device, form: Form, source: String) -> CompiledKernel {
    let label = format!("{form:?}");
    let label = Some(&label[..]);
    let entry = |binding, ty, has_dynamic_offset| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty,
            has_dynamic_offset,
            min_binding_size: None,
        },
        count: None,
    };
    let storage = (1..).zip(form.kernel.bindings()).map(|(binding, access)| {
        let read_only = *access == Access::Read;
        entry(
            binding,
            wgpu::BufferBindingType::Storage { read_only },
            false,
        )
    });
    let uniforms = entry(0, wgpu::BufferBindingType::Uniform, true);
    let entries: Vec<_> = std::iter::once(uniforms).chain(storage).collect();
    let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label,
        entries: &entries,
    });
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label,
        source: wgpu::ShaderSource::Wgsl(source.into()),
    });
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label,
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label,
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    CompiledKernel { pipeline, layout }
}
