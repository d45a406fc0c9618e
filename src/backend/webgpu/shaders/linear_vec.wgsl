// y = W·x for one token or a few: a workgroup makes four rows of one token, and its threads share the columns.
const THREADS = 64u;
const ROWS = 4u;
var<workgroup> sums: array<vec4<f32>, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = id.x * ROWS;
    let t = id.y;
    var sum = vec4<f32>();
    for (var group = lane; group < params.n_groups; group += THREADS) {
        let x = eight_of_x(t, group);
        for (var i = 0u; i < ROWS; i++) {
            // Beyond the last row it is computed again and thrown away.
            let row = min(first + i, params.rows - 1u);
            let w = eight(row, group, params.n_groups);
            let product = dot(w.low, x.low) + dot(w.high, x.high);
            sum[i] += scale(row, group, params.n_groups) * product;
        }
    }
    sums[lane] = sum;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            sums[lane] += sums[lane + half];
        }
    }
    workgroupBarrier();
    if lane < ROWS && first + lane < params.rows {
        finish(t, first + lane, sums[0][lane]);
    }
}
