//! Requests an adapter and a device, and collects the failures that the device reports.

use std::sync::{Arc, Mutex, PoisonError};

use crate::base::error::{Error, Fact, Result};
use crate::device::webgpu::kernel_table::OptionalFeatures;

/// What is known about the adapter in use.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct AdapterFacts {
    /// The name that the driver reports; may be empty in a browser.
    pub name: String,
    /// The graphics API underneath: Vulkan, Metal, Dx12 or the browser's WebGPU.
    pub interface: String,
    /// A software adapter: correct, but slower than the CPU backend.
    pub software: bool,
    /// The adapter's limit of a storage binding in bytes; larger matrices are split.
    pub max_binding_bytes: u64,
    /// Limit of a kernel's workgroup memory in bytes.
    pub max_workgroup_bytes: usize,
    /// Nanoseconds per tick of timestamp queries; `None` without them, in which case spans are timed by waiting for
    /// each.
    pub timestamp_period_ns: Option<f32>,
    /// Whether kernels use subgroups.
    pub subgroups: bool,
    /// Whether kernels use f16.
    pub f16: bool,
}

/// How to open a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdapterOptions {
    /// Refuse software adapters.
    pub hardware_only: bool,
    /// A limit below the adapter's own, to test devices with smaller bindings.
    pub max_binding_bytes: Option<u64>,
    /// Do not use timestamp queries.
    pub no_timestamps: bool,
    /// Do not use subgroups.
    pub no_subgroups: bool,
    /// Do not use f16.
    pub no_f16: bool,
    /// The page requests subgroups from the browser itself, because wgpu cannot.
    pub browser_subgroups: bool,
    /// For tests of the self-test: kernels that use these features compute wrong results.
    pub wrong_features: OptionalFeatures,
    /// For tests of the choice of kernels: all variants but the first compute wrong results.
    pub wrong_variants: bool,
}

impl AdapterFacts {
    /// The optional features that kernels use.
    pub fn features(&self) -> OptionalFeatures {
        OptionalFeatures {
            subgroups: self.subgroups,
            f16: self.f16,
        }
    }
}

/// The optional features that kernels can use on this adapter.
fn kernel_features(features: wgpu::Features, options: AdapterOptions) -> OptionalFeatures {
    OptionalFeatures {
        subgroups: (features.contains(wgpu::Features::SUBGROUP) || options.browser_subgroups)
            && !options.no_subgroups,
        f16: features.contains(wgpu::Features::SHADER_F16) && !options.no_f16,
    }
}

/// The limits that every WebGPU device supports, except for the sizes that weights need and that large tiles use.
fn required_limits(available: &wgpu::Limits, max_binding_bytes: u64) -> wgpu::Limits {
    wgpu::Limits {
        max_compute_workgroup_storage_size: available.max_compute_workgroup_storage_size,
        max_storage_buffer_binding_size: max_binding_bytes,
        max_buffer_size: available.max_buffer_size,
        ..wgpu::Limits::default()
    }
}

/// The first failure that the device reported. Reports are asynchronous and may come from another thread.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Option<Error>>>);

impl Faults {
    fn note(&self, fault: Error) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(fault);
    }

    /// # Errors
    /// The first failure; results computed since then are invalid.
    pub fn check(&self) -> Result<()> {
        let first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.clone().map_or(Ok(()), Err)
    }
}

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
    pub wrong_features: OptionalFeatures,
    pub wrong_variants: bool,
}

/// Opens the system's preferred adapter for high performance.
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
    let available = adapter.features();
    let kernel_features = kernel_features(available, options);
    let mut features = available & wgpu::Features::TIMESTAMP_QUERY;
    if options.no_timestamps {
        features = wgpu::Features::empty();
    }
    features.set(
        wgpu::Features::SUBGROUP & available,
        kernel_features.subgroups,
    );
    features.set(wgpu::Features::SHADER_F16, kernel_features.f16);
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("zamba2"),
        required_features: features,
        required_limits: required_limits(&limits, max_binding_bytes),
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
        // Destroying the device on purpose is not a failure.
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
            max_workgroup_bytes: limits.max_compute_workgroup_storage_size as usize,
            timestamp_period_ns: has_timestamps.then(|| queue.get_timestamp_period()),
            subgroups: kernel_features.subgroups,
            f16: kernel_features.f16,
        },
        device,
        queue,
        faults,
        wrong_features: options.wrong_features,
        wrong_variants: options.wrong_variants,
    })
}
