//! Runs two models in lockstep, module by module: the reference runs a part of a pass, then the tested model runs the
//! same part, and each of its outputs is compared and replaced by the reference's before the next op uses it. So each
//! module gets the reference's inputs, errors do not spread to later modules, and each module that differs is itself at
//! fault. If none differs, both models compute logits on their own, with fused kernels and with accumulating errors.
//!
//! It blocks on devices, so it is native only. The caller chooses what to compare: two devices, two checkpoints, or
//! both.

mod difference;

use pollster::block_on;
use serde::Serialize;

use crate::base::error::{Error, Fact, Result};
use crate::model::cache::Cache;
use crate::model::config::Config;
use crate::model::forward::{ForwardPass, Scratch};
use crate::model::module::{ModelPlan, ModuleTree};
use crate::ops::device::{Device, KvCache};
use crate::ops::trace::Level;
use crate::ops::watch::{Output, OutputName};
pub use crate::session::lockstep::difference::{Difference, Tolerances};
use crate::session::lockstep::difference::{Found, difference};
use crate::session::{Session, argmax};
use crate::text::tokenizer::Tokenizer;

/// Rows of a pass: few enough that no device splits them into chunks.
const PASS_ROWS: usize = 64;

/// The inputs of a comparison.
pub struct LockstepOptions<'a> {
    pub prompt: &'a [u32],
    /// Decode steps after it, over the tokens that the reference finds most probable.
    pub n_steps: usize,
    pub tolerances: Tolerances,
}

/// The results of [`compare`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    pub tolerances: Tolerances,
    pub prompt_tokens: usize,
    pub steps: usize,
    /// The first difference above the tolerance, in the order of execution.
    pub first: Option<Difference>,
    /// The largest difference of every output, in the order of execution.
    pub modules: Vec<Difference>,
    /// For the logits that both models compute on their own; `None` if a module differs.
    pub logits: Option<Difference>,
}

impl Comparison {
    pub fn agrees(&self) -> bool {
        let logits = self.logits.as_ref();
        self.first.is_none() && logits.is_none_or(|logits| !logits.differs)
    }
}

/// A model on any device, as [`compare`] runs it.
pub trait LockstepModel {
    fn config(&self) -> &Config;
    fn tree(&self) -> &ModuleTree;
    fn context(&self) -> usize;
    /// # Errors
    /// The checkpoint has none.
    fn tokenizer(&self) -> Result<&Tokenizer>;
    /// Begins a new sequence of at most `room` tokens.
    ///
    /// # Errors
    /// A prompt that is refused.
    fn begin(&mut self, prompt: &[u32], room: usize) -> Result<()>;
    /// Runs a part of a pass, and returns the outputs of its ops in order.
    ///
    /// # Errors
    /// The device's own failure.
    fn run(&mut self, part: PassPart, replacements: &[Output]) -> Result<Vec<Output>>;
    /// The logits after every token of the prompt and of the tokens after it, each of which is a decode step, as in
    /// generation. `[tokens, vocab]`
    ///
    /// # Errors
    /// Logits that are not finite; the device's own failure.
    fn logits(&mut self, prompt: &[u32], steps: &[u32]) -> Result<Vec<f32>>;
}

/// A part of a pass that runs at once.
#[derive(Clone, Copy)]
pub enum PassPart<'a> {
    /// The embedding of up to `PASS_ROWS` tokens of a prompt: a new pass.
    Prompt(&'a [u32]),
    /// The embedding of the token of a decode step: a new pass.
    Step(u32),
    /// The next block, by its index.
    Block(usize),
    /// The final norm and the output matrix.
    Head,
}

/// The pass of a [`LockstepModel`], with a cache and buffers of its own.
struct Pass<B: Device> {
    pass: Option<ForwardPass<B>>,
    cache: Cache<B>,
    scratch: Scratch<B>,
    logits: B::Tensor, // [T, vocab]
}

/// A [`LockstepModel`].
pub struct Lockstep<B: Device> {
    session: Session<B>,
    pass: Option<Pass<B>>,
}

