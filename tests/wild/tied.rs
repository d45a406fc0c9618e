//! Tied and untied is decided tensor by tensor, by what is stored and not by the flag (W01 to W04).

use super::*;

const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

fn shared(block: usize) -> String {
    format!("model.layers.{block}.shared_transformer.")
}

impl Net {
    fn hybrids(&self) -> Vec<usize> {
        let kinds = self.config["layers_block_type"].as_array().unwrap();
        (0..kinds.len())
            .filter(|&block| kinds[block] == "hybrid")
            .collect()
    }

    /// The blocks that may share a transformer with `block`.
    fn callers(&self, block: usize) -> Vec<usize> {
        let hybrids = self.hybrids();
        let n_groups = self.config["num_mem_blocks"].as_u64().unwrap() as usize;
        let ordinal = hybrids.iter().position(|&hybrid| hybrid == block).unwrap();
        hybrids
            .into_iter()
            .skip(ordinal % n_groups)
            .step_by(n_groups)
            .collect()
    }

    /// The same model with every tensor under every name that it may have: nothing is left to decide but by the names.
    fn explicit(&self) -> Net {
        let mut all = self.clone();
        for block in self.hybrids() {
            let callers = self.callers(block);
            let leaves = self.tensors.keys().filter_map(|name| {
                callers
                    .iter()
                    .find_map(|&caller| name.strip_prefix(&shared(caller)))
            });
            for leaf in leaves {
                let mut names = callers.iter().map(|&caller| shared(caller) + leaf);
                let first = names.find_map(|name| self.tensors.get(&name)).unwrap();
                all.tensors
                    .entry(shared(block) + leaf)
                    .or_insert(first.clone());
            }
        }
        for (absent, there) in [(HEAD, EMBEDDING), (EMBEDDING, HEAD)] {
            if let Some(stored) = self.tensors.get(there) {
                all.tensors.entry(absent.into()).or_insert(stored.clone());
            }
        }
        all.with("tie_word_embeddings", false)
    }

    /// A number of a matrix in bf16 becomes another.
    fn change(&mut self, name: &str) {
        let stored = self
            .tensors
            .get_mut(name)
            .unwrap_or_else(|| panic!("{name}"));
        assert_eq!(stored.dtype, "BF16");
        // The sign of a number that is none of zero.
        let at = stored.bytes.chunks(2).position(|number| number != [0, 0]);
        stored.bytes[2 * at.unwrap() + 1] ^= 0x80;
    }

    /// A net with four calls of one shared transformer.
    fn of_four_calls() -> Net {
        let net = Net::read(&wild("../two_blocks_no_rope")).with("num_mem_blocks", 1);
        assert_eq!(net.hybrids().len(), 4);
        net
    }
}

/// Both have the same numbers to the bit, in the exact format and in those where copies that differ may become equal.
fn assert_same(net: &Net, other: &Net, what: &str) {
    let (net, other) = (net.write(), other.write());
    for format in [WeightFormat::F32, WeightFormat::Q8, WeightFormat::Q4] {
        let (ours, theirs) = (logits(net.path(), format), logits(other.path(), format));
        assert!(ours == theirs, "{what} at {}", format.name());
    }
}

fn size(net: &Net) -> (u64, u64) {
    let session = opened(net.write().path(), WeightFormat::Q8);
    (session.weights_bytes(), session.schedule().parameters)
}

#[test]
fn a_head_that_is_not_the_embedding_is_kept_though_the_flag_ties_them() {
    for name in ["head_is_minus_embedding", "head_differs_in_one_row"] {
        assert_eq!(Net::wild(name).config["tie_word_embeddings"], true);
        assert_reference(&wild(name), name);
    }
}

#[test]
fn a_copy_of_the_shared_transformer_that_differs_belongs_to_its_own_call_with_its_adapters() {
    assert_reference(
        &wild("second_call_has_its_own_block"),
        "second_call_has_its_own_block",
    );
}

#[test]
fn any_member_of_a_tied_group_stands_for_all() {
    for name in ["block_under_second_layer", "head_without_embedding"] {
        assert_reference(&wild(name), name);
    }
}

