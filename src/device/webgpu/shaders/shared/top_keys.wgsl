// PLACES keys with their tokens in workgroup memory. Keys have the order of logits, largest first; equal keys are
// ordered by token, lowest first. An empty entry has key 0, below every finite number. `top_sort.wgsl` or
// `top_best.wgsl` adds `bring_to_front`.
const NONE = 0xffffffffu;

var<workgroup> keys: array<u32, PLACES>;
var<workgroup> tokens: array<u32, PLACES>;
var<workgroup> sums: array<f32, SORT_THREADS>;
var<workgroup> faults: array<u32, SORT_THREADS>;

fn key_of(bits: u32) -> u32 {
    // −0 equals 0.
    if bits == 0x80000000u {
        return 0x80000000u;
    }
    return select(bits ^ 0x80000000u, ~bits, bits >= 0x80000000u);
}

fn number_of(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key ^ 0x80000000u, key >= 0x80000000u));
}

// exp(number − largest), clamped: a term that small does not change a sum of at least 1.
fn weight(key: u32, largest: f32) -> f32 {
    return exp(max(number_of(key) - largest, -80.0));
}

fn is_before(a: u32, b: u32) -> bool {
    return keys[a] > keys[b] || (keys[a] == keys[b] && tokens[a] < tokens[b]);
}

fn swap(a: u32, b: u32) {
    let key = keys[a];
    let token = tokens[a];
    keys[a] = keys[b];
    tokens[a] = tokens[b];
    keys[b] = key;
    tokens[b] = token;
}

// Reduces over all threads: the sum goes to sums[0], the lowest fault to faults[0].
fn reduce(lane: u32, sum: f32, fault: u32) {
    sums[lane] = sum;
    faults[lane] = fault;
    for (var half = SORT_THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            sums[lane] += sums[lane + half];
            faults[lane] = min(faults[lane], faults[lane + half]);
        }
    }
    workgroupBarrier();
}
