// Causal attention of one query and head per workgroup, over blocks of THREADS positions with a running maximum
// (online softmax). In each block a thread first computes the score of one position, then adds up values in four
// columns. With few queries the positions are split among workgroups as well (flash-decoding): each split leaves its
// largest score, its sum of exponentials and its sums of values in `parts`, and `merge.wgsl` combines them.
@group(0) @binding(1) var<storage, read> q: array<f32>; // [T, heads, d]
@group(0) @binding(2) var<storage, read> keys: array<KvFour>; // [context, kv heads, ⌈d / 4⌉]
@group(0) @binding(3) var<storage, read> values: array<KvFour>; // [context, kv heads, ⌈d / 4⌉]
@group(0) @binding(4) var<storage, read> scales: array<f32>; // [context, kv heads, 2], eight bits only
@group(0) @binding(5) var<storage, read_write> y: array<f32>; // [T, heads, d]
@group(0) @binding(6) var<storage, read_write> parts: array<f32>; // [T, heads, splits, PART_HEADER + d]

const MAX_FOURS = MAX_HEAD_DIM / 4u;
const PER_THREAD = MAX_FOURS / THREADS;
// Below every finite score.
const LOWEST = -3.4e38;
var<workgroup> query: array<vec4<f32>, MAX_FOURS>;
var<workgroup> scores: array<f32, THREADS>;
var<workgroup> partial: array<vec4<f32>, THREADS>;

fn query_number(start: u32, column: u32) -> f32 {
    if column >= params.head_dim {
        return 0.0;
    }
    return q[start + column] * params.scale;
}

fn query_four(start: u32, i: u32) -> vec4<f32> {
    return vec4<f32>(
        query_number(start, 4u * i), query_number(start, 4u * i + 1u),
        query_number(start, 4u * i + 2u), query_number(start, 4u * i + 3u),
    );
}

// Score of the key at `row` of the cache.
fn score_of(row: u32, n_fours: u32) -> f32 {
    var score = 0.0;
    for (var i = 0u; i < n_fours; i++) {
        score += dot(query[i], four(keys[row * n_fours + i]));
    }
    return score * scale_of(scales[2u * row]);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let d = params.head_dim;
    let n_fours = (d + 3u) / 4u;
    let q_start = (id.y * params.n_heads + id.x) * d;
    let kv_head = id.x * params.n_kv_heads / params.n_heads;
    for (var i = lane; i < n_fours; i += THREADS) {
        query[i] = query_four(q_start, i);
    }
    workgroupBarrier();

    // Values: the threads of a group split the columns, and the groups split the positions of a block.
    let column = lane % params.column_threads;
    let group = lane / params.column_threads;
    let n_groups = THREADS / params.column_threads;
    let first = id.z * params.split_len;
    let end = min(params.n_visible + id.y, first + params.split_len);
    var peak = LOWEST;
    var total = 0.0;
    var sums: array<vec4<f32>, PER_THREAD>;
    for (var start = first; start < end; start += THREADS) {
        let len = min(THREADS, end - start);
        var score = LOWEST;
        if lane < len {
            score = score_of((start + lane) * params.n_kv_heads + kv_head, n_fours);
        }
        scores[lane] = score;
        workgroupBarrier();
        var new_peak = peak;
        for (var i = 0u; i < len; i++) {
            new_peak = max(new_peak, scores[i]);
        }
        workgroupBarrier();
        // Before the first block there are no sums to rescale, and the difference of peaks would overflow.
        let rescale = select(bounded_exp(peak - new_peak), 0.0, start == first);
        scores[lane] = bounded_exp(score - new_peak);
        workgroupBarrier();
        peak = new_peak;
        total *= rescale;
        for (var i = 0u; i < len; i++) {
            total += scores[i];
        }
        for (var i = 0u; i < PER_THREAD; i++) {
            sums[i] *= rescale;
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

    // Adds up the groups, one vector of columns per thread at a time.
    let part = ((id.y * params.n_heads + id.x) * params.n_splits + id.z) * (PART_HEADER + d);
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
                    parts[part + PART_HEADER + 4u * at + k] = sum[k];
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
