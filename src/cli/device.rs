//! The choice of a backend on the command line, and what commands need from a backend beyond the model's ops. Commands
//! are generic over backends.

#[cfg(not(feature = "candle"))]
#[path = "device/no_candle.rs"]
mod candle;
#[cfg(feature = "candle")]
#[path = "device/with_candle.rs"]
mod candle;

use clap::ValueEnum;
use pollster::block_on;
use serde::Serialize;
use zamba2::base::error::{Error, Fact};
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::device::webgpu::{
    AdapterFacts, AdapterOptions, Feature, FeatureFallback, HostThreads, WebGpu,
};
use zamba2::model::config::Config;
use zamba2::ops::Ops;
use zamba2::ops::device::{Ceilings, Device, KernelChoice};
use zamba2::self_test;
use zamba2::session::{self, Session, TRIAL_US};

use super::say;

/// The backend to compute on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendChoice {
    /// This machine's CPU.
    Cpu,
    /// The system's preferred graphics adapter, through Vulkan, Metal or DirectX 12.
    Webgpu,
    /// The tensor operations of candle, slow, for comparisons. Needs a build with the feature `candle`.
    Candle,
}

pub(super) use candle::{Opened, on_device};

/// A backend whose kernels are measured one by one.
pub enum KernelDevice {
    Cpu(Box<Cpu>),
    WebGpu(Box<WebGpu>),
}

impl BackendChoice {
    /// Opens the backend for a model of `config`. A graphics adapter has passed the self-test, if necessary without
    /// some optional features; its name and the features left out are printed on standard error.
    pub fn open(
        self,
        threads: usize,
        config: impl FnOnce() -> Result<Config, Error>,
        weights: WeightFormat,
    ) -> Result<Opened, Error> {
        match self {
            BackendChoice::Cpu => Ok(Opened::Cpu(Box::new(Cpu::new(threads)))),
            BackendChoice::Webgpu => {
                let options = AdapterOptions::default();
                let (device, dropped) = open_tested(options, threads, &config()?, weights)?;
                remarks(device.adapter(), &dropped)
                    .iter()
                    .for_each(|text| say(text));
                Ok(Opened::WebGpu(Box::new(device)))
            }
            BackendChoice::Candle => candle::open(threads),
        }
    }

    /// Opens the backend without a model, and so without a self-test: benchmarks of kernels check their results.
    pub fn open_for_kernels(self, threads: usize) -> Result<KernelDevice, Error> {
        match self {
            BackendChoice::Cpu => Ok(KernelDevice::Cpu(Box::new(Cpu::new(threads)))),
            BackendChoice::Webgpu => {
                let device = open_adapter(AdapterOptions::default(), threads)?;
                remarks(device.adapter(), &[])
                    .iter()
                    .for_each(|text| say(text));
                Ok(KernelDevice::WebGpu(Box::new(device)))
            }
            BackendChoice::Candle => Err(not_measured()),
        }
    }
}

/// The error for measurements of candle, which exists for comparisons only.
fn not_measured() -> Error {
    Error::Setting {
        name: "backend".into(),
        fact: Fact::new("not_measured").with("backend", "candle"),
    }
}

fn open_adapter(options: AdapterOptions, threads: usize) -> Result<WebGpu, Error> {
    let cpu = Cpu::new(threads);
    let host: HostThreads =
        Box::new(move |data, piece, body| cpu.for_each_piece(data, piece, body));
    block_on(WebGpu::open(options, host))
}

/// Opens the adapter with as many optional features as pass the self-test. Also returns the features left out.
fn open_tested(
    mut options: AdapterOptions,
    threads: usize,
    config: &Config,
    weights: WeightFormat,
) -> Result<(WebGpu, Vec<(Feature, Error)>), Error> {
    let mut fallback = FeatureFallback::new(options);
    loop {
        let mut ops = Ops::new(open_adapter(options, threads)?);
        let kv = session::kv_format(weights);
        let tested = block_on(self_test::run(&mut ops, config, weights, kv));
        let device = ops.into_device();
        match tested {
            Ok(()) => {
                let dropped = fallback.dropped(device.adapter());
                return Ok((device, dropped));
            }
            Err(fault) => options = fallback.next(device.adapter(), fault)?,
        }
    }
}

/// The remarks about an adapter for standard error.
fn remarks(adapter: &AdapterFacts, dropped: &[(Feature, Error)]) -> Vec<String> {
    let kind = if adapter.software {
        ", a software adapter: slower than --backend cpu"
    } else {
        ""
    };
    let name = format!("{} on {}{kind}", adapter.name, adapter.interface);
    let without = dropped.iter().map(|(feature, fault)| {
        let feature = match feature {
            Feature::Subgroups => "subgroups",
            Feature::F16 => "f16",
        };
        format!("without {feature}: {fault}")
    });
    std::iter::once(name).chain(without).collect()
}

/// A graphics adapter in records of measurements.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdapterRecord {
    pub name: String,
    interface: String,
    software: bool,
}

