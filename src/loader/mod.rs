//! Bytes in, blocks out. It stands on floor 3, does no I/O and is fed in schedule order, in pieces of any size: the
//! same code runs natively, in the tests and in the browser. A matrix is quantised row by row as it arrives and handed
//! to the backend when it is whole, so the peak is one tensor above the finished model.

mod assemble;
pub mod safetensors;
pub mod schedule;

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::loader::assemble::Parts;
use crate::loader::schedule::{LoadSchedule, PlannedTensor, Role};
use crate::model::Zamba2;
use crate::quant::{QMatrixBuilder, WeightFormat};

/// A tensor on its way.
enum Growing {
    Matrix(QMatrixBuilder),
    Vector(Vec<f32>),
}

/// Turns the bytes of a [`LoadSchedule`] into the slots of a model.
pub struct WeightStream<B: Backend> {
    schedule: LoadSchedule,
    format: WeightFormat,
    unit: usize,
    tensor: usize,
    growing: Option<Growing>,
    /// Bytes of a row that has not come whole.
    partial_row: Vec<u8>,
    row: Vec<f32>,
    rows_done: usize,
    parts: Parts<B>,
}

impl<B: Backend> WeightStream<B> {
    pub fn new(schedule: LoadSchedule, format: WeightFormat) -> Self {
        WeightStream {
            schedule,
            format,
            unit: 0,
            tensor: 0,
            growing: None,
            partial_row: Vec::new(),
            row: Vec::new(),
            rows_done: 0,
            parts: Parts::default(),
        }
    }

    pub fn schedule(&self) -> &LoadSchedule {
        &self.schedule
    }

    /// Units that have become part of the model.
    pub fn units_done(&self) -> usize {
        self.unit
    }

    /// Takes the next bytes of the schedule's ranges.
    ///
    /// # Errors
    /// `NonFinite` for a NaN or an infinity; `Sequence` for bytes past the end.
    pub fn push(&mut self, be: &mut B, model: &mut Zamba2<B>, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let Some(unit) = self.schedule.units.get(self.unit) else {
                return Err(Error::Sequence {
                    fact: format!("{} bytes came after the last weight", bytes.len()),
                });
            };
            let tensor = &unit.tensors[self.tensor];
            let (rows, cols) = dims(tensor);
            let row_bytes = cols * tensor.entry.dtype.bytes().expect("the schedule checked it");
            let taken = (row_bytes - self.partial_row.len()).min(bytes.len());
            let (now, later) = bytes.split_at(taken);
            bytes = later;
            if self.partial_row.is_empty() && now.len() == row_bytes {
                self.row.clear();
                tensor.entry.dtype.decode(now, &mut self.row);
            } else {
                self.partial_row.extend_from_slice(now);
                if self.partial_row.len() < row_bytes {
                    return Ok(());
                }
                self.row.clear();
                tensor.entry.dtype.decode(&self.partial_row, &mut self.row);
                self.partial_row.clear();
            }
            if self.row.iter().any(|v| !v.is_finite()) {
                return Err(Error::NonFinite {
                    file: tensor.file.clone(),
                    tensor: tensor.spec.name.clone(),
                    row: self.rows_done,
                });
            }
            let format = self.format;
            let growing = self.growing.get_or_insert_with(|| match tensor.spec.role {
                Role::Vector => Growing::Vector(Vec::with_capacity(cols)),
                role => Growing::Matrix(QMatrixBuilder::new(rows, cols, role.format(format))),
            });
            match growing {
                Growing::Matrix(builder) => builder.push_row(&self.row),
                Growing::Vector(values) => values.extend_from_slice(&self.row),
            }
            self.rows_done += 1;
            if self.rows_done == rows {
                self.finish_tensor(be, model);
            }
        }
        Ok(())
    }

    fn finish_tensor(&mut self, be: &mut B, model: &mut Zamba2<B>) {
        let unit = &self.schedule.units[self.unit];
        let name = unit.tensors[self.tensor].spec.name.clone();
        match self.growing.take().expect("a row has just come") {
            Growing::Matrix(builder) => {
                let weight = be.upload(builder.finish());
                self.parts.matrices.insert(name, weight);
            }
            Growing::Vector(values) => {
                self.parts.vectors.insert(name, values);
            }
        }
        self.rows_done = 0;
        self.tensor += 1;
        if self.tensor == unit.tensors.len() {
            self.parts
                .assemble(be, model, &self.schedule.shared, unit.unit);
            self.tensor = 0;
            self.unit += 1;
        }
    }

    /// The error for a stream that ended too early; `Ok` when it is whole.
    pub fn finish(&self) -> Result<()> {
        let Some(unit) = self.schedule.units.get(self.unit) else {
            return Ok(());
        };
        let tensor = &unit.tensors[self.tensor];
        let (_, cols) = dims(tensor);
        let row_bytes = cols * tensor.entry.dtype.bytes().expect("the schedule checked it");
        let here = self.rows_done * row_bytes + self.partial_row.len();
        Err(Error::Truncated {
            file: tensor.file.clone(),
            expected_bytes: tensor.entry.end,
            actual_bytes: tensor.entry.start + here as u64,
        })
    }
}

/// Rows and columns as they are streamed; a vector of any shape is one row.
fn dims(tensor: &PlannedTensor) -> (usize, usize) {
    match (tensor.spec.role, &tensor.spec.shape[..]) {
        (Role::Matrix | Role::Output, &[rows, cols]) => (rows, cols),
        (_, shape) => (1, shape.iter().product()),
    }
}
