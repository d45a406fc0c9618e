//! The backends of a build without the feature `candle`.

use zamba2::base::error::{Error, Fact};
use zamba2::device::cpu::Cpu;
use zamba2::device::webgpu::WebGpu;

/// A backend that is open.
pub enum Opened {
    Cpu(Box<Cpu>),
    WebGpu(Box<WebGpu>),
}

/// Evaluates an expression with the device that is open.
macro_rules! on_device {
    ($opened:expr, $device:ident => $body:expr) => {
        match $opened {
            $crate::cli::device::Opened::Cpu($device) => $body,
            $crate::cli::device::Opened::WebGpu($device) => $body,
        }
    };
}
pub(crate) use on_device;

pub fn open(_threads: usize) -> Result<Opened, Error> {
    Err(Error::Setting {
        name: "backend".into(),
        fact: Fact::new("not_in_build")
            .with("backend", "candle")
            .with("feature", "candle"),
    })
}
