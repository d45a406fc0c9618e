// y = W·x for one token or a few: a workgroup makes ROWS rows of all tokens, and its threads share the columns, so that
// neighbours read neighbouring sixteen bytes. Bound by reading the weights. CPU twin: `cpu/linear`.
// The sizes, which are in `linear_one.wgsl` and `linear_few.wgsl`, and a `sum_*.wgsl` come before it.
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, thread: Thread) {
    let first = id.x * ROWS;
    let n_units = n_units();
    // Number i of these belongs to token i / ROWS and row i % ROWS.
    var sums: Sums;
    for (var unit = thread.lane; unit < n_units; unit += THREADS) {
        var units: array<Unit, ROWS>;
        for (var i = 0u; i < ROWS; i++) {
            // Beyond the last row, and the last token below, it is computed again and thrown away.
            units[i] = unit_of(min(first + i, params.rows - 1u), unit, n_units);
        }
        var products: Sums;
        // An adapter was seen to keep in a loop's variable what it held the turn before.
        for (var i = 0u; i < SUMS; i++) {
            products[i] = vec4<f32>();
        }
        for (var k = 0u; k < UNIT; k++) {
            var inputs: array<vec4<f32>, TOKENS>;
            for (var t = 0u; t < TOKENS; t++) {
                inputs[t] = x_four(min(t, params.n_tokens - 1u), unit * UNIT + k);
            }
            for (var i = 0u; i < ROWS; i++) {
                let weights = four(units[i], k);
                for (var t = 0u; t < TOKENS; t++) {
                    let at = t * ROWS + i;
                    products[at / 4u][at % 4u] += dot(weights, inputs[t]);
                }
            }
        }
        // One scale for all the products of a block, or of half of it.
        for (var i = 0u; i < ROWS; i++) {
            let factor = scale(min(first + i, params.rows - 1u), unit * UNIT / 2u, params.n_groups);
            for (var t = 0u; t < TOKENS; t++) {
                let at = t * ROWS + i;
                sums[at / 4u][at % 4u] += factor * products[at / 4u][at % 4u];
            }
        }
    }
    let totals = sum_over_workgroup(thread, sums);
    let t = thread.lane / ROWS;
    let row = first + thread.lane % ROWS;
    if t < min(TOKENS, params.n_tokens) && row < params.rows {
        finish(t, row, totals[thread.lane / 4u][thread.lane % 4u]);
    }
}
