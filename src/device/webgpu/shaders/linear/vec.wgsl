// y = W·x for one token or a few, bound by reading the weights: a workgroup computes ROWS rows for up to TOKENS tokens,
// and its threads split the columns, so that adjacent threads load adjacent 16 bytes.
const SUMS = ROWS * TOKENS / 4u;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, thread: Thread) {
    let first = id.x * ROWS;
    let n_units = n_units();
    // Element i is row i % ROWS of token i / ROWS.
    var sums: Sums;
    for (var unit = thread.lane; unit < n_units; unit += THREADS) {
        var units: array<Unit, ROWS>;
        for (var i = 0u; i < ROWS; i++) {
            // Rows past the last one (below: tokens) repeat it; their results are not stored.
            units[i] = unit_of(min(first + i, params.n_rows - 1u), unit, n_units);
        }
        var products: Sums;
        // Workaround: Chromium 156's software adapter does not re-zero a `var` declared in a loop.
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
        // A unit lies within one block, so its products share a scale.
        for (var i = 0u; i < ROWS; i++) {
            let factor = scale(min(first + i, params.n_rows - 1u), unit * UNIT / GROUP_FOURS, params.n_groups);
            for (var t = 0u; t < TOKENS; t++) {
                let at = t * ROWS + i;
                sums[at / 4u][at % 4u] += factor * products[at / 4u][at % 4u];
            }
        }
    }
    let totals = sum_over_workgroup(thread, sums);
    let t = thread.lane / ROWS;
    let row = first + thread.lane % ROWS;
    if t < min(TOKENS, params.n_tokens) && row < params.n_rows {
        store(t, row, totals[thread.lane / 4u][thread.lane % 4u]);
    }
}