impl<B: Device> Lockstep<B> {
    pub fn new(session: Session<B>) -> Self {
        assert!(B::CHUNK_ROWS >= PASS_ROWS, "a pass is one chunk");
        Lockstep {
            session,
            pass: None,
        }
    }

    /// The keys and values that `block` has added to its cache from position `start` on, with the module that adds
    /// them.
    fn new_kv(&mut self, block: usize, start: usize) -> Result<Option<Output>> {
        let Session { ops, model, .. } = &mut self.session;
        let (Some(pass), Some(hybrid)) = (&self.pass, &model.plan.blocks[block].hybrid) else {
            return Ok(None);
        };
        let kv = pass.cache.kv[block].as_ref();
        let kv = kv.expect("hybrid blocks have a cache");
        let bytes = block_on(ops.read_kv(kv))?;
        Ok(Some(Output {
            name: OutputName {
                module: model.plan.shared[hybrid.shared].attention.append_kv,
                tensor: "kv",
            },
            cols: 2 * kv.shape.n_kv_heads * kv.shape.head_dim,
            values: kv_numbers(kv, &bytes[start * ops.kv_position_bytes(kv)..]),
        }))
    }
}

impl<B: Device> LockstepModel for Lockstep<B> {
    fn config(&self) -> &Config {
        self.session.config()
    }

    fn tree(&self) -> &ModuleTree {
        &self.session.model.plan.tree
    }

    fn context(&self) -> usize {
        self.session.context()
    }

    fn tokenizer(&self) -> Result<&Tokenizer> {
        self.session.tokenizer()
    }

    fn begin(&mut self, prompt: &[u32], room: usize) -> Result<()> {
        let session = &mut self.session;
        session.check_complete()?;
        session.check_prompt(prompt, room - prompt.len())?;
        session.ops.profiler().set_level(Level::Off);
        let (ops, config) = (&mut session.ops, &session.model.config);
        self.pass = Some(Pass {
            pass: None,
            cache: Cache::new(ops, config, room, session.kv_format),
            scratch: Scratch::new(ops, config),
            logits: ops.tensor(PASS_ROWS, config.vocab_size), // [T, vocab]
        });
        Ok(())
    }

    fn run(&mut self, part: PassPart, replacements: &[Output]) -> Result<Vec<Output>> {
        let Session { ops, model, .. } = &mut self.session;
        let own = self.pass.as_mut().expect("a sequence has begun");
        let start = own.cache.len;
        ops.watch_outputs(replacements);
        match part {
            PassPart::Prompt(tokens) => {
                own.pass = Some(ForwardPass::new(ops, model, &own.cache, tokens));
            }
            PassPart::Step(token) => {
                let pass = ForwardPass::with_room(ops, &model.config, 1);
                own.pass
                    .insert(pass)
                    .restart(ops, model, &own.cache, &[token]);
            }
            PassPart::Block(_) => {
                let pass = own.pass.as_mut().expect("a pass has begun");
                pass.advance(ops, model, &mut own.cache, &mut own.scratch, 1);
            }
            PassPart::Head => {
                let pass = own.pass.as_ref().expect("a pass has begun");
                pass.chunk_logits(ops, model, 0, &mut own.scratch, &mut own.logits);
            }
        }
        let mut outputs = block_on(ops.take_outputs())?;
        let attention = |plan: &ModelPlan, block: usize| {
            let hybrid = plan.blocks[block].hybrid;
            hybrid.map(|hybrid| plan.shared[hybrid.shared].attention.attention)
        };
        if let PassPart::Block(block) = part
            && let Some(attention) = attention(&model.plan, block)
            && let Some(kv) = self.new_kv(block, start)?
        {
            // At the position of the op that produced it.
            let at = outputs.iter().position(|y| y.name.module == attention);
            outputs.insert(at.unwrap_or(0), kv);
        }
        Ok(outputs)
    }

    fn logits(&mut self, prompt: &[u32], steps: &[u32]) -> Result<Vec<f32>> {
        self.pass = None;
        let mut logits = block_on(self.session.logits(prompt))?;
        for token in steps {
            logits.extend(block_on(self.session.append(&[*token]))?);
        }
        Ok(logits)
    }
}

