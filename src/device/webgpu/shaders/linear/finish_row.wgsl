// Stores a product, or adds it to y, for one row and without a bias. W is one part of a matrix; its first row computes
// column `y_start` of y.
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [d_out]

fn finish(t: u32, row: u32, product: f32) {
    let column = params.y_start + row;
    var sum = product;
    if (params.flags & ADD_TO_Y) != 0u {
        sum += y[column];
    }
    y[column] = sum;
}
