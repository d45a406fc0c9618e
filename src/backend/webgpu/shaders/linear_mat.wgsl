// y = W·x for many tokens: a workgroup makes a square of 32 tokens and 32 rows, and a thread four by four of it. Weights
// are unpacked once per square into the workgroup's memory.
const SIDE = 32u;
const THREADS = 64u;
const OWN = 4u;
// Eights of columns that a step takes: a block of a quantised matrix.
const STEP = 4u;
var<workgroup> w_tile: array<f32, SIDE * SIDE>; // [column, row]
var<workgroup> x_tile: array<f32, SIDE * SIDE>; // [column, token]

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first_row = id.x * SIDE;
    let first_token = id.y * SIDE;
    let own_row = OWN * (thread % 8u);
    let own_token = OWN * (thread / 8u);
    var sums: array<vec4<f32>, OWN>; // [row], tokens in the lanes
    for (var start = 0u; start < params.n_groups; start += STEP) {
        for (var i = thread; i < SIDE * STEP; i += THREADS) {
            let at = i / STEP;
            let group = start + i % STEP;
            var w = Eight();
            var x = Eight();
            if group < params.n_groups {
                // Beyond the last row or token it is computed again and thrown away.
                let row = min(first_row + at, params.rows - 1u);
                w = eight(row, group, params.n_groups);
                let factor = scale(row, group, params.n_groups);
                w.low *= factor;
                w.high *= factor;
                x = eight_of_x(min(first_token + at, params.n_tokens - 1u), group);
            }
            let column = 8u * (i % STEP);
            for (var k = 0u; k < 4u; k++) {
                w_tile[(column + k) * SIDE + at] = w.low[k];
                w_tile[(column + 4u + k) * SIDE + at] = w.high[k];
                x_tile[(column + k) * SIDE + at] = x.low[k];
                x_tile[(column + 4u + k) * SIDE + at] = x.high[k];
            }
        }
        workgroupBarrier();
        for (var column = 0u; column < SIDE; column++) {
            let x_start = column * SIDE + own_token;
            let x = vec4<f32>(
                x_tile[x_start], x_tile[x_start + 1u], x_tile[x_start + 2u], x_tile[x_start + 3u],
            );
            for (var i = 0u; i < OWN; i++) {
                sums[i] += w_tile[column * SIDE + own_row + i] * x;
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < OWN; i++) {
        for (var j = 0u; j < OWN; j++) {
            let row = first_row + own_row + i;
            let token = first_token + own_token + j;
            if row < params.rows && token < params.n_tokens {
                finish(token, row, sums[i][j]);
            }
        }
    }
}
