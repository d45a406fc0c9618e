//! Bytes in, blocks out. It does no I/O and takes bytes in schedule order, in pieces of any size: the same code runs
//! natively, in the tests and in the browser. Rows are quantised as they arrive and go to the device at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::error::{Error, Fact, Result};
use crate::base::quant::{WeightFormat, all_finite, is_valid_row, store_row};
use crate::loader::content_hash::ContentHash;
use crate::loader::model_from_tensors::Parts;
use crate::loader::safetensors::Dtype;
use crate::loader::schedule::{
    self, ByteRange, LoadSchedule, PlannedTensor, TapsOrder, taps_order,
};
use crate::model::Zamba2;
use crate::model::module::{Origin, Role};
use crate::ops::device::Device;
use crate::ops::{ArrivingWeight, Ops};

/// Rows that a thread quantises before it takes more.
const ROWS_AT_ONCE: usize = 8;

/// A tensor that is being received.
enum Arriving<D: Device> {
    Matrix(ArrivingWeight<D>),
    Vector(Vec<f32>),
}

/// The form of the bytes: as in the checkpoint, or rows that were quantised and stored before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Checkpoint,
    Stored,
}

/// What is missing of the current unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Rest {
    /// Bytes of the unit's stored form that have been received.
    pub stored_bytes: u64,
    /// What is still needed from the checkpoint.
    pub ranges: Vec<ByteRange>,
}

/// Turns the bytes of a [`LoadSchedule`] into the slots of a model.
pub struct WeightStream<D: Device> {
    schedule: LoadSchedule,
    format: WeightFormat,
    unit: usize,
    tensor: usize,
    arriving: Option<Arriving<D>>,
    /// Bytes of an incomplete row.
    partial_row: Vec<u8>,
    partial_form: Form,
    /// Rows in their stored form that are not on the device yet.
    batch: Vec<u8>,
    rows_done: usize,
    parts: Parts<D>,
    /// Names of tensors that a later unit also uses.
    used_again: HashSet<String>,
    /// Of the current tensor, if it may be a copy of another one.
    hash: ContentHash,
    /// Matrices that others may be copies of.
    known: HashMap<(ContentHash, usize, usize), Arc<D::Weight>>,
    /// The stored form of rows from the checkpoint, if requested.
    stored: Option<Vec<u8>>,
}

impl<D: Device> WeightStream<D> {
    pub fn new(schedule: LoadSchedule, format: WeightFormat) -> Self {
        let tensors = schedule
            .plan
            .tree
            .modules
            .iter()
            .flat_map(|module| &module.tensors);
        let again = tensors.filter(|tensor| tensor.origin == Origin::Earlier);
        WeightStream {
            used_again: again.map(|tensor| tensor.name.clone()).collect(),
            hash: ContentHash::default(),
            known: HashMap::new(),
            schedule,
            format,
            unit: 0,
            tensor: 0,
            arriving: None,
            partial_row: Vec::new(),
            partial_form: Form::Checkpoint,
            batch: Vec::new(),
            rows_done: 0,
            parts: Parts::default(),
            stored: None,
        }
    }

    pub fn schedule(&self) -> &LoadSchedule {
        &self.schedule
    }

    /// Units that have become part of the model.
    pub fn units_done(&self) -> usize {
        self.unit
    }

    /// From here on [`WeightStream::take_stored`] returns the checkpoint's rows in their stored form.
    pub fn keep_stored(&mut self) {
        self.stored.get_or_insert_default();
    }

