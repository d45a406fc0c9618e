// y = W·x for many tokens: a workgroup computes ROWS rows of TOKENS tokens, each thread OWN_ROWS by OWN_TOKENS of them.
// Weights are unpacked once per workgroup into workgroup memory, unscaled. The scale of a block multiplies the sum over
// it, and the scale of a row the finished sum.
// The order of the sums is the same for all sizes of the tile.
const OWN_TOKENS = 4u; // the lanes of a vector
// Sides of the rectangle of threads.
const SIDE_TOKENS = TOKENS / OWN_TOKENS;
const SIDE_ROWS = THREADS / SIDE_TOKENS;
const OWN_ROWS = ROWS / SIDE_ROWS;
// Vectors of four columns in a block of a quantised matrix, and per step.
const BLOCK_FOURS = BLOCK / 4u;
const STEP = STEP_BLOCKS * BLOCK_FOURS;
const UNITS = STEP / UNIT;
// Threads that share a unit, where there are more of them than units, and the vectors of each.
const SHARERS = (THREADS + ROWS * UNITS - 1u) / (ROWS * UNITS);
const SHARE = UNIT / SHARERS;
// What a thread loads per step.
const OWN_UNITS = ROWS * UNITS * SHARERS / THREADS;
const OWN_INPUTS = TOKENS * STEP / THREADS;
const SCALES = ROWS * STEP_BLOCKS;
const OWN_SCALES = (SCALES + THREADS - 1u) / THREADS;
// Padded by one vector, so that rows start in different memory banks.
const STRIDE = STEP + 1u;
var<workgroup> w_tile: array<TileFour, ROWS * STRIDE>;
var<workgroup> x_tile: array<vec4<f32>, TOKENS * STRIDE>;
var<workgroup> scale_tile: array<f32, SCALES>; // of the blocks of each row

struct Step {
    units: array<Unit, OWN_UNITS>,
    inputs: array<vec4<f32>, OWN_INPUTS>,
    scales: array<f32, OWN_SCALES>,
}

// What `thread` loads for the step that begins with unit `start`. Rows past the last one, tokens and units likewise,
// repeat it: results of the former are not stored, and past the last column x is zero and the weight is finite.
fn load(first_row: u32, first_token: u32, start: u32, thread: u32) -> Step {
    let n_units = n_units();
    var loaded: Step;
    var squares = 0.0; // of no use here
    // unroll
    for (var i = 0u; i < OWN_UNITS; i++) {
        let at = (thread + THREADS * i) / SHARERS;
        let row = min(first_row + at / UNITS, params.n_rows - 1u);
        loaded.units[i] = unit_of(0u, row, min(start + at % UNITS, n_units - 1u), n_units);
    }
    // unroll
    for (var i = 0u; i < OWN_INPUTS; i++) {
        let at = thread + THREADS * i;
        let token = min(first_token + at / STEP, params.n_tokens - 1u);
        loaded.inputs[i] = input(token, start * UNIT + at % STEP, &squares);
    }
    // unroll
    for (var i = 0u; i < OWN_SCALES; i++) {
        let at = thread + THREADS * i;
        let row = min(first_row + at / STEP_BLOCKS, params.n_rows - 1u);
        let group = (start * UNIT + at % STEP_BLOCKS * BLOCK_FOURS) / GROUP_FOURS;
        loaded.scales[i] = block_scale(0u, row, min(group, params.n_groups - 1u), params.n_groups);
    }
    return loaded;
}

fn unpack(loaded: Step, thread: u32) {
    // unroll
    for (var i = 0u; i < OWN_UNITS; i++) {
        let at = (thread + THREADS * i) / SHARERS;
        // unroll
        for (var k = 0u; k < SHARE; k++) {
            let four_at = (thread + THREADS * i) % SHARERS * SHARE + k;
            w_tile[at / UNITS * STRIDE + at % UNITS * UNIT + four_at] = TileFour(four(loaded.units[i], four_at));
        }
    }
    // unroll
    for (var i = 0u; i < OWN_INPUTS; i++) {
        let at = thread + THREADS * i;
        x_tile[at / STEP * STRIDE + at % STEP] = loaded.inputs[i];
    }
    // unroll
    for (var i = 0u; i < OWN_SCALES; i++) {
        if thread + THREADS * i < SCALES {
            scale_tile[thread + THREADS * i] = loaded.scales[i];
        }
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first_row = id.x * ROWS;
    let first_token = id.y * TOKENS;
    let own_row = thread % SIDE_ROWS;
    let own_token = thread / SIDE_ROWS;
    let n_units = n_units();
    // A short prompt, or the end of a long one, fills only half of the tokens.
    let is_half = params.n_tokens - first_token <= TOKENS / 2u;
    var sums: array<vec4<f32>, OWN_ROWS>; // one token per lane
    var loaded = load(first_row, first_token, 0u, thread);
    for (var start = 0u; start < n_units; start += UNITS) {
        unpack(loaded, thread);
        workgroupBarrier();
        let has_next = start + UNITS < n_units;
        if LOADS_AHEAD == 1u && has_next {
            loaded = load(first_row, first_token, start + UNITS, thread);
        }
        for (var block = 0u; block < STEP_BLOCKS; block++) {
            var products: array<vec4<f32>, OWN_ROWS>;
            // Workaround: Chromium 156's software adapter does not re-zero a `var` declared in a loop.
            // unroll
            for (var i = 0u; i < OWN_ROWS; i++) {
                products[i] = vec4<f32>();
            }
            for (var k = block * BLOCK_FOURS; k < (block + 1u) * BLOCK_FOURS; k++) {
                var inputs: array<vec4<f32>, OWN_TOKENS>;
                // unroll
                for (var j = 0u; j < OWN_TOKENS; j++) {
                    inputs[j] = x_tile[(own_token + SIDE_TOKENS * j) * STRIDE + k];
                }
                // unroll
                for (var i = 0u; i < OWN_ROWS; i++) {
                    let weights = vec4<f32>(w_tile[(own_row + SIDE_ROWS * i) * STRIDE + k]);
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
                let scale = scale_tile[(own_row + SIDE_ROWS * i) * STEP_BLOCKS + block];
                sums[i] = fma(vec4<f32>(scale), products[i], sums[i]);
            }
        }
        workgroupBarrier();
        if LOADS_AHEAD == 0u && has_next {
            loaded = load(first_row, first_token, start + UNITS, thread);
        }
    }
    // unroll
    for (var i = 0u; i < OWN_ROWS; i++) {
        // unroll
        for (var j = 0u; j < OWN_TOKENS; j++) {
            let row = first_row + own_row + SIDE_ROWS * i;
            let token = first_token + own_token + SIDE_TOKENS * j;
            if row < params.n_rows && token < params.n_tokens {
                finish(token, row, row_scale(0u, row, params.n_groups) * sums[i][j]);
            }
        }
    }
}
