//! Tied tensors: the embedding and the output matrix, and the tensors of a shared transformer under every block that
//! calls it. Each name is resolved separately, as in the reference. A name that the checkpoint does not store uses the
//! first stored tensor of its group. A name that it stores uses its own tensor; if two stored tensors are equal, they
//! share one weight in memory, which the loader finds out while they stream. `tie_word_embeddings` decides nothing.

use std::collections::{HashMap, HashSet};

use crate::family::zamba2::{EMBEDDING, LM_HEAD, block_of_name, shared_path};
use crate::model::config::Config;
use crate::model::module::Origin;

/// The names of tied tensors that a checkpoint has.
pub struct Tying<'a> {
    /// The blocks that call each shared transformer; hybrid blocks call them in turn.
    callers: Vec<Vec<usize>>,
    has: &'a dyn Fn(&str) -> bool,
    /// By the name of a group's first member.
    groups: HashMap<String, Group>,
    /// Names that a module already reads.
    read: HashSet<String>,
}

/// The members of a group that the checkpoint has.
struct Group {
    /// The member whose tensor the absent ones use: the first present one or, if none is present, the first of all,
    /// which the reference saves.
    stands_for_absent: String,
    has_several: bool,
}

impl<'a> Tying<'a> {
    pub fn new(config: &Config, has: &'a dyn Fn(&str) -> bool) -> Tying<'a> {
        let hybrids = config.hybrid_blocks();
        let n_groups = config.num_mem_blocks.min(hybrids.len());
        let every = |first| hybrids.iter().skip(first).step_by(config.num_mem_blocks);
        Tying {
            callers: (0..n_groups)
                .map(|first| every(first).copied().collect())
                .collect(),
            has,
            groups: HashMap::new(),
            read: HashSet::new(),
        }
    }

    /// The name under which the tensor `name` is to be read, and how the module gets it.
    pub fn resolve(&mut self, name: String) -> (String, Origin) {
        let is_there = (self.has)(&name);
        let (stored, has_several) = match self.group(&name) {
            Some(group) if is_there => (name, group.has_several),
            Some(group) => (group.stands_for_absent.clone(), group.has_several),
            None => (name, false),
        };
        let origin = if !self.read.insert(stored.clone()) {
            Origin::Earlier
        } else if has_several {
            Origin::Compared
        } else {
            Origin::Read
        };
        (stored, origin)
    }

    /// The group of `name`; none for a tensor that is not tied.
    fn group(&mut self, name: &str) -> Option<&Group> {
        let members: Box<dyn Iterator<Item = String>> = if name == EMBEDDING || name == LM_HEAD {
            Box::new([EMBEDDING, LM_HEAD].map(str::to_owned).into_iter())
        } else {
            let (block, leaf) = shared_leaf(name)?;
            let callers = self.callers.iter().find(|blocks| blocks.contains(&block))?;
            let of_caller = move |&block: &usize| format!("{}.{leaf}", shared_path(block));
            Box::new(callers.iter().map(of_caller))
        };
        let mut members = members.peekable();
        let first = members.peek()?.clone();
        let has = self.has;
        Some(self.groups.entry(first).or_insert_with_key(|first| {
            let mut there = members.filter(|name| has(name));
            Group {
                stands_for_absent: there.next().unwrap_or_else(|| first.clone()),
                // An adapter is read by a single call only, so sharing it saves nothing.
                has_several: !name.contains(ADAPTERS) && there.next().is_some(),
            }
        }))
    }
}

/// A fragment of the names of all adapters' tensors.
const ADAPTERS: &str = "_adapter_list.";

/// Whether the reference saves the tensor `name` of a tied model: the first name of its group.
pub fn is_first_of_group(config: &Config, name: &str) -> bool {
    let Some((block, _)) = shared_leaf(name) else {
        return name != LM_HEAD;
    };
    let hybrids = config.hybrid_blocks();
    let mut firsts = hybrids.iter().take(config.num_mem_blocks);
    firsts.any(|&first| first == block)
}

/// Block and rest of the name of a shared transformer's tensor.
fn shared_leaf(name: &str) -> Option<(usize, &str)> {
    let block = block_of_name(name)?;
    let leaf = name.strip_prefix(&shared_path(block))?.strip_prefix('.')?;
    Some((block, leaf))
}
