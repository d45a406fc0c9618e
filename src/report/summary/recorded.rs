//! Maps spans to modules, and computes the times of every module in every pass.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::family;
use crate::model::config::Config;
use crate::model::module::{ModelPlan, Part};
use crate::ops::trace::ModuleId;
use crate::report::run::Spans;

#[derive(Clone)]
pub struct Module {
    /// `None` for a span that is not a module of the model; a file may contain any.
    pub id: Option<ModuleId>,
    pub path: String,
    /// The last component of the path.
    pub name: String,
    pub class: String,
    pub part: Part,
    /// Index of the parent, which is lower than the module's own.
    pub parent: Option<usize>,
    pub block: Option<usize>,
}

/// All modules with spans, and their ancestors. Parents come before their children.
#[derive(Clone)]
pub struct Modules {
    pub plan: Arc<ModelPlan>,
    pub nodes: Vec<Module>,
    pub by_path: HashMap<String, usize>,
    pub by_module: HashMap<ModuleId, usize>,
}

impl Modules {
    pub fn new(config: &Config) -> Modules {
        Modules {
            plan: Arc::new(family::full_plan(config)),
            nodes: Vec::new(),
            by_path: HashMap::new(),
            by_module: HashMap::new(),
        }
    }

    /// The node of the span `name` in block `block`, or outside of all blocks.
    fn of_span(&mut self, block: Option<usize>, name: &str) -> usize {
        if let Some(id) = self.plan.tree.by_span(block, name) {
            return self.of_module(id);
        }
        let around = block.map(|block| self.of_module(self.plan.blocks[block].block));
        let path = match around {
            Some(around) => format!("{}.{name}", self.nodes[around].path),
            None => name.into(),
        };
        if let Some(&node) = self.by_path.get(&path) {
            return node;
        }
        let last = name.rsplit('.').next().unwrap_or(name);
        self.push(Module {
            id: None,
            path,
            name: last.into(),
            class: last.into(),
            part: Part::Other,
            parent: around,
            block,
        })
    }

    fn of_module(&mut self, id: ModuleId) -> usize {
        if let Some(&node) = self.by_module.get(&id) {
            return node;
        }
        let plan = Arc::clone(&self.plan);
        let module = plan.tree.get(id);
        let parent = module.parent.map(|parent| self.of_module(parent));
        let node = self.push(Module {
            id: Some(id),
            path: module.path.clone(),
            name: plan.tree.name(id).into(),
            class: module.class.into(),
            part: module.part,
            parent,
            block: module.block,
        });
        self.by_module.insert(id, node);
        node
    }

    fn push(&mut self, module: Module) -> usize {
        self.by_path.insert(module.path.clone(), self.nodes.len());
        self.nodes.push(module);
        self.nodes.len() - 1
    }
}

/// The times of one module over all passes.
#[derive(Default)]
pub struct Samples {
    pub each_us: Vec<f64>,
    pub us: f64,
    pub self_us: f64,
    /// Per pass.
    pub calls: usize,
}

impl Samples {
    pub fn add(&mut self, times: Times, in_middle: bool) {
        self.each_us.push(times.us);
        self.calls = self.calls.max(times.calls);
        if in_middle {
            self.us += times.us;
            self.self_us += times.self_us;
        }
    }

    /// Adds zeros for passes without this module; `scale` converts sums into the times of one pass.
    pub fn finish(&mut self, passes: usize, scale: f64) {
        self.each_us.resize(passes, 0.0);
        self.us *= scale;
        self.self_us *= scale;
    }
}

/// A module in one pass.
#[derive(Clone, Copy, Default)]
pub struct Times {
    pub us: f64,
    pub self_us: f64,
    pub calls: usize,
    /// The row of its first span, or of the first one among its children.
    pub first: usize,
}

/// The spans of one run by pass, each with its module.
pub struct Passes<'a> {
    spans: &'a Spans,
    rows: Vec<Vec<usize>>, // [passes][spans of the pass]
    node: Vec<usize>,      // [spans]
}

impl<'a> Passes<'a> {
    /// Adds the modules of `spans` to `tree`.
    pub fn new(spans: &'a Spans, tree: &mut Modules) -> Passes<'a> {
        let names = spans.names.iter();
        let blocks: Vec<_> = names.map(|name| family::block_of_span(name)).collect();
        let mut block: Vec<Option<usize>> = Vec::with_capacity(spans.len());
        let mut known: HashMap<(Option<usize>, usize), usize> = HashMap::new();
        let mut passes = Passes {
            spans,
            rows: Vec::new(),
            node: Vec::with_capacity(spans.len()),
        };
        for row in 0..spans.len() {
            let name = spans.name[row];
            let parent = usize::try_from(spans.parent[row]).ok();
            let own = blocks[name].or(parent.and_then(|parent| block[parent]));
            block.push(own);
            let node = *known
                .entry((own, name))
                .or_insert_with(|| tree.of_span(own, &spans.names[name]));
            passes.node.push(node);
            let pass = spans.pass[row];
            if passes.rows.len() <= pass {
                passes.rows.resize_with(pass + 1, Vec::new);
            }
            passes.rows[pass].push(row);
        }
        passes
    }

    /// The modules of `pass`. The time of a module without spans is the sum of its children's.
    pub fn times(&self, pass: usize, tree: &Modules) -> BTreeMap<usize, Times> {
        let mut times = self.span_times(pass, tree);
        // A child's index is higher than its parent's, so in descending order children are complete before their
        // parent.
        let mut inside: BTreeMap<usize, (f64, usize)> = BTreeMap::new();
        let nodes: Vec<usize> = times.keys().copied().collect();
        for node in nodes.into_iter().rev() {
            let (inside_us, inside_calls) = inside.get(&node).copied().unwrap_or_default();
            let own = times.get_mut(&node).expect("it is one of the keys");
            if own.calls == 0 {
                (own.us, own.calls) = (inside_us, inside_calls);
            }
            own.self_us = own.us - inside_us;
            if let Some(parent) = tree.nodes[node].parent {
                let sum = inside.entry(parent).or_default();
                // The first child is visited last; a parent without spans gets that child's number of calls.
                *sum = (sum.0 + own.us, own.calls);
            }
        }
        times
    }

    /// Times of the modules that have spans, without those of their ancestors.
    fn span_times(&self, pass: usize, tree: &Modules) -> BTreeMap<usize, Times> {
        let mut times: BTreeMap<usize, Times> = BTreeMap::new();
        for &row in self.rows.get(pass).into_iter().flatten() {
            let first = Times {
                first: row,
                ..Times::default()
            };
            let own = times.entry(self.node[row]).or_insert(first);
            own.us += self.spans.duration_us[row];
            own.calls += 1;
            let mut outer = tree.nodes[self.node[row]].parent;
            while let Some(node) = outer {
                times.entry(node).or_insert(first);
                outer = tree.nodes[node].parent;
            }
        }
        times
    }
}
