// What the kernels of linear layers share: parameters, activations and the result. `weights_*.wgsl` comes before it.
// W [rows, 8 · groups] is a part of a matrix whose first row makes column `y_start`; x [T, 4 · x_fours], y [T, y_stride].
struct Params {
    n_tokens: u32,
    rows: u32,
    n_groups: u32,
    x_fours: u32,
    y_start: u32,
    y_stride: u32,
    // 1 adds the bias, 2 adds to what is in y.
    add: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

fn n_units() -> u32 {
    return params.n_groups * 2u / UNIT;
}

// Zero beyond the last column, where a padded matrix has zeros too: the next row, which may hold anything, is not read.
fn x_four(t: u32, four: u32) -> vec4<f32> {
    if four >= params.x_fours {
        return vec4<f32>();
    }
    return x[t * params.x_fours + four];
}

fn finish(t: u32, row: u32, product: f32) {
    let column = params.y_start + row;
    let at = t * params.y_stride + column;
    var sum = product;
    if (params.add & 1u) != 0u {
        sum += bias[column];
    }
    if (params.add & 2u) != 0u {
        sum += y[at];
    }
    y[at] = sum;
}
