//! Compiles a kernel's shader.

use crate::device::webgpu::kernel_table::Access;
use crate::device::webgpu::variants::Form;

pub struct CompiledKernel {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// The kernel of `source`, with a layout for its uniform block and its storage buffers.
pub fn compile(device: &wgpu::Device, form: Form, source: String) -> CompiledKernel {
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
