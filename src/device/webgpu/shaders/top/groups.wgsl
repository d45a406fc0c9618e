// For each group of PLACES logits: the k largest, the sum of exp(logit − largest), and the first that is not finite.
// One workgroup per group, which writes the sum, the fault, and key and token of each of the k.
@group(0) @binding(1) var<storage, read> logits: array<u32>; // [n_logits], as bits
@group(0) @binding(2) var<storage, read_write> groups: array<u32>; // [groups, GROUP_HEADER + 2k]

@compute @workgroup_size(SORT_THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var fault = NONE;
    for (var place = lane; place < PLACES; place += SORT_THREADS) {
        let token = id.x * PLACES + place;
        keys[place] = 0u;
        tokens[place] = NONE;
        if token < params.n_logits {
            let bits = logits[token];
            if (bits & 0x7f800000u) == 0x7f800000u {
                // Token and kind: 0 for a NaN, 1 for +∞, 2 for −∞.
                let is_infinite = (bits & 0x007fffffu) == 0u;
                fault = min(fault, 4u * token + select(0u, 1u + (bits >> 31u), is_infinite));
            } else {
                keys[place] = key_of(bits);
                tokens[place] = token;
            }
        }
    }
    bring_to_front(lane);
    let largest = number_of(keys[0]);
    var sum = 0.0;
    for (var place = lane; place < PLACES; place += SORT_THREADS) {
        if keys[place] != 0u {
            sum += weight(keys[place], largest);
        }
    }
    reduce(lane, sum, fault);
    let start = id.x * (GROUP_HEADER + 2u * params.k);
    if lane == 0u {
        groups[start] = bitcast<u32>(sums[0]);
        groups[start + 1u] = faults[0];
    }
    if lane < params.k {
        groups[start + GROUP_HEADER + 2u * lane] = keys[lane];
        groups[start + GROUP_HEADER + 2u * lane + 1u] = tokens[lane];
    }
}
