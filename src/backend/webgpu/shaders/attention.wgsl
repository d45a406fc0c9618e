// Causal attention of one query and head per workgroup, over blocks of positions with a running maximum (online softmax).
// First a thread has a position and makes its score, then it has columns and adds the values.
// q, y [T, heads · d], keys, values [context, kv heads · d]
struct Params {
    n_heads: u32,
    n_kv_heads: u32,
    head_dim: u32,
    // Positions that the first query sees; each one after it sees one more.
    seen: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> keys: array<f32>;
@group(0) @binding(3) var<storage, read> values: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

const THREADS = 64u;
// Heads of up to 512 columns; the host asserts it.
const WIDEST_HEAD = 512u;
const PER_THREAD = WIDEST_HEAD / THREADS;
// Below every score that is a number.
const LOWEST = -3.4e38;
var<workgroup> query: array<f32, WIDEST_HEAD>;
var<workgroup> scores: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let d = params.head_dim;
    let q_start = (id.y * params.n_heads + id.x) * d;
    let stride = params.n_kv_heads * d;
    let kv_start = id.x * params.n_kv_heads / params.n_heads * d;
    let seen = params.seen + id.y;
    for (var i = lane; i < d; i += THREADS) {
        query[i] = q[q_start + i] * params.scale;
    }
    workgroupBarrier();

    var peak = LOWEST;
    var total = 0.0;
    var sums: array<f32, PER_THREAD>;
    for (var start = 0u; start < seen; start += THREADS) {
        let len = min(THREADS, seen - start);
        var score = LOWEST;
        if lane < len {
            let key = (start + lane) * stride + kv_start;
            score = 0.0;
            for (var i = 0u; i < d; i++) {
                score += query[i] * keys[key + i];
            }
        }
        scores[lane] = score;
        workgroupBarrier();
        var higher = peak;
        for (var i = 0u; i < len; i++) {
            higher = max(higher, scores[i]);
        }
        workgroupBarrier();
        // Nothing was kept before the first block, and the difference would leave f32.
        let kept = select(bounded_exp(peak - higher), 0.0, start == 0u);
        scores[lane] = bounded_exp(score - higher);
        workgroupBarrier();
        peak = higher;
        total *= kept;
        for (var i = 0u; i < PER_THREAD; i++) {
            sums[i] *= kept;
        }
        for (var j = 0u; j < len; j++) {
            let weight = scores[j];
            let value = (start + j) * stride + kv_start;
            total += weight;
            for (var i = 0u; i * THREADS + lane < d; i++) {
                sums[i] += weight * values[value + i * THREADS + lane];
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i * THREADS + lane < d; i++) {
        y[q_start + i * THREADS + lane] = sums[i] / total;
    }
}
