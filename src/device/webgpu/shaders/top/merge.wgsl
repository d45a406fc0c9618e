// Merges the groups of `groups.wgsl` into one list in the layout of `Top` (Rust). One workgroup, which repeatedly
// orders the best so far together with as many candidates as fit.
@group(0) @binding(1) var<storage, read> groups: array<u32>; // [groups, GROUP_HEADER + 2k]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [TOP_HEADER + 2k]

@compute @workgroup_size(SORT_THREADS)
fn main(@builtin(local_invocation_index) lane: u32) {
    let k = params.k;
    let stride = GROUP_HEADER + 2u * k;
    if lane < k {
        keys[lane] = 0u;
        tokens[lane] = NONE;
    }
    let n_candidates = params.n_groups * k;
    for (var first = 0u; first < n_candidates; first += PLACES - k) {
        for (var place = k + lane; place < PLACES; place += SORT_THREADS) {
            let candidate = first + place - k;
            keys[place] = 0u;
            tokens[place] = NONE;
            if candidate < n_candidates {
                let at = candidate / k * stride + GROUP_HEADER + 2u * (candidate % k);
                keys[place] = groups[at];
                tokens[place] = groups[at + 1u];
            }
        }
        bring_to_front(lane);
    }
    let largest = number_of(keys[0]);
    var sum = 0.0;
    var fault = NONE;
    for (var group = lane; group < params.n_groups; group += SORT_THREADS) {
        let key = groups[group * stride + GROUP_HEADER];
        if key != 0u {
            sum += bitcast<f32>(groups[group * stride]) * weight(key, largest);
        }
        fault = min(fault, groups[group * stride + 1u]);
    }
    reduce(lane, sum, fault);
    if lane == 0u {
        let kind = faults[0] % 4u;
        y[0] = sums[0];
        y[1] = select(f32(faults[0] / 4u), -1.0, faults[0] == NONE);
        y[CHOSEN] = select(f32(tokens[0]), 0.0, tokens[0] == NONE);
        y[2] = select(select(-1.0, 1.0, kind == 1u), 0.0, kind == 0u);
    }
    if lane < k {
        let is_token = tokens[lane] != NONE;
        let at = TOP_HEADER + 2u * lane;
        y[at] = select(-1.0, f32(tokens[lane]), is_token);
        y[at + 1u] = 0.0;
        if is_token {
            y[at + 1u] = number_of(keys[lane]);
        }
    }
}
