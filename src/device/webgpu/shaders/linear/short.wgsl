// y = W·x for a few tokens and a matrix with short rows, such as the second matrix of a LoRA adapter: one thread per
// row, because a workgroup would have more threads than the row has blocks.
@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.x;
    if row >= params.n_rows {
        return;
    }
    let n_units = n_units();
    var sum = 0.0;
    for (var unit = 0u; unit < n_units; unit++) {
        let weights = unit_of(row, unit, n_units);
        var product = 0.0;
        // unroll
        for (var k = 0u; k < UNIT; k++) {
            product = multiply_add(four(weights, k), x_four(id.y, unit * UNIT + k), product);
        }
        sum += block_scale(row, unit * UNIT / GROUP_FOURS, params.n_groups) * product;
    }
    store(id.y, row, row_scale(row, params.n_groups) * sum);
}
