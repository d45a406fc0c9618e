// Causal attention of one query and head per workgroup, over blocks of THREADS positions with a running maximum
// (online softmax). In each block a thread first computes the score of one position, then adds up values in the columns
// of one unit of 16 bytes. With few queries the positions are split among workgroups as well (flash-decoding): each
// split leaves its largest score, its sum of exponentials and its sums of values in `parts`, and `merge.wgsl` combines
// them. Needs a `kv_*.wgsl` before it.
@group(0) @binding(1) var<storage, read> q: array<f32>; // [T, heads, d]
@group(0) @binding(2) var<storage, read> keys: array<KvUnit>; // [context, kv heads, units]
@group(0) @binding(3) var<storage, read> values: array<KvUnit>; // [context, kv heads, units]
@group(0) @binding(4) var<storage, read> scales: array<f32>; // [context, kv heads, 2], eight bits only
@group(0) @binding(5) var<storage, read_write> y: array<f32>; // [T, heads, d]
@group(0) @binding(6) var<storage, read_write> parts: array<f32>; // [T, heads, splits, PART_HEADER + d]

const MAX_FOURS = MAX_HEAD_DIM / 4u;
// Units of values per thread.
const PER_THREAD = (MAX_FOURS / KV_FOURS + THREADS - 1u) / THREADS;
const SUM_FOURS = PER_THREAD * KV_FOURS;
// Loads of a key that a thread has in flight.
const LOADS = 4u;
// Below every finite score.
const LOWEST = -3.4e38;
var<workgroup> query: array<vec4<f32>, MAX_FOURS>;
var<workgroup> scores: array<f32, THREADS>;
var<workgroup> weights: array<f32, THREADS>; // scores times the scales of the values
var<workgroup> partial: array<vec4<f32>, THREADS * KV_FOURS>;

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
fn score_of(row: u32) -> f32 {
    let start = row * params.n_units;
    var sums = vec4<f32>();
    for (var i = 0u; i < params.n_units; i += LOADS) {
        var units: array<KvUnit, LOADS>;
        // unroll
        for (var load = 0u; load < LOADS; load++) {
            // Units past the last one repeat it; the query is zero there.
            units[load] = keys[start + min(i + load, params.n_units - 1u)];
        }
        // unroll
        for (var load = 0u; load < LOADS; load++) {
            // unroll
            for (var k = 0u; k < KV_FOURS; k++) {
                sums = fma(query[(i + load) * KV_FOURS + k], kv_four(units[load], k), sums);
            }
        }
    }
    return dot(sums, vec4<f32>(1.0)) * scale_of(scales[2u * row]);
}

// The start of this split in `parts`.
fn part_start(id: vec3<u32>) -> u32 {
    return ((id.y * params.n_heads + id.x) * params.n_splits + id.z) * (PART_HEADER + params.head_dim);
}

// Adds up the sums of the groups of threads, and stores the result. Call from all threads.
fn add_up_groups(id: vec3<u32>, lane: u32, total: f32, sums: array<vec4<f32>, SUM_FOURS>) {
    let d = params.head_dim;
    let y_start = (id.y * params.n_heads + id.x) * d;
    let n_fours = params.column_threads * KV_FOURS;
    // unroll
    for (var i = 0u; i < PER_THREAD; i++) {
        // unroll
        for (var k = 0u; k < KV_FOURS; k++) {
            partial[lane * KV_FOURS + k] = sums[i * KV_FOURS + k];
        }
        workgroupBarrier();
        for (var at = lane; at < n_fours; at += THREADS) {
            var sum = partial[at];
            for (var other = 1u; other < THREADS / params.column_threads; other++) {
                sum += partial[other * n_fours + at];
            }
            let first_column = 4u * (i * THREADS * KV_FOURS + at);
            for (var c = 0u; c < 4u && first_column + c < d; c++) {
                if params.n_splits == 1u {
                    y[y_start + first_column + c] = sum[c] / total;
                } else {
                    parts[part_start(id) + PART_HEADER + first_column + c] = sum[c];
                }
            }
        }
        workgroupBarrier();
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let d = params.head_dim;
    let q_start = (id.y * params.n_heads + id.x) * d;
    let kv_head = id.x * params.n_kv_heads / params.n_heads;
    for (var i = lane; i < MAX_FOURS; i += THREADS) {
        query[i] = query_four(q_start, i);
    }
    workgroupBarrier();

    // Values: the threads of a group split the units of a position, and the groups split the positions of a block.
    let column = lane % params.column_threads;
    let group = lane / params.column_threads;
    let n_groups = THREADS / params.column_threads;
    let first = id.z * params.split_len;
    let end = min(params.n_visible + id.y, first + params.split_len);
    var peak = LOWEST;
    var total = 0.0;
    var sums: array<vec4<f32>, SUM_FOURS>;
    for (var start = first; start < end; start += THREADS) {
        let len = min(THREADS, end - start);
        var score = LOWEST;
        if lane < len {
            score = score_of((start + lane) * params.n_kv_heads + kv_head);
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
        let own = bounded_exp(score - new_peak);
        scores[lane] = own;
        if lane < len {
            weights[lane] = own * scale_of(scales[2u * ((start + lane) * params.n_kv_heads + kv_head) + 1u]);
        }
        workgroupBarrier();
        peak = new_peak;
        total *= rescale;
        for (var i = 0u; i < len; i++) {
            total += scores[i];
        }
        // unroll
        for (var i = 0u; i < SUM_FOURS; i++) {
            sums[i] *= rescale;
        }
        for (var j = group; j < len; j += n_groups) {
            let row = ((start + j) * params.n_kv_heads + kv_head) * params.n_units;
            let weight = weights[j];
            // unroll
            for (var i = 0u; i < PER_THREAD; i++) {
                let at = i * THREADS + column;
                if at < params.n_units {
                    let unit = values[row + at];
                    // unroll
                    for (var k = 0u; k < KV_FOURS; k++) {
                        sums[i * KV_FOURS + k] += weight * kv_four(unit, k);
                    }
                }
            }
        }
        workgroupBarrier();
    }

    add_up_groups(id, lane, total, sums);
    if params.n_splits > 1u && lane == 0u {
        let part = part_start(id);
        parts[part] = peak;
        parts[part + 1u] = total;
    }
}
