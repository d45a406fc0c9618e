// y = W·x for one token or a few, bound by reading the weights: a workgroup computes ROWS rows for up to TOKENS tokens,
// and its threads split the columns, so that adjacent threads load adjacent 16 bytes. Rows of x are padded to those of
// W, so no load of x is checked.
const N_SUMS = ROWS * TOKENS;
const SUMS = N_SUMS / 4u;

// Element `at` of `totals`, which is indexed by constants only.
fn element(totals: Sums, at: u32) -> f32 {
    var four = vec4<f32>();
    // unroll
    for (var i = 0u; i < SUMS; i++) {
        if at / 4u == i {
            four = totals[i];
        }
    }
    let low = select(four.x, four.y, at % 4u == 1u);
    let high = select(four.z, four.w, at % 4u == 3u);
    return select(low, high, at % 4u >= 2u);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, thread: Thread) {
    let first = id.x * ROWS;
    let n_units = n_units();
    // Element i is row i % ROWS of token i / ROWS, without the scale of the row.
    var sums: Sums;
    for (var unit = thread.lane; unit < n_units; unit += THREADS) {
        var units: array<Unit, ROWS>;
        // unroll
        for (var i = 0u; i < ROWS; i++) {
            // Rows past the last one (below: tokens) repeat it; their results are not stored.
            units[i] = unit_of(min(first + i, params.n_rows - 1u), unit, n_units);
        }
        var products: array<f32, N_SUMS>;
        // Workaround: Chromium 156's software adapter does not re-zero a `var` declared in a loop.
        // unroll
        for (var i = 0u; i < N_SUMS; i++) {
            products[i] = 0.0;
        }
        // unroll
        for (var k = 0u; k < UNIT; k++) {
            var inputs: array<vec4<f32>, TOKENS>;
            // unroll
            for (var t = 0u; t < TOKENS; t++) {
                inputs[t] = x[min(t, params.n_tokens - 1u) * params.x_fours + unit * UNIT + k];
            }
            // unroll
            for (var i = 0u; i < ROWS; i++) {
                let weights = four(units[i], k);
                // unroll
                for (var t = 0u; t < TOKENS; t++) {
                    products[t * ROWS + i] = multiply_add(weights, inputs[t], products[t * ROWS + i]);
                }
            }
        }
        // A unit lies within one block, so its products share a scale.
        // unroll
        for (var i = 0u; i < ROWS; i++) {
            let row = min(first + i, params.n_rows - 1u);
            let factor = block_scale(row, unit * UNIT / GROUP_FOURS, params.n_groups);
            // unroll
            for (var t = 0u; t < TOKENS; t++) {
                sums[(t * ROWS + i) / 4u][(t * ROWS + i) % 4u] += factor * products[t * ROWS + i];
            }
        }
    }
    let totals = sum_over_workgroup(thread, sums);
    let t = thread.lane / ROWS;
    let row = first + thread.lane % ROWS;
    if t < min(TOKENS, params.n_tokens) && row < params.n_rows {
        store(t, row, row_scale(row, params.n_groups) * element(totals, thread.lane));
    }
}
