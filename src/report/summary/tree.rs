//! One pass as a tree of modules, in the order in which they ran.

use std::collections::BTreeMap;

use crate::report::modules;
use crate::report::summary::figures::TreeNode;
use crate::report::summary::phase::Phase;
use crate::report::summary::recorded::{Modules, Passes, Times};
use crate::report::summary::spread::ascending;

/// The tree of the pass whose time is the median, or just below it. `profiled` are the times of all passes.
pub fn median_pass(phase: Phase, profiled: &[f64], tree: &Modules) -> Vec<TreeNode> {
    let order = ascending(profiled);
    let Some(&at) = order.get(order.len().saturating_sub(1) / 2) else {
        return Vec::new();
    };
    let steps = phase.run.decode_tokens;
    let (run, pass) = match phase.is_decode {
        true => (at / steps, 1 + at % steps),
        false => (at, 0),
    };
    let spans = &phase.run.runs[run].spans;
    let mut known = tree.clone();
    let times = Passes::new(phase.config, spans, &mut known).times(pass, tree);
    let tracked_us: f64 = times.values().map(|times| times.self_us).sum();
    let mut nodes = vec![TreeNode {
        path: "model".into(),
        name: "model".into(),
        class: "Zamba2ForCausalLM".into(),
        depth: 0,
        start_us: 0.0,
        us: profiled[at],
        self_us: profiled[at] - tracked_us,
        block: None,
    }];
    let children = children(&times, tree);
    // Depth first: the next node to visit is the last one.
    let mut open = placed(&children, &times, None, 1, 0.0);
    while let Some((node, depth, start_us)) = open.pop() {
        let module = &tree.nodes[node];
        nodes.push(TreeNode {
            path: module.path.clone(),
            name: modules::leaf(&module.path).into(),
            class: module.class.clone(),
            depth,
            start_us,
            us: times[&node].us,
            self_us: times[&node].self_us,
            block: module.block,
        });
        open.extend(placed(&children, &times, Some(node), depth + 1, start_us));
    }
    nodes
}

type Children = BTreeMap<Option<usize>, Vec<usize>>;

/// The modules of the pass by parent, in the order in which they ran.
fn children(times: &BTreeMap<usize, Times>, tree: &Modules) -> Children {
    let mut children = Children::new();
    for &node in times.keys() {
        let siblings = children.entry(tree.nodes[node].parent).or_default();
        siblings.push(node);
    }
    for siblings in children.values_mut() {
        siblings.sort_by_key(|node| times[node].first);
    }
    children
}

/// The children of `parent` with their depth and start, the last one first.
fn placed(
    children: &Children,
    times: &BTreeMap<usize, Times>,
    parent: Option<usize>,
    depth: usize,
    start_us: f64,
) -> Vec<(usize, usize, f64)> {
    let mut at_us = start_us;
    let siblings = children.get(&parent).into_iter().flatten();
    let mut placed: Vec<_> = siblings
        .map(|&node| {
            let place = (node, depth, at_us);
            at_us += times[&node].us;
            place
        })
        .collect();
    placed.reverse();
    placed
}
