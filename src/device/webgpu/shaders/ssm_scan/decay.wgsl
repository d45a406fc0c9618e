// The masked matrix L of Mamba-2's dual form (arXiv:2405.21060, section 6): after each token of a chunk, the factor of
// each earlier token's input, dt included, and that of the state before the chunk. One workgroup per head, one thread
// per column. An exponent is summed over its own segment; a difference of two prefix sums would cancel after a large
// dt.
@group(0) @binding(1) var<storage, read> dt: array<f32>; // [T, dt_stride]
@group(0) @binding(2) var<storage, read> dt_bias: array<f32>; // [H]
@group(0) @binding(3) var<storage, read> a: array<f32>; // [H]
@group(0) @binding(4) var<storage, read_write> decay: array<f32>; // [H, CHUNK, 1 + CHUNK], the state's column first

// Step size and exponent of the decay of each token.
var<workgroup> rates: array<vec2<f32>, CHUNK>;

@compute @workgroup_size(CHUNK)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = id.x;
    let t = min(lane, params.n_tokens - 1u);
    let step = step_size(dt[dt_at(t, head)] + dt_bias[head]);
    rates[lane] = vec2<f32>(step, step * a[head]);
    workgroupBarrier();
    for (var column = lane; column <= params.n_tokens; column += CHUNK) {
        var exponent = 0.0;
        for (var i = 0u; i < params.n_tokens; i++) {
            var factor = 0.0;
            if column == 0u {
                exponent += rates[i].y;
                factor = bounded_exp(exponent);
            } else if i + 1u >= column {
                // A token's own input has not decayed yet.
                exponent += select(rates[i].y, 0.0, i + 1u == column);
                factor = rates[column - 1u].x * bounded_exp(exponent);
            }
            decay[(head * CHUNK + i) * (CHUNK + 1u) + column] = factor;
        }
    }
}