#[test]
fn copies_that_are_equal_are_held_once() {
    let name = "all_copies_equal";
    assert_reference(&wild(name), name);
    let copies = Net::wild(name);
    let mut once = copies.clone();
    let (_, second_caller) = (copies.hybrids()[0], copies.callers(copies.hybrids()[0])[1]);
    once.tensors
        .retain(|name, _| !name.starts_with(&shared(second_caller)));
    assert!(once.tensors.len() < copies.tensors.len());
    // Vectors of the second copy are f32 and a few: no matrix is there twice.
    let ((bytes, parameters), (bytes_once, parameters_once)) = (size(&copies), size(&once));
    let vectors = copies.tensors.iter().filter(|(name, stored)| {
        name.starts_with(&shared(second_caller)) && stored.shape.len() == 1
    });
    let n: usize = vectors.map(|(_, stored)| stored.shape[0]).sum();
    assert_eq!(bytes, bytes_once + 4 * n as u64);
    assert_eq!(parameters, parameters_once + n as u64);
}

#[test]
fn a_checkpoint_with_every_name_takes_the_memory_of_one_with_each_tensor_once() {
    for net in [
        Net::of_four_calls(),
        Net::wild("all_copies_equal"),
        Net::wild("head_without_embedding"),
    ] {
        let explicit = net.explicit();
        assert_same(&net, &explicit, "every name");
        let (once, all) = (size(&net).0, size(&explicit).0);
        // Norms are f32 vectors, and stay with their calls.
        assert!(all < once + once / 50, "{all} and {once}");
    }
}

#[test]
fn the_flag_decides_nothing() {
    for name in [
        "head_is_minus_embedding",
        "second_call_has_its_own_block",
        "block_under_second_layer",
    ] {
        let net = Net::wild(name);
        assert_same(&net, &net.clone().with("tie_word_embeddings", false), name);
    }
}

#[test]
fn each_tensor_is_decided_by_itself() {
    let copies = Net::wild("all_copies_equal");
    let second = shared(copies.callers(copies.hybrids()[0])[1]);
    let (bytes, _) = size(&copies);
    for leaf in [
        "self_attn.q_proj.weight",
        "self_attn.o_proj.weight",
        "feed_forward.gate_up_proj.weight",
        "feed_forward.down_proj.weight",
        "input_layernorm.weight",
        "pre_ff_layernorm.weight",
    ] {
        let mut net = copies.clone();
        net.change(&(second.clone() + leaf));
        // Alone, too: the others are absent under the second call.
        let mut alone = net.clone();
        alone.tensors.retain(|name, _| {
            !name.starts_with(&second) || name.ends_with(leaf) || name.contains("_adapter_list")
        });
        assert_same(&net, &alone, leaf);
        assert_same(&net, &net.explicit(), leaf);
        let (net, copies) = (net.write(), copies.write());
        assert_ne!(
            logits(net.path(), WeightFormat::F32),
            logits(copies.path(), WeightFormat::F32),
            "{leaf}"
        );
        let stored = &Net::read(net.path()).tensors[&(second.clone() + leaf)];
        let session = opened(net.path(), WeightFormat::F32);
        let own = match stored.shape.len() {
            1 => 0,
            _ => 4 * stored.shape.iter().product::<usize>() as u64,
        };
        let shared_bytes = opened(copies.path(), WeightFormat::F32).weights_bytes();
        assert_eq!(session.weights_bytes(), shared_bytes + own, "{leaf}");
    }
    assert!(bytes > 0);
}

#[test]
fn a_call_has_its_own_adapter_where_its_block_stores_one() {
    let net = Net::wild("second_call_has_its_own_block").explicit();
    let second = net.hybrids()[1];
    for leaf in [
        "self_attn.linear_k_adapter_list",
        "feed_forward.gate_up_proj_adapter_list",
    ] {
        let own = |slot: usize| format!("{}{leaf}.{slot}.1.weight", shared(second));
        let mut changed = net.clone();
        changed.change(&own(1));
        let (before, after) = (net.write(), changed.write());
        let format = WeightFormat::F32;
        assert_ne!(
            logits(before.path(), format),
            logits(after.path(), format),
            "{leaf}"
        );
        // The slot of the first call is used by the first call only, which has one of its own.
        let mut other_slot = net.clone();
        other_slot.change(&own(0));
        assert_same(&net, &other_slot, leaf);
        // Absent, it is the other block's.
        let mut absent = net.clone();
        absent.tensors.remove(&own(1));
        assert_same(&absent, &absent.explicit(), leaf);
    }
}

