// Causal attention of one query and head per workgroup, over blocks of positions with a running maximum (online softmax).
// First a thread has a position and makes its score, then it has four columns and adds the values of some positions.
// Where there are few queries, the positions are split among workgroups too (flash-decoding), which leave what
// `attention_merge.wgsl` puts together. `kv_*.wgsl` comes before it. CPU twin: `cpu/attention.rs`.
// q, y [T, heads · d], parts [T, heads, splits, 2 + d]
struct Params {
    n_heads: u32,
    n_kv_heads: u32,
    head_dim: u32,
    // Positions that the first query sees; each one after it sees one more.
    seen: u32,
    scale: f32,
    n_splits: u32,
    split_len: u32,
    // Threads beside one another that have different columns: a power of two.
    column_threads: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> keys: array<KvFour>;
@group(0) @binding(3) var<storage, read> values: array<KvFour>;
@group(0) @binding(4) var<storage, read> scales: array<f32>; // [context, kv heads, 2], of eight bits only
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<storage, read_write> parts: array<f32>;

const THREADS = 64u;
// Heads of up to 512 columns; the host asserts it.
const WIDEST_FOURS = 128u;
const PER_THREAD = WIDEST_FOURS / THREADS;
// Below every score that is a number.
const LOWEST = -3.4e38;
var<workgroup> query: array<vec4<f32>, WIDEST_FOURS>;
var<workgroup> scores: array<f32, THREADS>;
var<workgroup> partial: array<vec4<f32>, THREADS>;

fn query_number(start: u32, column: u32) -> f32 {
    if column >= params.head_dim {
        return 0.0;
    }
    return q[start + column] * params.scale;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let d = params.head_dim;
    let n_fours = (d + 3u) / 4u;
    let q_start = (id.y * params.n_heads + id.x) * d;
    let kv_head = id.x * params.n_kv_heads / params.n_heads;
    for (var i = lane; i < n_fours; i += THREADS) {
        let c = q_start;
        query[i] = vec4<f32>(
            query_number(c, 4u * i), query_number(c, 4u * i + 1u),
            query_number(c, 4u * i + 2u), query_number(c, 4u * i + 3u),
        );
    }
    workgroupBarrier();

    // Threads of one group have the columns among them, and the groups the positions of a block.
    let column = lane % params.column_threads;
    let group = lane / params.column_threads;
    let n_groups = THREADS / params.column_threads;
    let first = id.z * params.split_len;
    let end = min(params.seen + id.y, first + params.split_len);
    var peak = LOWEST;
    var total = 0.0;
    var sums: array<vec4<f32>, PER_THREAD>;
    for (var start = first; start < end; start += THREADS) {
        let len = min(THREADS, end - start);
        var score = LOWEST;
        if lane < len {
            let row = (start + lane) * params.n_kv_heads + kv_head;
            score = 0.0;
            for (var i = 0u; i < n_fours; i++) {
                score += dot(query[i], four(keys[row * n_fours + i]));
            }
            score *= scale_of(scales[2u * row]);
        }
        scores[lane] = score;
        workgroupBarrier();
        var higher = peak;
        for (var i = 0u; i < len; i++) {
            higher = max(higher, scores[i]);
        }
        workgroupBarrier();
        // Nothing was kept before the first block, and the difference would leave f32.
        let kept = select(bounded_exp(peak - higher), 0.0, start == first);
        scores[lane] = bounded_exp(score - higher);
        workgroupBarrier();
        peak = higher;
        total *= kept;
        for (var i = 0u; i < len; i++) {
            total += scores[i];
        }
        for (var i = 0u; i < PER_THREAD; i++) {
            sums[i] *= kept;
        }
        for (var j = group; j < len; j += n_groups) {
            let row = (start + j) * params.n_kv_heads + kv_head;
            let weight = scores[j] * scale_of(scales[2u * row + 1u]);
            for (var i = 0u; i * THREADS + column < n_fours; i++) {
                sums[i] += weight * four(values[row * n_fours + i * THREADS + column]);
            }
        }
        workgroupBarrier();
    }

    let part = ((id.y * params.n_heads + id.x) * params.n_splits + id.z) * (d + 2u);
    for (var i = 0u; i < PER_THREAD; i++) {
        partial[lane] = sums[i];
        workgroupBarrier();
        let at = i * THREADS + column;
        if group == 0u && at < n_fours {
            var sum = sums[i];
            for (var other = 1u; other < n_groups; other++) {
                sum += partial[other * params.column_threads + column];
            }
            for (var k = 0u; k < 4u && 4u * at + k < d; k++) {
                if params.n_splits == 1u {
                    y[q_start + 4u * at + k] = sum[k] / total;
                } else {
                    parts[part + 2u + 4u * at + k] = sum[k];
                }
            }
        }
        workgroupBarrier();
    }
    if params.n_splits > 1u && lane == 0u {
        parts[part] = peak;
        parts[part + 1u] = total;
    }
}
