//! The choice of an adapter and the opening of a device on it. It stands inside the WebGPU backend. It makes no buffer
//! and runs no kernel.

use std::sync::{Arc, Mutex, PoisonError};

use crate::backend::webgpu::kernels::Variants;
use crate::error::{Error, Fact, Result};

/// What is known of the adapter that was chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterFacts {
    /// As the driver names it; a browser may give nothing.
    pub name: String,
    /// The interface below: Vulkan, Metal, Dx12 or the browser's WebGPU.
    pub interface: String,
    /// The processor plays the graphics card: right, and slower than the CPU backend.
    pub software: bool,
    /// The most bytes that a kernel can be given at once; larger matrices are split.
    pub max_binding_bytes: u64,
    /// The step of the device's own clock; none if the device can't be asked for times, and spans are then taken by waiting
    /// for each of them.
    pub timestamp_period_ns: Option<f32>,
    /// Kernels add up by subgroups.
    pub subgroups: bool,
    /// Kernels keep small whole numbers as f16.
    pub f16: bool,
}

/// How a device is to be opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdapterOptions {
    /// Takes no software adapter.
    pub hardware_only: bool,
    /// A bound below the adapter's own, for finding out what a smaller one would do.
    pub max_binding_bytes: Option<u64>,
    /// Does without the device's own clock.
    pub no_timestamps: bool,
    /// Does without subgroups.
    pub no_subgroups: bool,
    /// Does without f16.
    pub no_f16: bool,
    /// Whoever opened the browser's adapter has asked it for subgroups, which wgpu can't there.
    pub browser_subgroups: bool,
}

/// Which of the features that change a kernel's text a device is to have.
fn variants(features: wgpu::Features, options: AdapterOptions) -> Variants {
    Variants {
        subgroups: (features.contains(wgpu::Features::SUBGROUP) || options.browser_subgroups)
            && !options.no_subgroups,
        f16: features.contains(wgpu::Features::SHADER_F16) && !options.no_f16,
    }
}

/// The first failure that the device reported by itself. Failures come late and from another thread.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Option<Error>>>);

impl Faults {
    fn note(&self, fault: Error) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(fault);
    }

    /// # Errors
    /// The first fault, once there is one; nothing that was computed since can be trusted.
    pub fn check(&self) -> Result<()> {
        let first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.clone().map_or(Ok(()), Err)
    }
}

/// What the device reported by itself, as an error of ours.
fn fault(error: &wgpu::Error) -> Error {
    let fact = error.to_string().into();
    match error {
        wgpu::Error::OutOfMemory { .. } => Error::DeviceMemory { fact },
        wgpu::Error::Validation { .. } | wgpu::Error::Internal { .. } => Error::Device { fact },
    }
}

pub struct OpenDevice {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub facts: AdapterFacts,
    pub faults: Faults,
}

/// Opens the adapter that the system likes best for computing.
///
/// # Errors
/// [`Error::NoAdapter`] with the reason.
pub async fn open(options: AdapterOptions) -> Result<OpenDevice> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let wanted = wgpu::RequestAdapterOptions {
        power_preference: wgpu::PowerPreference::HighPerformance,
        ..wgpu::RequestAdapterOptions::default()
    };
    let adapter = (instance.request_adapter(&wanted).await).map_err(|error| Error::NoAdapter {
        fact: error.to_string().into(),
    })?;
    let (info, limits) = (adapter.get_info(), adapter.limits());
    let software = info.device_type == wgpu::DeviceType::Cpu;
    if software && options.hardware_only {
        return Err(Error::NoAdapter {
            fact: Fact::new("software_adapter").with("adapter", info.name),
        });
    }
    let max_binding_bytes = limits
        .max_storage_buffer_binding_size
        .min(limits.max_buffer_size);
    let mut features = adapter.features() & wgpu::Features::TIMESTAMP_QUERY;
    if options.no_timestamps {
        features = wgpu::Features::empty();
    }
    let variants = variants(adapter.features(), options);
    let own = adapter.features();
    features.set(wgpu::Features::SUBGROUP & own, variants.subgroups);
    features.set(wgpu::Features::SHADER_F16, variants.f16);
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("zamba2"),
        required_features: features,
        // What every WebGPU device has, and more only where weights are as large as they are.
        required_limits: wgpu::Limits {
            max_storage_buffer_binding_size: max_binding_bytes,
            max_buffer_size: limits.max_buffer_size,
            ..wgpu::Limits::default()
        },
        ..wgpu::DeviceDescriptor::default()
    };
    let (device, queue) =
        (adapter.request_device(&descriptor).await).map_err(|error| Error::NoAdapter {
            fact: Fact::new("no_device")
                .with("adapter", &info.name[..])
                .with("detail", error.to_string()),
        })?;
    let faults = Faults::default();
    let uncaptured = faults.clone();
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        uncaptured.note(fault(&error));
    }));
    let lost = faults.clone();
    device.set_device_lost_callback(move |reason, message| {
        // Letting go of the device is not a fault.
        if reason != wgpu::DeviceLostReason::Destroyed {
            lost.note(Error::DeviceLost {
                fact: message.into(),
            });
        }
    });
    let has_timestamps = features.contains(wgpu::Features::TIMESTAMP_QUERY);
    let bound = options.max_binding_bytes.unwrap_or(u64::MAX);
    Ok(OpenDevice {
        facts: AdapterFacts {
            name: info.name,
            interface: info.backend.to_string(),
            software,
            max_binding_bytes: max_binding_bytes.min(bound),
            timestamp_period_ns: has_timestamps.then(|| queue.get_timestamp_period()),
            subgroups: variants.subgroups,
            f16: variants.f16,
        },
        device,
        queue,
        faults,
    })
}
