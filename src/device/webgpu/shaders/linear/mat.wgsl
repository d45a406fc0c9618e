// y = W·x for many tokens: a workgroup computes ROWS rows of TOKENS tokens, each thread OWN_ROWS by OWN_TOKENS of them.
// Weights are unpacked once per workgroup into workgroup memory, unscaled; the scale multiplies the sum over a block.
const SIDE = 8u; // of the square of threads: SIDE² = THREADS
const OWN_ROWS = ROWS / SIDE;
const OWN_TOKENS = TOKENS / SIDE; // 4, the lanes of a vector
// Vectors of four columns per step: a block of a quantised matrix.
const STEP = BLOCK / 4u;
const UNITS = STEP / UNIT;
// Padded by one vector, so that rows start in different memory banks.
const STRIDE = STEP + 1u;
var<workgroup> w_tile: array<TileFour, ROWS * STRIDE>;
var<workgroup> x_tile: array<vec4<f32>, TOKENS * STRIDE>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first_row = id.x * ROWS;
    let first_token = id.y * TOKENS;
    let own_row = thread % SIDE;
    let own_token = thread / SIDE;
    let n_units = n_units();
    // A short prompt, or the end of a long one, fills only half of the tokens.
    let is_half = params.n_tokens - first_token <= TOKENS / 2u;
    var sums: array<vec4<f32>, OWN_ROWS>; // one token per lane
    for (var start = 0u; start < n_units; start += UNITS) {
        for (var i = thread; i < ROWS * UNITS; i += THREADS) {
            let row = i / UNITS;
            let unit = start + i % UNITS;
            // Rows past the last one (below: tokens) repeat it; their results are not stored.
            let weights = unit_of(0u, min(first_row + row, params.n_rows - 1u), min(unit, n_units - 1u), n_units);
            // unroll
            for (var k = 0u; k < UNIT; k++) {
                // Past the last column x is zero and the weight is finite.
                w_tile[row * STRIDE + i % UNITS * UNIT + k] = TileFour(four(weights, k));
            }
        }
        for (var i = thread; i < TOKENS * STEP; i += THREADS) {
            var squares = 0.0; // of no use here
            let token = min(first_token + i / STEP, params.n_tokens - 1u);
            x_tile[i / STEP * STRIDE + i % STEP] = input(token, start * UNIT + i % STEP, &squares);
        }
        workgroupBarrier();
        var products: array<vec4<f32>, OWN_ROWS>;
        // Workaround: Chromium 156's software adapter does not re-zero a `var` declared in a loop.
        // unroll
        for (var i = 0u; i < OWN_ROWS; i++) {
            products[i] = vec4<f32>();
        }
        for (var k = 0u; k < STEP; k++) {
            var inputs: array<vec4<f32>, OWN_TOKENS>;
            // unroll
            for (var j = 0u; j < OWN_TOKENS; j++) {
                inputs[j] = x_tile[(own_token + SIDE * j) * STRIDE + k];
            }
            // unroll
            for (var i = 0u; i < OWN_ROWS; i++) {
                let weights = vec4<f32>(w_tile[(own_row + SIDE * i) * STRIDE + k]);
                products[i].x = multiply_add(weights, inputs[0], products[i].x);
                products[i].y = multiply_add(weights, inputs[1], products[i].y);
                if !is_half {
                    products[i].z = multiply_add(weights, inputs[2], products[i].z);
                    products[i].w = multiply_add(weights, inputs[3], products[i].w);
                }
            }
        }
        // unroll
        for (var i = 0u; i < OWN_ROWS; i++) {
            let row = min(first_row + own_row + SIDE * i, params.n_rows - 1u);
            sums[i] += scale(row, start * UNIT / GROUP_FOURS, params.n_groups) * products[i];
        }
        workgroupBarrier();
    }
    // unroll
    for (var i = 0u; i < OWN_ROWS; i++) {
        // unroll
        for (var j = 0u; j < OWN_TOKENS; j++) {
            let row = first_row + own_row + SIDE * i;
            let token = first_token + own_token + SIDE * j;
            if row < params.n_rows && token < params.n_tokens {
                finish(token, row, sums[i][j]);
            }
        }
    }
}
