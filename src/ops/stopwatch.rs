//! Times of what a device computes: by its own clock if it has one, otherwise by the host's until a readback arrives.

use crate::base::clock::now_us;
use crate::base::error::Result;
use crate::ops::Ops;
use crate::ops::device::Device;
use crate::ops::trace::{Level, ModuleId};

/// The module that measured calls are recorded for.
const MODULE: ModuleId = ModuleId(0);

/// Measures calls of ops. It discards what the profiler has recorded.
pub struct Stopwatch<D: Device> {
    /// Read to wait for everything before it.
    marker: D::Tensor, // [1, 4]
    has_timestamps: bool,
}

impl<D: Device> Stopwatch<D> {
    /// `has_timestamps`: whether the device has a clock.
    pub fn new(ops: &mut Ops<D>, has_timestamps: bool) -> Stopwatch<D> {
        ops.profiler().set_level(Level::Block);
        Stopwatch {
            marker: ops.tensor(1, 4),
            has_timestamps,
        }
    }

    /// Whether times are the device's.
    pub fn has_timestamps(&self) -> bool {
        self.has_timestamps
    }

    /// The host's time of `n` calls until their results are there.
    pub async fn wall_us(
        &mut self,
        ops: &mut Ops<D>,
        n: usize,
        call: &mut impl FnMut(&mut Ops<D>, usize),
    ) -> Result<f64> {
        let start_us = now_us();
        ops.scope(MODULE, |ops| (0..n).for_each(|at| call(ops, at)));
        ops.read(&self.marker).await?;
        Ok(now_us() - start_us)
    }

    /// The time of `n` calls in one pass, by the device's clock if it has one.
    pub async fn pass_us(
        &mut self,
        ops: &mut Ops<D>,
        n: usize,
        call: &mut impl FnMut(&mut Ops<D>, usize),
    ) -> Result<f64> {
        ops.profiler().discard();
        let wall_us = self.wall_us(ops, n, call).await?;
        let profile = ops.profiler().take();
        let by_device = profile.duration_us.first().filter(|_| self.has_timestamps);
        Ok(by_device.map_or(wall_us, |us| f64::from(*us)))
    }
}
