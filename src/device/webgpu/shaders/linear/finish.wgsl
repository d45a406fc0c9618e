// Adds bias and old value, where wanted, and stores. W is one part of a matrix; its first row computes column `y_start`
// of y.
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [T, y_stride]
@group(0) @binding(5) var<storage, read> bias: array<f32>; // [d_out]

fn finish(t: u32, row: u32, product: f32) {
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
