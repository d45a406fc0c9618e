// A bitonic sort of keys and their tokens in the memory of one workgroup, for the kernels that come after it. A key orders
// as its number does, the largest first, and among equals the lowest token; an empty place has key 0, below all numbers.
const THREADS = 256u;
const PLACES = 1024u;
const NONE = 0xffffffffu;
// Numbers of a group's result before its keys: the sum of its weights, and its fault.
const BEFORE_KEYS = 2u;

var<workgroup> keys: array<u32, PLACES>;
var<workgroup> tokens: array<u32, PLACES>;
var<workgroup> sums: array<f32, THREADS>;
var<workgroup> faults: array<u32, THREADS>;

fn key_of(bits: u32) -> u32 {
    // −0 is 0.
    if bits == 0x80000000u {
        return 0x80000000u;
    }
    return select(bits ^ 0x80000000u, ~bits, bits >= 0x80000000u);
}

fn number_of(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key ^ 0x80000000u, key >= 0x80000000u));
}

// exp(number − largest); below the bound it adds nothing to a sum that is at least 1.
fn weight(key: u32, largest: f32) -> f32 {
    return exp(max(number_of(key) - largest, -80.0));
}

fn is_before(a: u32, b: u32) -> bool {
    return keys[a] > keys[b] || (keys[a] == keys[b] && tokens[a] < tokens[b]);
}

fn sort(lane: u32) {
    for (var size = 2u; size <= PLACES; size *= 2u) {
        for (var distance = size / 2u; distance > 0u; distance /= 2u) {
            workgroupBarrier();
            for (var pair = lane; pair < PLACES / 2u; pair += THREADS) {
                let low = 2u * pair - pair % distance;
                let high = low + distance;
                let is_descending = (low & size) == 0u;
                if is_before(high, low) == is_descending {
                    let key = keys[low];
                    let token = tokens[low];
                    keys[low] = keys[high];
                    tokens[low] = tokens[high];
                    keys[high] = key;
                    tokens[high] = token;
                }
            }
        }
    }
    workgroupBarrier();
}

// Leaves the sum and the least fault of all threads in the first places.
fn gather(lane: u32, sum: f32, fault: u32) {
    sums[lane] = sum;
    faults[lane] = fault;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            sums[lane] += sums[lane + half];
            faults[lane] = min(faults[lane], faults[lane + half]);
        }
    }
    workgroupBarrier();
}
