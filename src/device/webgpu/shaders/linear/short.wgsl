// y = W·x for a few tokens and a matrix with short rows, such as the second matrix of a LoRA adapter: one thread per
// row, because a workgroup would have more threads than the row has blocks.
@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.x;
    if row >= params.n_rows {
        return;
    }
    let matrix = matrix_of(row);
    let own = row - matrix_start(matrix);
    let n_units = n_units();
    var sum = 0.0;
    // unroll
    for (var section = 0u; section < SECTIONS; section++) {
        var squares = 0.0;
        var section_sum = 0.0;
        let end = (section + 1u) * n_units / SECTIONS;
        for (var unit = section * n_units / SECTIONS; unit < end; unit++) {
            let weights = unit_of(matrix, own, unit, n_units);
            var product = 0.0;
            // unroll
            for (var k = 0u; k < UNIT; k++) {
                product = multiply_add(four(weights, k), input(id.y, unit * UNIT + k, &squares), product);
            }
            section_sum += block_scale(matrix, own, unit * UNIT / GROUP_FOURS, params.n_groups) * product;
        }
        sum += factor(squares) * section_sum;
    }
    finish(id.y, row, row_scale(matrix, own, params.n_groups) * sum);
}
