//! Families of models: the tensor and module names of each, in a file of its own. Another family is another file here,
//! a case in each of these functions, and a variant of [`Family`]. The functions without a configuration are called
//! before there is one.

mod zamba2;

use crate::base::error::{Fact, Result};
pub use crate::family::zamba2::name_prefix::NamePrefix;
use crate::model::config::{Config, Family};
use crate::model::module::ModelPlan;

/// The plan of a model of these sizes. `has` returns whether its checkpoint has a tensor, where the sizes leave a
/// choice.
pub fn plan(config: &Config, has: impl Fn(&str) -> bool) -> ModelPlan {
    match config.family {
        Family::Zamba2 => zamba2::plan(config, has),
    }
}

/// The plan of a model as the reference saves it: with a shared transformer for each hybrid block and an output matrix
/// if its configuration ties nothing, otherwise with each of them once.
pub fn full_plan(config: &Config) -> ModelPlan {
    match config.family {
        Family::Zamba2 => zamba2::full_plan(config),
    }
}

/// The block whose own span has this name.
pub fn block_of_span(span: &str) -> Option<usize> {
    zamba2::block_of_span(span)
}

/// The prefix of all tensor names in a checkpoint, found from the names.
///
/// # Errors
/// More than one model is in the checkpoint.
pub fn name_prefix<'a>(names: impl Iterator<Item = &'a str>) -> Result<NamePrefix> {
    zamba2::name_prefix::prefix(names)
}

/// The layout that the names of a checkpoint belong to, if it is a known layout of another program.
pub fn foreign_layout<'a>(names: impl Iterator<Item = &'a str>) -> Option<Fact> {
    zamba2::name_prefix::foreign_layout(names)
}
