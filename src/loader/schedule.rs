//! The schedule of a load: which bytes of a checkpoint the forward pass needs, in which order. The tensors of the
//! model's plan are found in the shards' headers. It moves no bytes.

use std::sync::Arc;

use serde::Serialize;

use crate::base::error::{Error, Result};
use crate::base::quant::WeightFormat;
use crate::family;
use crate::loader::named_tensors::{Located, TensorNames};
use crate::loader::safetensors::{Dtype, Shard, TensorEntry};
use crate::model::config::Config;
use crate::model::module::{ModelPlan, Role, Slot, TensorSpec, Unit};
use crate::ops::trace::ModuleId;

/// Consecutive bytes of one file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ByteRange {
    pub file: String,
    pub start: u64,
    pub end: u64,
}

/// A tensor and its location.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedTensor {
    pub module: ModuleId,
    pub spec: TensorSpec,
    pub file: String,
    /// As the file spells it.
    pub name: String,
    pub entry: TensorEntry,
}

impl PlannedTensor {
    /// Rows and columns as they are streamed; a vector of any shape is one row.
    fn dims(&self) -> (usize, usize) {
        match (self.spec.role, &self.spec.shape[..]) {
            (Role::Matrix | Role::Output, &[rows, cols]) => (rows, cols),
            (_, shape) => (1, shape.iter().product()),
        }
    }

    pub fn rows(&self) -> usize {
        self.dims().0
    }

    pub fn cols(&self) -> usize {
        self.dims().1
    }

    pub fn format(&self, weights: WeightFormat) -> WeightFormat {
        self.spec.role.format(weights)
    }

    /// Bytes of one row in the stored form if `weights` is the chosen format.
    pub fn stored_row_bytes(&self, weights: WeightFormat) -> u64 {
        self.format(weights).bytes(1, self.cols())
    }

    pub fn stored_bytes(&self, weights: WeightFormat) -> u64 {
        self.rows() as u64 * self.stored_row_bytes(weights)
    }
}

/// One unit's tensors in the order of their bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedUnit {
    pub unit: Unit,
    pub tensors: Vec<PlannedTensor>,
    pub ranges: Vec<ByteRange>,
    /// Bytes once loaded, and of the stored form.
    pub stored_bytes: u64,
}

/// Everything to be read, in execution order.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadSchedule {
    pub units: Vec<PlannedUnit>,
    pub plan: Arc<ModelPlan>,
    /// Weights of the model, each counted once however often it is used.
    pub parameters: u64,
    /// Bytes of the weights once loaded. Like `parameters`, it counts copies of a tensor as different tensors until
    /// they have been received and compared.
    pub weights_bytes: u64,
    /// Tensors that were received and are equal to an earlier one.
    pub n_equal: usize,
}

impl LoadSchedule {
    /// Checks that the shards hold every tensor that `config` implies, in its shape and a known dtype, and orders
    /// their bytes.
    pub fn new(config: &Config, shards: &[Shard], format: WeightFormat) -> Result<LoadSchedule> {
        let names = TensorNames::new(shards)?;
        let plan = family::plan(config, |name| names.get(name).is_some());
        let mut units = Vec::new();
        for unit in &plan.units {
            let specs = plan.tensors(unit).into_iter();
            let found = specs.map(|(module, spec)| find(&names, module, spec));
            let mut found = found.collect::<Result<Vec<_>>>()?;
            found.sort_by(|a, b| (&a.file, a.entry.start).cmp(&(&b.file, b.entry.start)));
            units.push(PlannedUnit {
                unit: unit.unit,
                ranges: merge(&found),
                stored_bytes: found.iter().map(|tensor| tensor.stored_bytes(format)).sum(),
                tensors: found,
            });
        }
        Ok(LoadSchedule {
            parameters: plan.parameters(),
            weights_bytes: units.iter().map(|unit| unit.stored_bytes).sum(),
            units,
            plan: Arc::new(plan),
            n_equal: 0,
        })
    }
}

fn find(names: &TensorNames, module: ModuleId, spec: &TensorSpec) -> Result<PlannedTensor> {
    let Some(located) = names.get(&spec.name) else {
        return Err(names.missing(&spec.name));
    };
    let Located { file, name, entry } = located;
    if let Dtype::Other(dtype) = &entry.dtype {
        return Err(names.refusal(Error::Dtype {
            file: file.into(),
            tensor: name.into(),
            dtype: dtype.clone(),
        }));
    }
    if entry.shape != spec.shape && taps_order(spec, &entry.shape).is_none() {
        return Err(names.refusal(Error::Shape {
            file: file.into(),
            tensor: name.into(),
            expected: spec.shape.clone(),
            found: entry.shape.clone(),
        }));
    }
    Ok(PlannedTensor {
        module,
        spec: spec.clone(),
        file: file.into(),
        name: name.into(),
        entry: entry.clone(),
    })
}

/// The order of a convolution's weights in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapsOrder {
    /// As in the reference: the taps of one channel together. MLX only moves the axis of length 1, which does not
    /// change the order.
    ByChannel,
    /// The channels of one tap together, as in JAX.
    ByTap,
}

/// The order of a convolution's weights of this shape; `None` for another tensor or another shape.
pub fn taps_order(spec: &TensorSpec, shape: &[usize]) -> Option<TapsOrder> {
    let &[conv_dim, 1, d_conv] = &spec.shape[..] else {
        return None;
    };
    if spec.slot != Slot::Taps || shape.len() > 3 {
        return None;
    }
    // Axes of length 1 have no order.
    let axes = |shape: &[usize]| -> Vec<usize> {
        let axes = shape.iter().copied();
        axes.filter(|&n| n != 1).collect()
    };
    match axes(shape) {
        found if found == axes(&[conv_dim, d_conv]) => Some(TapsOrder::ByChannel),
        found if found == axes(&[d_conv, conv_dim]) => Some(TapsOrder::ByTap),
        _ => None,
    }
}

/// Joins adjacent tensors. Gaps are left out, so that the stream holds nothing but the unit's bytes.
pub fn merge(tensors: &[PlannedTensor]) -> Vec<ByteRange> {
    let mut ranges: Vec<ByteRange> = Vec::new();
    for tensor in tensors {
        match ranges.last_mut() {
            Some(last) if last.file == tensor.file && last.end == tensor.entry.start => {
                last.end = tensor.entry.end;
            }
            _ => ranges.push(ByteRange {
                file: tensor.file.clone(),
                start: tensor.entry.start,
                end: tensor.entry.end,
            }),
        }
    }
    ranges
}
