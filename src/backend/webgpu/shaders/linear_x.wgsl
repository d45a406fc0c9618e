// What the kernels of linear layers share: parameters, activations and the result. `weights_*.wgsl` comes before it.
// W [rows, 8 · groups] is a part of a matrix whose first row makes column `y_start`; x [T, cols], y [T, y_stride].
struct Params {
    n_tokens: u32,
    rows: u32,
    n_groups: u32,
    cols: u32,
    y_start: u32,
    y_stride: u32,
    // 1 adds the bias, 2 adds to what is in y.
    add: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> x: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

// Zero beyond the last column: weights are zero there, and what follows a row may be anything.
fn x_at(start: u32, col: u32) -> f32 {
    if col >= params.cols {
        return 0.0;
    }
    return x[start + col];
}

fn eight_of_x(t: u32, group: u32) -> Eight {
    let start = t * params.cols;
    let col = 8u * group;
    if col + 8u <= params.cols {
        let at = start + col;
        let low = vec4<f32>(x[at], x[at + 1u], x[at + 2u], x[at + 3u]);
        let high = vec4<f32>(x[at + 4u], x[at + 5u], x[at + 6u], x[at + 7u]);
        return Eight(low, high);
    }
    var low = vec4<f32>();
    var high = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        low[i] = x_at(start, col + i);
        high[i] = x_at(start, col + 4u + i);
    }
    return Eight(low, high);
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
