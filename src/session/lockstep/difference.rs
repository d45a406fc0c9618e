//! The difference of two outputs, the tolerances, and the largest difference of each module. It runs no op.

use std::collections::HashMap;

use serde::Serialize;

use crate::base::quant::{Arithmetic, WeightFormat};
use crate::model::module::{Module, ModuleTree, OpKind};
use crate::ops::trace::ModuleId;
use crate::ops::watch::Output;
use crate::session::lockstep::PassPart;

/// The largest values of [`Difference::relative`] that are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Tolerances {
    /// For modules other than attention.
    pub modules: f64,
    /// For attention: softmax turns an error of a score, which grows with the score, into an error of a weight.
    pub attention: f64,
    /// For the logits that both models compute on their own; `None` if no bound is known.
    pub logits: Option<f64>,
}

/// The largest difference in one output of a module, or in the logits of the whole model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The module's path, as in the checkpoint; empty for the whole model.
    pub module: String,
    pub block: Option<usize>,
    /// `y`, or the state or the keys and values that the module updates.
    pub tensor: &'static str,
    /// |found − expected| in units of the root mean square of all that was expected; infinite where one is not finite.
    pub relative: f64,
    /// Whether `relative` is above the tolerance.
    pub differs: bool,
    pub absolute: f64,
    pub expected: f32,
    pub found: f32,
    /// The position of the token, counted from the prompt's first; for a state, the last token that it includes.
    pub position: usize,
    /// The row of a state.
    pub row: Option<usize>,
    pub channel: usize,
}

impl Tolerances {
    /// The default tolerances. Two devices that compute with the dequantised weights, keys and values add them in
    /// different orders: modules of the golden nets and of the embedded model differ by up to 2e-5, attention by 2e-4,
    /// and rows of the published models are longer. Logits differ by up to 4e-5, and by 1e-2 if a key or a value is
    /// rounded to the neighbouring 8-bit number.
    ///
    /// If only one of them rounds activations, as the CPU does for integer products, the difference of a module is the
    /// rounding error of one op: up to 4e-4 with 16 bits at q8, for attention 2e-2, and up to 8e-2 with 8 bits at q4.
    /// In logits it accumulates over the blocks.
    pub fn new(weights: WeightFormat, one_rounds_activations: bool) -> Tolerances {
        let (modules, attention, logits) = match (weights.arithmetic(), one_rounds_activations) {
            (Arithmetic::F32, _) => (1e-3, 1e-2, Some(1e-3)),
            (_, false) => (1e-3, 1e-2, Some(0.05)),
            (Arithmetic::Int16, true) => (5e-3, 0.05, None),
            (Arithmetic::Int8, true) => (0.25, 0.25, None),
        };
        Tolerances {
            modules,
            attention,
            logits,
        }
    }

    fn of(&self, module: &Module) -> f64 {
        match module.op {
            OpKind::Attention => self.attention,
            _ => self.modules,
        }
    }
}

/// The differences so far.
pub struct Found {
    tolerances: Tolerances,
    pub first: Option<Difference>,
    pub modules: Vec<Difference>,
    /// The places in `modules`.
    by_name: HashMap<(ModuleId, &'static str), usize>,
}

impl Found {
    pub fn new(tolerances: Tolerances) -> Found {
        Found {
            tolerances,
            first: None,
            modules: Vec::new(),
            by_name: HashMap::new(),
        }
    }

    /// Adds the expected and the actual outputs of a part of a pass. A device that fuses two modules has no output for
    /// the first one.
    pub fn add(
        &mut self,
        tree: &ModuleTree,
        part: PassPart,
        [expected, outputs]: [&[Output]; 2],
        rows: [usize; 2],
    ) {
        for expected in expected {
            let Some(output) = outputs.iter().find(|output| output.name == expected.name) else {
                continue;
            };
            let module = module_of_call(tree, expected.name.module, part);
            let tolerance = self.tolerances.of(module);
            let difference = difference((Some(module), tolerance), expected, output, rows);
            if self.first.is_none() && difference.differs {
                self.first = Some(difference.clone());
            }
            let name = (module.id, expected.name.tensor);
            let at = *self.by_name.entry(name).or_insert(self.modules.len());
            match self.modules.get_mut(at) {
                None => self.modules.push(difference),
                Some(largest) if difference.relative > largest.relative => *largest = difference,
                Some(_) => {}
            }
        }
    }
}

/// The module of an op in the current block. Ops of a shared transformer have the ids of its first call.
fn module_of_call<'a>(tree: &'a ModuleTree, id: ModuleId, part: PassPart) -> &'a Module {
    let module = tree.get(id);
    let PassPart::Block(block) = part else {
        return module;
    };
    let own = tree.by_span(Some(block), &module.span);
    tree.get(own.unwrap_or(id))
}

/// The largest difference of two outputs of a pass over the `n_rows` tokens from `position` on.
pub fn difference(
    (module, tolerance): (Option<&Module>, f64),
    expected: &Output,
    found: &Output,
    [position, n_rows]: [usize; 2],
) -> Difference {
    assert_eq!(
        expected.values.len(),
        found.values.len(),
        "sizes of an output"
    );
    let (mut largest, mut at, mut squares) = (0.0, 0, 0.0);
    let pairs = expected.values.iter().zip(&found.values);
    for (i, (a, b)) in pairs
        .map(|(a, b)| (f64::from(*a), f64::from(*b)))
        .enumerate()
    {
        squares += a * a;
        let distance = if (a - b).is_nan() {
            f64::INFINITY
        } else {
            (a - b).abs()
        };
        if distance > largest {
            (largest, at) = (distance, i);
        }
    }
    let rms = (squares / expected.values.len() as f64).sqrt();
    let (row, channel) = (at / expected.cols, at % expected.cols);
    let is_state = expected.name.tensor == "state";
    // Equal outputs do not differ, even if all are zero; a mean of non-finite numbers does not exist.
    let relative = match largest {
        0.0 | f64::INFINITY => largest,
        _ => largest / rms,
    };
    Difference {
        module: module.map_or_else(String::new, |module| module.path.clone()),
        block: module.and_then(|module| module.block),
        tensor: expected.name.tensor,
        relative,
        differs: relative > tolerance,
        absolute: largest,
        expected: expected.values[at],
        found: found.values[at],
        position: position + if is_state { n_rows - 1 } else { row },
        row: is_state.then_some(row),
        channel,
    }
}
