// Causal attention of QUERIES queries and one head per workgroup, over blocks of THREADS positions with a running
// maximum (online softmax). In each block a thread first computes the scores of one position, then adds up values in
// the columns of one unit of 16 bytes; the queries share each read. With few queries the positions are split among
// workgroups as well (flash-decoding): each split leaves its largest score, its sum of exponentials and its sums of
// values in `parts`, and `merge.wgsl` combines them. Needs a `kv_*.wgsl` before it.
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
// A number of each query, of which there are at most four. One read gives them all.
alias PerQuery = vec4<f32>;
// Sums of values of each query.
alias Sums = array<vec4<f32>, QUERIES * SUM_FOURS>;
var<workgroup> queries: array<vec4<f32>, QUERIES * MAX_FOURS>;
var<workgroup> scores: array<PerQuery, THREADS>;
var<workgroup> weights: array<PerQuery, THREADS>; // exponentials of the scores times the scales of the values
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

// Scores of the key at `row` of the cache.
fn scores_of(row: u32) -> PerQuery {
    let start = row * params.n_units;
    var sums: array<vec4<f32>, QUERIES>;
    for (var i = 0u; i < params.n_units; i += LOADS) {
        var units: array<KvUnit, LOADS>;
        // unroll
        for (var load = 0u; load < LOADS; load++) {
            // Units past the last one repeat it; the queries are zero there.
            units[load] = keys[start + min(i + load, params.n_units - 1u)];
        }
        // unroll
        for (var load = 0u; load < LOADS; load++) {
            // unroll
            for (var k = 0u; k < KV_FOURS; k++) {
                let four = kv_four(units[load], k);
                // unroll
                for (var j = 0u; j < QUERIES; j++) {
                    sums[j] = fma(queries[j * MAX_FOURS + (i + load) * KV_FOURS + k], four, sums[j]);
                }
            }
        }
    }
    let scale = scale_of(scales[2u * row]);
    var found: PerQuery;
    // unroll
    for (var j = 0u; j < QUERIES; j++) {
        found[j] = dot(sums[j], vec4<f32>(1.0)) * scale;
    }
    return found;
}

// The start of a query's split in `parts`.
fn part_start(id: vec3<u32>, query: u32) -> u32 {
    return ((query * params.n_heads + id.x) * params.n_splits + id.z) * (PART_HEADER + params.head_dim);
}

fn store_header(id: vec3<u32>, lane: u32, query: u32, peak: f32, total: f32) {
    if params.n_splits > 1u && lane == 0u && query < params.n_queries {
        let part = part_start(id, query);
        parts[part] = peak;
        parts[part + 1u] = total;
    }
}

// Adds up the sums of the groups of threads for one query, and stores the result. Call from all threads.
fn add_up_groups(id: vec3<u32>, lane: u32, query: u32, total: f32, sums: array<vec4<f32>, SUM_FOURS>) {
    let d = params.head_dim;
    let y_start = (query * params.n_heads + id.x) * d;
    let n_fours = params.column_threads * KV_FOURS;
    // unroll
    for (var i = 0u; i < PER_THREAD; i++) {
        // unroll
        for (var k = 0u; k < KV_FOURS; k++) {
            partial[lane * KV_FOURS + k] = sums[i * KV_FOURS + k];
        }
        workgroupBarrier();
        for (var at = lane; at < n_fours && query < params.n_queries; at += THREADS) {
            var sum = partial[at];
            for (var other = 1u; other < THREADS / params.column_threads; other++) {
                sum += partial[other * n_fours + at];
            }
            let first_column = 4u * (i * THREADS * KV_FOURS + at);
            // unroll
            for (var c = 0u; c < 4u; c++) {
                if first_column + c < d {
                    if params.n_splits == 1u {
                        y[y_start + first_column + c] = sum[c] / total;
                    } else {
                        parts[part_start(id, query) + PART_HEADER + first_column + c] = sum[c];
                    }
                }
            }
        }
        workgroupBarrier();
    }
}