#[test]
fn members_that_are_spread_over_the_calls_make_one_model() {
    let net = Net::of_four_calls();
    let first = net.hybrids()[0];
    let callers = net.callers(first);
    let once = {
        let mut once = net.clone();
        once.tensors.retain(|name, _| {
            !callers[1..]
                .iter()
                .any(|&caller| name.starts_with(&shared(caller)))
                || name.contains("_adapter_list")
        });
        once
    };
    let mut spread = once.clone();
    let leaves: Vec<String> = once
        .tensors
        .keys()
        .filter_map(|name| name.strip_prefix(&shared(first)).map(str::to_owned))
        .collect();
    for (i, leaf) in leaves.iter().enumerate() {
        let stored = spread.tensors.remove(&(shared(first) + leaf)).unwrap();
        spread
            .tensors
            .insert(shared(callers[i % callers.len()]) + leaf, stored);
    }
    assert_same(&once, &spread, "spread");
    assert_eq!(size(&once), size(&spread));
    assert_same(&spread, &spread.explicit(), "spread and explicit");
}

#[test]
fn a_copy_that_differs_serves_its_own_call_and_no_later_one() {
    let net = Net::of_four_calls();
    let callers = net.callers(net.hybrids()[0]);
    let mut own = net.clone();
    let leaf = "self_attn.v_proj.weight";
    let mut third = net.tensors[&(shared(callers[0]) + leaf)].clone();
    third.bytes = third.bytes.chunks(2).rev().collect::<Vec<_>>().concat();
    own.tensors.insert(shared(callers[2]) + leaf, third.clone());
    assert_same(&own, &own.explicit(), "the third call's own");
    // The fourth call goes on with the first one's, unless it stores the same as the third.
    let mut both = own.clone();
    both.tensors.insert(shared(callers[3]) + leaf, third);
    let (own, both) = (own.write(), both.write());
    let format = WeightFormat::F32;
    assert_ne!(logits(own.path(), format), logits(both.path(), format));
    let bytes = [own, both].map(|dir| opened(dir.path(), format).weights_bytes());
    assert_eq!(
        bytes[0], bytes[1],
        "two equal copies are held once though the first differs"
    );
}

#[test]
fn numbers_are_compared_and_not_their_dtype() {
    let mut net = Net::wild("head_without_embedding");
    let head = net.tensors[HEAD].clone();
    let (bytes, _) = size(&net);
    let wide = head
        .bytes
        .chunks(2)
        .flat_map(|half| [0, 0, half[0], half[1]]);
    let embedding = Stored {
        dtype: "F32".into(),
        bytes: wide.collect(),
        shape: head.shape,
    };
    net.tensors.insert(EMBEDDING.into(), embedding);
    assert_reference(net.write().path(), "head_without_embedding");
    assert_eq!(size(&net).0, bytes);
}

#[test]
fn a_packed_folder_decides_as_its_checkpoint_did() {
    for name in [
        "second_call_has_its_own_block",
        "all_copies_equal",
        "head_differs_in_one_row",
    ] {
        for format in [WeightFormat::Q8, WeightFormat::Q4] {
            let out = TempDir::new().unwrap();
            folder::pack(
                Cpu::new(1),
                &wild(name),
                out.path(),
                settings(format),
                |_, _| {},
            )
            .unwrap();
            assert_eq!(
                logits(out.path(), format),
                logits(&wild(name), format),
                "{name}"
            );
            let sizes = [out.path(), &wild(name)].map(|dir| opened(dir, format).weights_bytes());
            assert_eq!(sizes[0], sizes[1], "{name}");
        }
    }
}

#[test]
fn a_group_without_any_member_is_missed_by_the_name_that_the_reference_saves() {
    let mut net = Net::wild("block_under_second_layer");
    net.tensors.retain(|name, _| !name.contains("q_proj"));
    match refusal(net.write().path()) {
        Error::MissingTensor { tensor, .. } => {
            assert_eq!(
                tensor,
                format!("{}self_attn.q_proj.weight", shared(net.hybrids()[0]))
            );
        }
        other => panic!("{other:?}"),
    }
}
