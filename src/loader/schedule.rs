//! Which bytes of a checkpoint the forward pass needs, in which order: the tensors of the model's plan, found in the shards'
//! headers. It moves no bytes.

use std::sync::Arc;

use serde::Serialize;

use crate::base::error::{Error, Result};
use crate::base::quant::WeightFormat;
use crate::family;
use crate::loader::safetensors::{Dtype, Shard, TensorEntry};
use crate::model::config::Config;
use crate::model::module::{ModelPlan, Role, TensorSpec, Unit};
use crate::ops::trace::ModuleId;

/// Consecutive bytes of one file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ByteRange {
    pub file: String,
    pub start: u64,
    pub end: u64,
}

/// A tensor and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedTensor {
    pub module: ModuleId,
    pub spec: TensorSpec,
    pub file: String,
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
    pub parameters: u64,
    /// Bytes of the weights once loaded.
    pub weights_bytes: u64,
}

impl LoadSchedule {
    /// Checks that the shards hold every tensor that `config` implies, in its shape and a known dtype, and orders
    /// their bytes.
    pub fn new(config: &Config, shards: &[Shard], format: WeightFormat) -> Result<LoadSchedule> {
        let has = |name: &str| shards.iter().any(|shard| shard.tensors.contains_key(name));
        let plan = family::plan(config, has);
        let mut units = Vec::new();
        for unit in &plan.units {
            let specs = plan.tensors(unit).into_iter();
            let found = specs.map(|(module, spec)| find(shards, module, spec));
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
        })
    }
}

fn find(shards: &[Shard], module: ModuleId, spec: &TensorSpec) -> Result<PlannedTensor> {
    let holder = shards.iter().find_map(|shard| {
        let entry = shard.tensors.get(&spec.name)?;
        Some((&shard.file, entry))
    });
    let Some((file, entry)) = holder else {
        let file = match shards {
            [shard] => shard.file.clone(),
            _ => "model.safetensors.index.json".into(),
        };
        let tensor = spec.name.clone();
        return Err(Error::MissingTensor { file, tensor });
    };
    if let Dtype::Other(dtype) = &entry.dtype {
        return Err(Error::Dtype {
            file: file.clone(),
            tensor: spec.name.clone(),
            dtype: dtype.clone(),
        });
    }
    if entry.shape != spec.shape {
        return Err(Error::Shape {
            file: file.clone(),
            tensor: spec.name.clone(),
            expected: spec.shape.clone(),
            found: entry.shape.clone(),
        });
    }
    Ok(PlannedTensor {
        module,
        spec: spec.clone(),
        file: file.clone(),
        entry: entry.clone(),
    })
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
