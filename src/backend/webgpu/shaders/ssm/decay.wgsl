// The masked matrix L of Mamba-2's dual form (arXiv:2405.21060, section 6): what is left of each token's input after each
// token of a chunk, and of the state before it. One workgroup per head, whose threads have a column each. An exponent is
// the sum over its own segment, never a difference of two sums over the chunk, which would cancel after a large dt.
// `ssm.wgsl` comes before it. // left [H, CHUNK, 1 + CHUNK]: first the state's column, then the tokens'
@group(0) @binding(1) var<storage, read> dt: array<f32>;
@group(0) @binding(2) var<storage, read> dt_bias: array<f32>;
@group(0) @binding(3) var<storage, read> a: array<f32>;
@group(0) @binding(4) var<storage, read_write> left: array<f32>;

// Of each token its dt, and the exponent of its decay.
var<workgroup> rates: array<vec2<f32>, CHUNK>;

@compute @workgroup_size(CHUNK)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = id.x;
    let t = min(lane, params.n_tokens - 1u);
    let step = step_of(dt[dt_at(t, head)] + dt_bias[head]);
    rates[lane] = vec2<f32>(step, step * a[head]);
    workgroupBarrier();
    for (var column = lane; column <= params.n_tokens; column += CHUNK) {
        var exponent = 0.0;
        for (var i = 0u; i < params.n_tokens; i++) {
            var number = 0.0;
            if column == 0u {
                exponent += rates[i].y;
                number = bounded_exp(exponent);
            } else if i + 1u >= column {
                // A token's own input has not decayed yet.
                exponent += select(rates[i].y, 0.0, i + 1u == column);
                number = rates[column - 1u].x * bounded_exp(exponent);
            }
            left[(head * CHUNK + i) * (CHUNK + 1u) + column] = number;
        }
    }
}
