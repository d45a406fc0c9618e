//! Families of models: each knows how its checkpoints spell what a model consists of. Another one is another file here and
//! a case in each of these functions.

mod zamba2;

use crate::model::config::Config;
use crate::model::module::ModelPlan;

/// The plan of a model of these sizes. `has` tells which tensors its checkpoint has, where the sizes leave a choice.
pub fn plan(config: &Config, has: impl Fn(&str) -> bool) -> ModelPlan {
    zamba2::plan(config, has)
}

/// The plan of a model whose checkpoint has all that it may have.
pub fn full_plan(config: &Config) -> ModelPlan {
    plan(config, |_| true)
}

/// The block whose own span has this name.
pub fn block_of_span(span: &str) -> Option<usize> {
    zamba2::block_of_span(span)
}
