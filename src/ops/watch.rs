//! Reads what every op writes, and can replace it, so that two devices can be compared module by module: the same pass
//! runs on both, and the second one gets the outputs of the first. It compares nothing itself.

use std::collections::HashMap;

use crate::base::error::Result;
use crate::ops::Ops;
use crate::ops::device::{Device, Tensor};
use crate::ops::trace::ModuleId;

/// A tensor that an op writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OutputName {
    pub module: ModuleId,
    /// `y` or the parameter of the op.
    pub tensor: &'static str,
}

/// The output of an op.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    pub name: OutputName,
    pub cols: usize,
    pub values: Vec<f32>, // [rows, cols]
}

/// Outputs that are read while ops run.
pub(super) struct Watch<D: Device> {
    replacements: HashMap<OutputName, Vec<f32>>,
    seen: Vec<(OutputName, usize, D::Readback)>,
}

impl<D: Device> Ops<D> {
    /// From now on the outputs of all ops are read. An output that is in `replacements` is overwritten by its values
    /// before the next op runs, so that the next op gets the same input as on the device of the replacements. Ops are
    /// not fused meanwhile.
    pub fn watch_outputs(&mut self, replacements: &[Output]) {
        let replacements = replacements.iter();
        self.watch = Some(Watch {
            replacements: replacements
                .map(|output| (output.name, output.values.clone()))
                .collect(),
            seen: Vec::new(),
        });
    }

    /// Stops watching and returns the outputs in the order of the ops, as the device computed them.
    ///
    /// # Errors
    /// The device's own failure.
    pub async fn take_outputs(&mut self) -> Result<Vec<Output>> {
        let watch = self.watch.take();
        let mut outputs = Vec::new();
        for (name, cols, readback) in watch.into_iter().flat_map(|watch| watch.seen) {
            let values = self.finish_read(readback).await?;
            outputs.push(Output { name, cols, values });
        }
        Ok(outputs)
    }

    /// Whether outputs are being read.
    pub(super) fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// Called after an op of `module` that has written `y`.
    pub(super) fn see(&mut self, module: ModuleId, tensor: &'static str, y: &mut D::Tensor) {
        let Some(watch) = &mut self.watch else { return };
        let name = OutputName { module, tensor };
        let readback = self.device.begin_read(&[y]);
        watch.seen.push((name, y.cols(), readback));
        if let Some(values) = watch.replacements.get(&name) {
            assert_eq!(values.len(), y.rows() * y.cols(), "{name:?}: its size");
            self.device.write(values, y);
        }
    }
}
