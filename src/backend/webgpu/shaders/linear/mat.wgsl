// y = W·x for many tokens: a workgroup makes 64 rows of 32 tokens, and a thread eight by four of them. Weights are
// unpacked once per 32 tokens into the workgroup's memory, without their scales, which multiply the sum of a block.
// A `tile_*.wgsl` comes before it. CPU twin: `cpu/linear`.
const THREADS = 64u;
const SIDE = 8u; // of the square of threads
const OWN_ROWS = 8u;
const OWN_TOKENS = 4u;
const ROWS = SIDE * OWN_ROWS;
const TOKENS = SIDE * OWN_TOKENS;
// Fours of columns that a step takes: a block of a quantised matrix.
const STEP = 8u;
const UNITS = STEP / UNIT;
// One four more than there is, so that rows begin in different banks.
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
    // A short prompt, or the end of a long one, fills half of the tokens only.
    let is_half = params.n_tokens - first_token <= TOKENS / 2u;
    var sums: array<vec4<f32>, OWN_ROWS>; // tokens in the lanes
    for (var start = 0u; start < n_units; start += UNITS) {
        for (var i = thread; i < ROWS * UNITS; i += THREADS) {
            let row = i / UNITS;
            let unit = start + i % UNITS;
            // Beyond the last row, and the last token below, it is computed again and thrown away.
            let weights = unit_of(min(first_row + row, params.rows - 1u), min(unit, n_units - 1u), n_units);
            for (var k = 0u; k < UNIT; k++) {
                // Beyond the last column x is zero, and the weight is a number.
                w_tile[row * STRIDE + i % UNITS * UNIT + k] = TileFour(four(weights, k));
            }
        }
        for (var i = thread; i < TOKENS * STEP; i += THREADS) {
            let token = min(first_token + i / STEP, params.n_tokens - 1u);
            x_tile[i / STEP * STRIDE + i % STEP] = x_four(token, start * UNIT + i % STEP);
        }
        workgroupBarrier();
        var products: array<vec4<f32>, OWN_ROWS>;
        // An adapter was seen to keep in a loop's variable what it held the turn before.
        for (var i = 0u; i < OWN_ROWS; i++) {
            products[i] = vec4<f32>();
        }
        for (var k = 0u; k < STEP; k++) {
            var inputs: array<vec4<f32>, OWN_TOKENS>;
            for (var j = 0u; j < OWN_TOKENS; j++) {
                inputs[j] = x_tile[(own_token + SIDE * j) * STRIDE + k];
            }
            for (var i = 0u; i < OWN_ROWS; i++) {
                let weights = vec4<f32>(w_tile[(own_row + SIDE * i) * STRIDE + k]);
                products[i].x += dot(weights, inputs[0]);
                products[i].y += dot(weights, inputs[1]);
                if !is_half {
                    products[i].z += dot(weights, inputs[2]);
                    products[i].w += dot(weights, inputs[3]);
                }
            }
        }
        for (var i = 0u; i < OWN_ROWS; i++) {
            let row = min(first_row + own_row + SIDE * i, params.rows - 1u);
            sums[i] += scale(row, start * UNIT / 2u, params.n_groups) * products[i];
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < OWN_ROWS; i++) {
        for (var j = 0u; j < OWN_TOKENS; j++) {
            let row = first_row + own_row + SIDE * i;
            let token = first_token + own_token + SIDE * j;
            if row < params.rows && token < params.n_tokens {
                finish(token, row, sums[i][j]);
            }
        }
    }
}
