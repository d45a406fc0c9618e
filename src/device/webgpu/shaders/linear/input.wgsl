// Multiplies x as it is. Same interface as `input_normed.wgsl`.
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>; // [T, x_fours]

// Parts of a row whose sums have factors of their own.
const SECTIONS = 1u;
// Vectors of sums of squares, one section per lane.
const SQUARE_FOURS = 0u;

// Vector `at` of token t.
fn input(t: u32, at: u32, squares: ptr<function, f32>) -> vec4<f32> {
    // Where rows of x are not padded to those of W: zero past the last column, like the padding of W. Reading on would
    // load the next row of x, and zero times NaN or infinity is not zero.
    if CHECKS_X == 1u && at >= params.x_fours {
        return vec4<f32>();
    }
    return x[t * params.x_fours + at];
}

fn factor(squares: f32) -> f32 {
    return 1.0;
}
