// Shared by the kernels of linear layers: bias, activations and the store of a result. W is one part of a matrix; its
// first row computes column `y_start` of y. Needs a `weights_*.wgsl` before it.
@group(0) @binding(3) var<storage, read> bias: array<f32>; // [d_out]
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>; // [T, x_fours]
@group(0) @binding(5) var<storage, read_write> y: array<f32>; // [T, y_stride]

const GROUP_FOURS = GROUP / 4u;

fn n_units() -> u32 {
    return params.n_groups * GROUP_FOURS / UNIT;
}

// Zero past the last column, where a padded matrix has zeros too. Reading on would load the next row of x, and zero
// times NaN or infinity is not zero.
fn x_four(t: u32, four: u32) -> vec4<f32> {
    if four >= params.x_fours {
        return vec4<f32>();
    }
    return x[t * params.x_fours + four];
}

// sum + a·b
fn multiply_add(a: vec4<f32>, b: vec4<f32>, sum: f32) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

fn store(t: u32, row: u32, product: f32) {
    let column = params.y_start + row;
    let at = t * params.y_stride + column;
    var sum = product;
    if (params.flags & ADD_BIAS) != 0u {
        sum += bias[column];
    }
    if (params.flags & ADD_TO_Y) != 0u {
        sum += y[at];
    }
    y[at] = sum;
}
