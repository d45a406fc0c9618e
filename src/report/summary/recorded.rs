//! From spans to modules: which module each span belongs to, and the times of every module in every pass.

use std::collections::{BTreeMap, HashMap};

use crate::model::config::{BlockKind, Config};
use crate::report::modules;
use crate::report::run::Spans;

#[derive(Clone)]
pub struct Module {
    pub path: String,
    pub class: String,
    /// A lower index than the module's own.
    pub parent: Option<usize>,
    pub block: Option<usize>,
}

/// Every module that a span belongs to, and the modules around those. Parents come before their children.
#[derive(Clone, Default)]
pub struct Modules {
    pub nodes: Vec<Module>,
    pub by_path: HashMap<String, usize>,
}

impl Modules {
    fn node(&mut self, path: &str, block: Option<usize>, kinds: &[BlockKind]) -> usize {
        if let Some(&node) = self.by_path.get(path) {
            return node;
        }
        let parent = modules::parent(path).map(|outer| self.node(outer, block, kinds));
        self.nodes.push(Module {
            path: path.into(),
            class: modules::class(path, kinds).into(),
            parent,
            block,
        });
        self.by_path.insert(path.into(), self.nodes.len() - 1);
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

    /// Passes without this module took no time in it; `scale` turns sums into the times of one pass.
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
    /// The row of its first span or of the first one inside it.
    pub first: usize,
}

/// The spans of one run by pass, with the module of each.
pub struct Passes<'a> {
    spans: &'a Spans,
    rows: Vec<Vec<usize>>, // [passes][spans of the pass]
    node: Vec<usize>,      // [spans]
}

impl<'a> Passes<'a> {
    /// Adds the modules of `spans` to `tree`.
    pub fn new(config: &Config, spans: &'a Spans, tree: &mut Modules) -> Passes<'a> {
        let hybrids = config.hybrid_blocks();
        let names = spans.names.iter();
        let blocks: Vec<_> = names.map(|name| modules::block_of(name)).collect();
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
            let node = *known.entry((own, name)).or_insert_with(|| {
                let path = match own {
                    Some(own) if blocks[name].is_some() => format!("model.layers.{own}"),
                    Some(own) => {
                        let slot = hybrids.iter().position(|&hybrid| hybrid == own);
                        modules::path_in_block(own, slot, &spans.names[name])
                    }
                    None => modules::path_outside(&spans.names[name]),
                };
                tree.node(&path, own, &config.kinds)
            });
            passes.node.push(node);
            let pass = spans.pass[row];
            if passes.rows.len() <= pass {
                passes.rows.resize_with(pass + 1, Vec::new);
            }
            passes.rows[pass].push(row);
        }
        passes
    }

    /// The modules of `pass`. A module without a span of its own is as long as the modules inside it.
    pub fn times(&self, pass: usize, tree: &Modules) -> BTreeMap<usize, Times> {
        let mut times = self.span_times(pass, tree);
        // A child's index is above its parent's, so in descending order a module's children are complete before it.
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
                // The first child comes last; a parent without spans has as many calls as that child.
                *sum = (sum.0 + own.us, own.calls);
            }
        }
        times
    }

    /// Times of the modules that have spans of their own; the modules around them have none yet.
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