/// What the commands ask of a device besides its kernels.
pub trait CliDevice: Device {
    /// Its name in records of measurements.
    fn label(&self) -> &'static str;
    /// The number of CPU threads that compute.
    fn threads(&self) -> usize;
    /// Sets the number of threads that is fastest for the model. Called unless `--threads` is given.
    fn choose_threads(session: &mut Session<Self>)
    where
        Self: Sized;
    /// Repeats a part of the self-test: full memory may change what a device computes.
    ///
    /// # Errors
    /// [`Error::SelfTest`]; the device's own failure.
    fn test_loaded(session: &mut Session<Self>, weights: WeightFormat) -> Result<(), Error>
    where
        Self: Sized;
    /// Uses the variants of kernels that are fastest with the weights of `session` and pass that test, too.
    ///
    /// # Errors
    /// The device's own failure.
    fn choose_kernels(session: &mut Session<Self>, weights: WeightFormat) -> Result<(), Error>
    where
        Self: Sized;
    /// What [`CliDevice::choose_kernels`] has chosen.
    fn kernel_choices(&self) -> Vec<KernelChoice>;
    /// Measures the device's ceilings.
    ///
    /// # Errors
    /// The device's own failure.
    fn ceilings(&mut self) -> Result<Ceilings, Error>;
    fn adapter(&self) -> Option<AdapterRecord>;
    /// Dispatches so far, if the device counts them.
    fn dispatches(&self) -> Option<u64>;
    /// The id of the clock that measures spans, as in run files, and the resolution of the device's own clock in
    /// microseconds, if it has one.
    fn timer(&self) -> (&'static str, Option<f64>);
}

impl CliDevice for Cpu {
    fn label(&self) -> &'static str {
        "cpu-native"
    }

    fn threads(&self) -> usize {
        self.threads()
    }

    fn choose_threads(session: &mut Session<Self>) {
        session.choose_threads();
    }

    /// The kernels of the CPU are tested when the program is.
    fn test_loaded(_session: &mut Session<Self>, _weights: WeightFormat) -> Result<(), Error> {
        Ok(())
    }

    /// The CPU has one kernel for each op.
    fn choose_kernels(_session: &mut Session<Self>, _weights: WeightFormat) -> Result<(), Error> {
        Ok(())
    }

    fn kernel_choices(&self) -> Vec<KernelChoice> {
        Vec::new()
    }

    fn ceilings(&mut self) -> Result<Ceilings, Error> {
        // The largest buffer: natively its memory returns to the system afterwards, unlike in wasm.
        Ok(Cpu::ceilings(self, u64::MAX))
    }

    fn adapter(&self) -> Option<AdapterRecord> {
        None
    }

    fn dispatches(&self) -> Option<u64> {
        None
    }

    fn timer(&self) -> (&'static str, Option<f64>) {
        ("clock", None)
    }
}

impl CliDevice for WebGpu {
    fn label(&self) -> &'static str {
        "webgpu-native"
    }

    fn threads(&self) -> usize {
        1
    }

    /// The adapter computes; the threads only quantise while weights load.
    fn choose_threads(_session: &mut Session<Self>) {}

    fn test_loaded(session: &mut Session<Self>, weights: WeightFormat) -> Result<(), Error> {
        let (config, kv) = (session.config().clone(), session::kv_format(weights));
        let tested = self_test::run_decode_step(session.ops_mut(), &config, weights, kv);
        block_on(tested)
    }

    /// Skips software adapters: the trial would take long there, and they are not used for their speed.
    fn choose_kernels(session: &mut Session<Self>, weights: WeightFormat) -> Result<(), Error> {
        if session.backend().adapter().software {
            return Ok(());
        }
        block_on(session.choose_kernels(&[], TRIAL_US))?;
        match Self::test_loaded(session, weights) {
            Err(Error::SelfTest { .. }) => {
                session.forget_kernels();
                Ok(())
            }
            tested => tested,
        }
    }

    fn kernel_choices(&self) -> Vec<KernelChoice> {
        WebGpu::kernel_choices(self).to_vec()
    }

    fn ceilings(&mut self) -> Result<Ceilings, Error> {
        block_on(WebGpu::ceilings(self))
    }

    fn adapter(&self) -> Option<AdapterRecord> {
        let adapter = self.adapter();
        Some(AdapterRecord {
            name: adapter.name.clone(),
            interface: adapter.interface.clone(),
            software: adapter.software,
        })
    }

    fn dispatches(&self) -> Option<u64> {
        Some(self.counts().dispatches)
    }

    fn timer(&self) -> (&'static str, Option<f64>) {
        // Whether the adapter offers timestamps would not suffice: they may never advance.
        match self.timestamp_step_us() {
            Some(step_us) => ("timestamp_query", Some(step_us)),
            None => ("clock_after_spans", None),
        }
    }
}

#[cfg(test)]
mod tests {
    use zamba2::device::webgpu::OptionalFeatures;

    use super::*;

    #[test]
    fn an_adapter_that_is_wrong_about_f16_is_used_without_it_and_a_remark_says_so() {
        let wrong_features = OptionalFeatures {
            f16: true,
            ..OptionalFeatures::default()
        };
        let options = AdapterOptions {
            wrong_features,
            ..AdapterOptions::default()
        };
        let config = include_str!("../../www/models/rustdoc-5m/config.json");
        let config = Config::from_json(config).unwrap();
        let (device, dropped) = match open_tested(options, 1, &config, WeightFormat::Q4) {
            Ok(open) => open,
            Err(Error::NoAdapter { fact }) => return println!("SKIPPED: f16: {fact}"),
            Err(error) => panic!("{error}"),
        };
        let said = remarks(device.adapter(), &dropped);
        if dropped.is_empty() {
            return println!("SKIPPED: f16: the adapter has none");
        }
        assert!(!device.adapter().f16);
        assert_eq!(said.len(), 2, "subgroups are right: {said:?}");
        assert!(said[1].starts_with("without f16: "), "{said:?}");
        assert!(said[1].contains("linear"), "{said:?}");
    }
}
