// y = W·x for one token or a few, bound by reading the weights: a workgroup computes ROWS rows for up to TOKENS tokens,
// and its threads split the columns, so that adjacent threads load adjacent 16 bytes. Rows of x are padded to those of
// W, so no load of x is checked. Of several matrices each fills whole workgroups but the last one.
const SECTION_SUMS = ROWS * TOKENS;
const SECTION_FOURS = SECTION_SUMS / 4u;
const PRODUCT_FOURS = SECTIONS * SECTION_FOURS;
// The sums of squares are behind those of products.
const SUMS = PRODUCT_FOURS + SQUARE_FOURS;

// Element `at` of `totals`, which is indexed by constants only.
fn element(totals: Sums, at: u32) -> f32 {
    var four = vec4<f32>();
    // unroll
    for (var i = 0u; i < PRODUCT_FOURS; i++) {
        if at / 4u == i {
            four = totals[i];
        }
    }
    let low = select(four.x, four.y, at % 4u == 1u);
    let high = select(four.z, four.w, at % 4u == 3u);
    return select(low, high, at % 4u >= 2u);
}

// One result per thread, from the sums over all columns.
fn finish_result(first: u32, first_token: u32, lane: u32, totals: Sums) {
    let t = first_token + lane / ROWS;
    let row = first + lane % ROWS;
    if t < min(first_token + TOKENS, params.n_tokens) && row < params.n_rows {
        var product = 0.0;
        // unroll
        for (var section = 0u; section < SECTIONS; section++) {
            var squares = 0.0;
            // unroll
            for (var i = 0u; i < SQUARE_FOURS; i++) {
                squares = totals[PRODUCT_FOURS + i][section];
            }
            product += factor(squares) * element(totals, section * SECTION_SUMS + lane);
        }
        let matrix = matrix_of(row);
        finish(t, row, row_scale(matrix, row - matrix_start(matrix), params.n_groups) * product);
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, thread: Thread) {
    let first = id.x * ROWS;
    let first_token = id.y * TOKENS;
    let n_units = n_units();
    // In each section, element i is row i % ROWS of token i / ROWS, without the scale of the row.
    var sums: Sums;
    // unroll
    for (var matrix = 0u; matrix < MATRICES; matrix++) {
        let start = matrix_start(matrix);
        // unroll
        for (var section = 0u; section < SECTIONS; section++) {
            var squares = 0.0;
            let end = select(0u, (section + 1u) * n_units / SECTIONS, matrix_of(first) == matrix);
            for (var unit = section * n_units / SECTIONS + thread.lane; unit < end; unit += THREADS) {
                var units: array<Unit, ROWS>;
                // unroll
                for (var i = 0u; i < ROWS; i++) {
                    // Rows past the last one (below: tokens) repeat it; their results are not stored.
                    units[i] = unit_of(matrix, min(first + i, params.n_rows - 1u) - start, unit, n_units);
                }
                // A unit lies within one block, so its products share a scale.
                var scales_of: array<f32, ROWS>;
                // unroll
                for (var i = 0u; i < ROWS; i++) {
                    let row = min(first + i, params.n_rows - 1u) - start;
                    scales_of[i] = block_scale(matrix, row, unit * UNIT / GROUP_FOURS, params.n_groups);
                }
                var products: array<f32, SECTION_SUMS>;
                // Workaround: Chromium 156's software adapter does not re-zero a `var` declared in a loop.
                // unroll
                for (var i = 0u; i < SECTION_SUMS; i++) {
                    products[i] = 0.0;
                }
                var input_sums: array<f32, TOKENS>;
                // unroll
                for (var t = 0u; t < TOKENS; t++) {
                    input_sums[t] = 0.0;
                }
                // unroll
                for (var k = 0u; k < UNIT; k++) {
                    var inputs: array<vec4<f32>, TOKENS>;
                    // unroll
                    for (var t = 0u; t < TOKENS; t++) {
                        let value = input(min(first_token + t, params.n_tokens - 1u), unit * UNIT + k, &squares);
                        input_sums[t] += value.x + value.y + value.z + value.w;
                        inputs[t] = unpacked_input(value);
                    }
                    // unroll
                    for (var i = 0u; i < ROWS; i++) {
                        let weights = unpacked(units[i], k);
                        // unroll
                        for (var t = 0u; t < TOKENS; t++) {
                            products[t * ROWS + i] = multiply_add(weights, inputs[t], products[t * ROWS + i]);
                        }
                    }
                }
                // unroll
                for (var i = 0u; i < ROWS; i++) {
                    // unroll
                    for (var t = 0u; t < TOKENS; t++) {
                        let product = unpacked_product(products[t * ROWS + i], input_sums[t]);
                        let earlier = sums[section * SECTION_FOURS + (t * ROWS + i) / 4u][(t * ROWS + i) % 4u];
                        sums[section * SECTION_FOURS + (t * ROWS + i) / 4u][(t * ROWS + i) % 4u] =
                            fma(scales_of[i], product, earlier);
                    }
                }
            }
            // unroll
            for (var i = 0u; i < SQUARE_FOURS; i++) {
                sums[PRODUCT_FOURS + i][section] += squares;
            }
        }
    }
    finish_result(first, first_token, thread.lane, sum_over_workgroup(thread, sums));
}