    /// The stored form of the rows received from the checkpoint since the last call.
    pub fn take_stored(&mut self) -> Vec<u8> {
        self.stored.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Takes the next bytes of the schedule's ranges.
    ///
    /// # Errors
    /// `NonFinite` for a NaN or an infinity; `Sequence` for bytes past the end.
    pub fn push(&mut self, ops: &mut Ops<D>, model: &mut Zamba2<D>, bytes: &[u8]) -> Result<()> {
        self.take(ops, model, bytes, Form::Checkpoint)
    }

    /// Takes the next bytes in the stored form that [`WeightStream::take_stored`] returned, in the same order.
    ///
    /// # Errors
    /// As for [`WeightStream::push`].
    pub fn push_stored(
        &mut self,
        ops: &mut Ops<D>,
        model: &mut Zamba2<D>,
        bytes: &[u8],
    ) -> Result<()> {
        self.take(ops, model, bytes, Form::Stored)
    }

    fn take(
        &mut self,
        ops: &mut Ops<D>,
        model: &mut Zamba2<D>,
        mut bytes: &[u8],
        form: Form,
    ) -> Result<()> {
        while !bytes.is_empty() {
            let Some(unit) = self.schedule.units.get(self.unit) else {
                return Err(Error::Sequence {
                    fact: Fact::new("bytes_after_end").with("bytes", bytes.len()),
                });
            };
            if !self.partial_row.is_empty() && self.partial_form != form {
                return Err(Error::Sequence {
                    fact: Fact::new("mixed_row"),
                });
            }
            let tensor = &unit.tensors[self.tensor];
            let row_bytes = match form {
                Form::Checkpoint => checkpoint_row_bytes(tensor),
                Form::Stored => tensor.stored_row_bytes(self.format) as usize,
            };
            let missing = tensor.rows() - self.rows_done;
            let whole = (bytes.len() / row_bytes).min(missing);
            if whole > 0 && self.partial_row.is_empty() {
                let (now, later) = bytes.split_at(whole * row_bytes);
                bytes = later;
                self.take_rows(ops, now, whole, form)?;
            } else {
                let taken = (row_bytes - self.partial_row.len()).min(bytes.len());
                let (now, later) = bytes.split_at(taken);
                bytes = later;
                self.partial_row.extend_from_slice(now);
                self.partial_form = form;
                if self.partial_row.len() < row_bytes {
                    return Ok(());
                }
                let row = std::mem::take(&mut self.partial_row);
                self.take_rows(ops, &row, 1, form)?;
                self.partial_row = row;
                self.partial_row.clear();
            }
            if self.rows_done == self.schedule.units[self.unit].tensors[self.tensor].rows() {
                self.finish_tensor(ops, model);
            }
        }
        Ok(())
    }

    /// Takes `n` whole rows of the current tensor.
    fn take_rows(&mut self, ops: &mut Ops<D>, bytes: &[u8], n: usize, form: Form) -> Result<()> {
        let tensor = &self.schedule.units[self.unit].tensors[self.tensor];
        let invalid_row = match (tensor.spec.role, form) {
            (Role::Vector, _) => self.take_vector(bytes, form),
            (_, Form::Checkpoint) => self.take_checkpoint_rows(ops, bytes, n),
            (_, Form::Stored) => self.take_stored_rows(ops, bytes),
        };
        if let Some(row) = invalid_row {
            let tensor = &self.schedule.units[self.unit].tensors[self.tensor];
            return Err(Error::NonFinite {
                file: tensor.file.clone(),
                tensor: tensor.name.clone(),
                row: self.rows_done + row,
            });
        }
        self.rows_done += n;
        Ok(())
    }

    /// Takes a whole vector. Returns 0, its only row, if a number is not finite.
    fn take_vector(&mut self, bytes: &[u8], form: Form) -> Option<usize> {
        let tensor = &self.schedule.units[self.unit].tensors[self.tensor];
        let dtype = match form {
            Form::Checkpoint => &tensor.entry.dtype,
            Form::Stored => &Dtype::F32,
        };
        let mut values = Vec::with_capacity(tensor.cols());
        dtype.decode(bytes, &mut values);
        if !all_finite(&values) {
            return Some(0);
        }
        if let (Some(stored), Form::Checkpoint) = (&mut self.stored, form) {
            stored.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        }
        self.arriving = Some(Arriving::Vector(values));
        None
    }

    /// Takes rows of a matrix, quantised on as many threads as the device may use. Returns the first invalid row.
    fn take_checkpoint_rows(&mut self, ops: &mut Ops<D>, bytes: &[u8], n: usize) -> Option<usize> {
        let tensor = &self.schedule.units[self.unit].tensors[self.tensor];
        let format = tensor.spec.role.format(self.format);
        let (dtype, cols) = (&tensor.entry.dtype, tensor.cols());
        let row_bytes = bytes.len() / n;
        let stored_bytes = tensor.stored_row_bytes(self.format) as usize;
        let not_finite = AtomicUsize::new(usize::MAX);
        let mut batch = std::mem::take(&mut self.batch);
        batch.resize(n * stored_bytes, 0);
        ops.for_each_piece(&mut batch, ROWS_AT_ONCE * stored_bytes, &|piece, out| {
            let mut row = Vec::with_capacity(cols);
            for (i, out) in (piece * ROWS_AT_ONCE..).zip(out.chunks_mut(stored_bytes)) {
                row.clear();
                dtype.decode(&bytes[i * row_bytes..][..row_bytes], &mut row);
                if all_finite(&row) {
                    store_row(format, &row, out);
                } else {
                    not_finite.fetch_min(i, Ordering::Relaxed);
                }
            }
        });
        let not_finite = not_finite.into_inner();
        if not_finite < usize::MAX {
            return Some(not_finite);
        }
        self.push_rows(ops, &batch);
        if let Some(stored) = &mut self.stored {
            stored.extend_from_slice(&batch);
        }
        self.batch = batch;
        None
    }

    /// Takes rows of a matrix in their stored form. Returns the first invalid row.
    fn take_stored_rows(&mut self, ops: &mut Ops<D>, bytes: &[u8]) -> Option<usize> {
        let tensor = &self.schedule.units[self.unit].tensors[self.tensor];
        let format = tensor.spec.role.format(self.format);
        let mut rows = bytes.chunks(tensor.stored_row_bytes(self.format) as usize);
        let invalid = rows.position(|row| !is_valid_row(format, tensor.cols(), row));
        if invalid.is_none() {
            self.push_rows(ops, bytes);
        }
        invalid
    }

    /// Passes stored rows of the current matrix to the device.
    fn push_rows(&mut self, ops: &mut Ops<D>, stored: &[u8]) {
        let tensor = &self.schedule.units[self.unit].tensors[self.tensor];
        let arriving = self.arriving.get_or_insert_with(|| {
            let format = tensor.spec.role.format(self.format);
            Arriving::Matrix(ops.begin_weight(format, tensor.rows(), tensor.cols()))
        });
        let Arriving::Matrix(weight) = arriving else {
            unreachable!("a vector is taken whole")
        };
        ops.push_rows(weight, stored);
        if tensor.spec.origin == Origin::Compared {
            for row in stored.chunks(tensor.stored_row_bytes(self.format) as usize) {
                self.hash.push_row(row);
            }
        }
    }

    /// Drops an incomplete row and returns what is missing of the current unit. `None` when all units are complete.
    pub fn rest(&mut self) -> Option<Rest> {
        self.partial_row.clear();
        let unit = self.schedule.units.get(self.unit)?;
        let (done, arriving) = unit.tensors.split_at(self.tensor);
        let rows_done = self.rows_done as u64;
        let stored = done.iter().map(|tensor| tensor.stored_bytes(self.format));
        let stored_bytes =
            stored.sum::<u64>() + rows_done * arriving[0].stored_row_bytes(self.format);
        let mut missing = arriving.to_vec();
        missing[0].entry.start += rows_done * checkpoint_row_bytes(&arriving[0]) as u64;
        Some(Rest {
            stored_bytes,
            ranges: schedule::merge(&missing),
        })
    }

    fn finish_tensor(&mut self, ops: &mut Ops<D>, model: &mut Zamba2<D>) {
        let tensor = &self.schedule.units[self.unit].tensors[self.tensor];
        let (module, spec) = (tensor.module, tensor.spec.clone());
        let is_used_again = self.used_again.contains(&spec.name);
        match self.arriving.take().expect("a row has just come") {
            Arriving::Matrix(weight) => {
                let weight = match spec.origin {
                    Origin::Compared => self.shared_if_equal(ops, weight),
                    _ => Arc::new(ops.finish_weight(weight)),
                };
                if is_used_again {
                    self.parts
                        .earlier_matrices
                        .insert(spec.name, Arc::clone(&weight));
                }
                self.parts.matrices.insert(module, weight);
            }
            Arriving::Vector(mut values) => {
                if taps_order(&spec, &tensor.entry.shape) == Some(TapsOrder::ByTap) {
                    values = transposed(&values, spec.shape[0]);
                }
                if is_used_again {
                    self.parts.earlier_vectors.insert(spec.name, values.clone());
                }
                self.parts.vectors.insert((module, spec.slot), values);
            }
        }
        let unit = &self.schedule.units[self.unit];
        self.rows_done = 0;
        self.tensor += 1;
        if self.tensor == unit.tensors.len() {
            self.parts.assemble(ops, model, unit.unit);
            self.tensor = 0;
            self.unit += 1;
        }
    }

    /// The weight for a completely received matrix. If an equal one is already loaded, its weight is shared: the new
    /// rows are dropped and subtracted from the counts of bytes and parameters.
    fn shared_if_equal(&mut self, ops: &mut Ops<D>, weight: ArrivingWeight<D>) -> Arc<D::Weight> {
        let tensor = &self.schedule.units[self.unit].tensors[self.tensor];
        let (rows, cols) = (tensor.rows(), tensor.cols());
        let key = (std::mem::take(&mut self.hash), rows, cols);
        if let Some(equal) = self.known.get(&key) {
            self.schedule.n_equal += 1;
            self.schedule.weights_bytes -= tensor.stored_bytes(self.format);
            self.schedule.parameters -= rows as u64 * cols as u64;
            return Arc::clone(equal);
        }
        let weight = Arc::new(ops.finish_weight(weight));
        self.known.insert(key, Arc::clone(&weight));
        weight
    }

    /// The error for a stream that ended too early; `Ok` if it is complete.
    pub fn finish(&self) -> Result<()> {
        let Some(unit) = self.schedule.units.get(self.unit) else {
            return Ok(());
        };
        let tensor = &unit.tensors[self.tensor];
        let here = self.rows_done * checkpoint_row_bytes(tensor) + self.partial_row.len();
        Err(Error::Truncated {
            file: tensor.file.clone(),
            expected_bytes: tensor.entry.end,
            actual_bytes: tensor.entry.start + here as u64,
        })
    }
}

/// `[d_conv, conv_dim]` as `[conv_dim, d_conv]`.
fn transposed(by_tap: &[f32], conv_dim: usize) -> Vec<f32> {
    let d_conv = by_tap.len() / conv_dim;
    (0..by_tap.len())
        .map(|i| by_tap[i % d_conv * conv_dim + i / d_conv])
        .collect()
}

fn checkpoint_row_bytes(tensor: &PlannedTensor) -> usize {
    let number = tensor.entry.dtype.bytes().expect("the schedule checked it");
    tensor.cols() * number
}
