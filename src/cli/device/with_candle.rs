//! The backends of a build with the feature `candle`, and what commands need of it.

use zamba2::base::error::Error;
use zamba2::base::quant::WeightFormat;
use zamba2::device::candle::Candle;
use zamba2::device::cpu::Cpu;
use zamba2::device::webgpu::WebGpu;
use zamba2::ops::device::{Ceilings, KernelChoice};
use zamba2::session::Session;

use super::{AdapterRecord, CliDevice, not_measured};

/// A backend that is open.
pub enum Opened {
    Cpu(Box<Cpu>),
    WebGpu(Box<WebGpu>),
    Candle(Box<Candle>),
}

/// Evaluates an expression with the device that is open.
macro_rules! on_device {
    ($opened:expr, $device:ident => $body:expr) => {
        match $opened {
            $crate::cli::device::Opened::Cpu($device) => $body,
            $crate::cli::device::Opened::WebGpu($device) => $body,
            $crate::cli::device::Opened::Candle($device) => $body,
        }
    };
}
pub(crate) use on_device;

pub fn open(threads: usize) -> Result<Opened, Error> {
    Ok(Opened::Candle(Box::new(Candle::open(threads)?)))
}

impl CliDevice for Candle {
    fn label(&self) -> &'static str {
        self.name()
    }

    /// Candle has threads of its own.
    fn threads(&self) -> usize {
        1
    }

    fn choose_threads(_session: &mut Session<Self>) {}

    /// It is what others are compared with.
    fn test_loaded(_session: &mut Session<Self>, _weights: WeightFormat) -> Result<(), Error> {
        Ok(())
    }

    /// There is one form of each op.
    fn choose_kernels(_session: &mut Session<Self>, _weights: WeightFormat) -> Result<(), Error> {
        Ok(())
    }

    fn kernel_choices(&self) -> Vec<KernelChoice> {
        Vec::new()
    }

    fn ceilings(&mut self) -> Result<Ceilings, Error> {
        Err(not_measured())
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