fn load_queries(first_query: u32, head: u32, lane: u32) {
    for (var i = lane; i < MAX_FOURS; i += THREADS) {
        // unroll
        for (var j = 0u; j < QUERIES; j++) {
            // Queries past the last one repeat it; their results are not stored.
            let query = min(first_query + j, params.n_queries - 1u);
            queries[j * MAX_FOURS + i] = query_four((query * params.n_heads + head) * params.head_dim, i);
        }
    }
}

// Adds the weighted values of `len` positions from `start` on: the threads of a group split the units of a position,
// and the groups split the positions.
fn add_values(start: u32, len: u32, kv_head: u32, lane: u32, sums: ptr<function, Sums>) {
    let column = lane % params.column_threads;
    let group = lane / params.column_threads;
    let n_groups = THREADS / params.column_threads;
    for (var at = group; at < len; at += n_groups) {
        let row = ((start + at) * params.n_kv_heads + kv_head) * params.n_units;
        let weight = weights[at];
        // unroll
        for (var i = 0u; i < PER_THREAD; i++) {
            let unit_at = i * THREADS + column;
            if unit_at < params.n_units {
                let unit = values[row + unit_at];
                // unroll
                for (var k = 0u; k < KV_FOURS; k++) {
                    let four = kv_four(unit, k);
                    // unroll
                    for (var j = 0u; j < QUERIES; j++) {
                        (*sums)[j * SUM_FOURS + i * KV_FOURS + k] += weight[j] * four;
                    }
                }
            }
        }
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_query = id.y * QUERIES;
    let kv_head = id.x * params.n_kv_heads / params.n_heads;
    load_queries(first_query, id.x, lane);
    workgroupBarrier();

    let first = id.z * params.split_len;
    let last_query = min(first_query + QUERIES, params.n_queries) - 1u;
    let end = min(params.n_visible + last_query, first + params.split_len);
    var peaks = PerQuery(LOWEST);
    var own_totals: PerQuery; // of the exponentials of this thread's positions
    var sums: Sums;
    for (var start = first; start < end; start += THREADS) {
        let len = min(THREADS, end - start);
        let position = start + lane;
        let row = min(position, end - 1u) * params.n_kv_heads + kv_head;
        var own = scores_of(row);
        // unroll
        for (var j = 0u; j < QUERIES; j++) {
            if position >= min(end, params.n_visible + first_query + j) {
                own[j] = LOWEST;
            }
        }
        scores[lane] = own;
        workgroupBarrier();
        var new_peaks = peaks;
        for (var i = 0u; i < len; i++) {
            new_peaks = max(new_peaks, scores[i]);
        }
        // Before the first block there are no sums to rescale, and the difference of peaks would overflow.
        let is_first = start == first;
        let value_scale = scale_of(scales[2u * row + 1u]);
        var own_weights: PerQuery;
        // unroll
        for (var j = 0u; j < QUERIES; j++) {
            // The last block may have no position that the first queries see.
            let is_visible = position < min(end, params.n_visible + first_query + j);
            let weight = select(0.0, bounded_exp(own[j] - new_peaks[j]), is_visible);
            own_weights[j] = weight * value_scale;
            let rescale = select(bounded_exp(peaks[j] - new_peaks[j]), 0.0, is_first);
            peaks[j] = new_peaks[j];
            own_totals[j] = own_totals[j] * rescale + weight;
            // unroll
            for (var i = 0u; i < SUM_FOURS; i++) {
                sums[j * SUM_FOURS + i] *= rescale;
            }
        }
        weights[lane] = own_weights;
        workgroupBarrier();
        add_values(start, len, kv_head, lane, &sums);
        workgroupBarrier();
    }
    scores[lane] = own_totals;
    workgroupBarrier();
    var totals: PerQuery;
    for (var i = 0u; i < THREADS; i++) {
        totals += scores[i];
    }

    // unroll
    for (var j = 0u; j < QUERIES; j++) {
        let query = first_query + j;
        var of_query: array<vec4<f32>, SUM_FOURS>;
        // unroll
        for (var i = 0u; i < SUM_FOURS; i++) {
            of_query[i] = sums[j * SUM_FOURS + i];
        }
        add_up_groups(id, lane, query, totals[j], of_query);
        store_header(id, lane, query, peaks[j], totals[j]);
    }
}
