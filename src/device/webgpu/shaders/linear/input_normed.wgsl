// Multiplies an RMSNorm of one row: x times the norm's weight here, and the norm's factor with the finished sums. The
// sum of squares is added up by the loop that reads x anyway. A norm with several means has one section for each. Needs
// `x_at`.
@group(0) @binding(5) var<storage, read> norm_weight: array<vec4<f32>>; // [d / 4]

const SECTIONS = NORM_GROUPS;
const SQUARE_FOURS = 1u;

fn input(t: u32, at: u32, squares: ptr<function, f32>) -> vec4<f32> {
    let value = x_at(at);
    *squares += dot(value, value);
    return norm_weight[at] * value;
}

fn factor(squares: f32) -> f32 {
    return 1.0 / sqrt(squares * f32(SECTIONS) / f32(params.n_groups * GROUP) + params.eps);
}