/// All numbers of positions of a cache. // [positions, kv heads, 2 · head_dim]
fn kv_numbers<B: Device>(kv: &KvCache<B>, bytes: &[u8]) -> Vec<f32> {
    let heads = bytes.chunks(kv.format.head_bytes(kv.shape.head_dim));
    heads.flat_map(|head| kv.format.numbers(head)).collect()
}

/// Compares `tested` with `reference`. `on_pass` gets the number of passes done and the total.
///
/// # Errors
/// Models of different shapes, a prompt that one of them refuses, a failure of a device.
pub fn compare(
    reference: &mut dyn LockstepModel,
    tested: &mut dyn LockstepModel,
    options: &LockstepOptions,
    mut on_pass: impl FnMut(usize, usize),
) -> Result<Comparison> {
    check_same_shape(reference, tested)?;
    let prompt = options.prompt;
    let room = prompt.len() + options.n_steps;
    reference.begin(prompt, room)?;
    tested.begin(prompt, room)?;
    let n_passes = prompt.len().div_ceil(PASS_ROWS) + options.n_steps;
    let mut found = Found::new(options.tolerances);
    // The tokens of the decode steps, and the reference's most probable token after the last pass.
    let (mut steps, mut next) = (Vec::new(), 0);
    let mut position = 0;
    for pass in 0..n_passes {
        let rest = &prompt[position.min(prompt.len())..];
        let (begin, n_rows) = match &rest[..rest.len().min(PASS_ROWS)] {
            [] => {
                steps.push(next);
                (PassPart::Step(next), 1)
            }
            tokens => (PassPart::Prompt(tokens), tokens.len()),
        };
        let blocks = (0..reference.config().n_blocks()).map(PassPart::Block);
        for part in [begin].into_iter().chain(blocks).chain([PassPart::Head]) {
            let expected = reference.run(part, &[])?;
            let outputs = tested.run(part, &expected)?;
            found.add(
                reference.tree(),
                part,
                [&expected, &outputs],
                [position, n_rows],
            );
            if let (PassPart::Head, Some(logits)) = (part, expected.last()) {
                next = logits.values.chunks(logits.cols).last().map_or(0, argmax);
            }
        }
        position += n_rows;
        on_pass(pass + 1, n_passes);
    }
    finish(reference, tested, options, found, &steps)
}

fn check_same_shape(reference: &dyn LockstepModel, tested: &dyn LockstepModel) -> Result<()> {
    let shape = |model: &dyn LockstepModel| -> Vec<_> {
        let modules = model.tree().modules.iter();
        modules
            .map(|module| {
                let shapes = module.tensors.iter().map(|tensor| tensor.shape.clone());
                (module.path.clone(), shapes.collect::<Vec<_>>())
            })
            .collect()
    };
    if shape(reference) == shape(tested) {
        return Ok(());
    }
    Err(Error::Setting {
        name: "reference".into(),
        fact: Fact::new("other_shape"),
    })
}

/// The logits of both models on their own, if no module differs.
fn finish(
    reference: &mut dyn LockstepModel,
    tested: &mut dyn LockstepModel,
    options: &LockstepOptions,
    found: Found,
    steps: &[u32],
) -> Result<Comparison> {
    let prompt = options.prompt;
    let mut logits = None;
    if found.first.is_none() {
        let name = OutputName {
            module: reference.tree().modules[0].id,
            tensor: "logits",
        };
        let cols = reference.config().vocab_size;
        let [expected, outputs] = [
            reference.logits(prompt, steps)?,
            tested.logits(prompt, steps)?,
        ]
        .map(|values| Output { name, cols, values });
        let n_rows = prompt.len() + steps.len();
        let tolerance = options.tolerances.logits.unwrap_or(f64::INFINITY);
        let whole = (None, tolerance);
        logits = Some(difference(whole, &expected, &outputs, [0, n_rows]));
    }
    Ok(Comparison {
        tolerances: options.tolerances,
        prompt_tokens: prompt.len(),
        steps: steps.len(),
        first: found.first,
        modules: found.modules,
        logits,
    })
}
