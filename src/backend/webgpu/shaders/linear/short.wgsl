// y = W·x for a few tokens and a matrix with short rows, as the adapters' second ones: a thread makes a row alone, since
// a workgroup that shared a row would have more threads than the row has blocks. CPU twin: `cpu/linear`.
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.x;
    if row >= params.rows {
        return;
    }
    let n_units = n_units();
    var sum = 0.0;
    for (var unit = 0u; unit < n_units; unit++) {
        let weights = unit_of(row, unit, n_units);
        var product = 0.0;
        for (var k = 0u; k < UNIT; k++) {
            product += dot(four(weights, k), x_four(id.y, unit * UNIT + k));
        }
        sum += scale(row, unit * UNIT / 2u, params.n_groups) * product;
    }
    finish(id.y, row, sum);
}
