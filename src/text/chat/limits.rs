//! Limits on what a chat template may compute and print: checkpoints are untrusted, and templates are programs.

use std::fmt;

use minijinja::value::ValueKind;
use minijinja::{ErrorKind, Output, State, Value, escape_formatter};

/// Enough to render thousands of messages in well under a second; a loop without an end stops here. Each unit also pays
/// for [`FUEL_BYTES`] of data. The engine charges for the text of a list only when it is complete, and nested lists
/// that each hold the one before twice exceed any memory, so values are measured before they are printed ([`print`]).
///
/// Not covered: `x ~ ''` and `x == y`, where the engine turns such a list into text, or compares it, internally.
pub(super) const FUEL: u64 = 1 << 20;
/// Bytes that minijinja allows per unit of fuel.
const FUEL_BYTES: u64 = 64;
/// Far above what templates need, and far below the stack of a browser worker.
pub(super) const RECURSION_LIMIT: usize = 100;

/// A formatter that refuses values whose text exceeds the remaining fuel.
pub(super) fn print(
    out: &mut Output,
    state: &mut State,
    value: &Value,
) -> Result<(), minijinja::Error> {
    if value.as_str().is_none() {
        measure(value, 0, &mut text_limit(state))?;
    }
    escape_formatter(out, state, value)
}

/// Subtracts from `left` the bytes that `value` prints, and for each item inside it the cost of one step.
fn measure(value: &Value, depth: usize, left: &mut usize) -> Result<(), minijinja::Error> {
    if depth > RECURSION_LIMIT {
        return Err(unwritable("chat_nested"));
    }
    let step_bytes = FUEL_BYTES as usize;
    let rest = left.checked_sub(step_bytes + value.as_str().map_or(0, str::len));
    *left = rest.ok_or_else(|| unwritable("chat_text_long"))?;
    let is_map = match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => false,
        ValueKind::Map => true,
        _ => return Ok(()),
    };
    // A value that has items but can't be iterated is printed without them.
    for item in value.try_iter().into_iter().flatten() {
        measure(&item, depth + 1, left)?;
        if is_map {
            measure(&value.get_item(&item)?, depth + 1, left)?;
        }
    }
    Ok(())
}

/// The bytes of text that the remaining fuel allows.
pub(super) fn text_limit(state: &State) -> usize {
    (state.fuel_levels().map_or(FUEL, |(_, left)| left) * FUEL_BYTES) as usize
}

/// Why a value has no text, as the id of a sentence, passed through the engine's errors.
#[derive(Debug)]
pub(super) struct Unwritable(pub &'static str);

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Unwritable {}

pub(super) fn unwritable(id: &'static str) -> minijinja::Error {
    minijinja::Error::from(ErrorKind::BadSerialization).with_source(Unwritable(id))
}
