// The k largest of each 1024 logits, their sum of exp(logit − largest), and the first that is not finite. One workgroup for
// each group; `top_sort.wgsl` comes before it. // logits [n] as bits, groups [groups, 2 + 2k]
struct Params {
    n: u32,
    k: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<u32>;
@group(0) @binding(2) var<storage, read_write> groups: array<u32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var fault = NONE;
    for (var place = lane; place < PLACES; place += THREADS) {
        let token = id.x * PLACES + place;
        keys[place] = 0u;
        tokens[place] = NONE;
        if token < params.n {
            let bits = logits[token];
            if (bits & 0x7f800000u) == 0x7f800000u {
                // 0 for a NaN, 1 and 2 for the infinities.
                let is_infinite = (bits & 0x007fffffu) == 0u;
                fault = min(fault, 4u * token + select(0u, 1u + (bits >> 31u), is_infinite));
            } else {
                keys[place] = key_of(bits);
                tokens[place] = token;
            }
        }
    }
    sort(lane);
    let largest = number_of(keys[0]);
    var sum = 0.0;
    for (var place = lane; place < PLACES; place += THREADS) {
        if keys[place] != 0u {
            sum += weight(keys[place], largest);
        }
    }
    gather(lane, sum, fault);
    let start = id.x * (BEFORE_KEYS + 2u * params.k);
    if lane == 0u {
        groups[start] = bitcast<u32>(sums[0]);
        groups[start + 1u] = faults[0];
    }
    if lane < params.k {
        groups[start + BEFORE_KEYS + 2u * lane] = keys[lane];
        groups[start + BEFORE_KEYS + 2u * lane + 1u] = tokens[lane];
    }
}
