// Products with the second matrix of a LoRA adapter in a fused kernel. The kernel defines `x`, of which `rank_fours`
// vectors are the adapter's inner activations.

// Row `row` of the matrix times the vectors of x from `start` on.
fn adapter_product(row: u32, start: u32) -> f32 {
    let n_units = n_units();
    var sum = 0.0;
    for (var unit = 0u; unit < n_units; unit++) {
        let weights = unit_of(0u, row, unit, n_units);
        var product = 0.0;
        // unroll
        for (var k = 0u; k < UNIT; k++) {
            let at = unit * UNIT + k;
            // Where the matrix is padded, x has other numbers.
            let four_of_x = select(vec4<f32>(), x[start + at], at < params.rank_fours);
            product = multiply_add(four(weights, k), four_of_x, product);
        }
        sum += block_scale(0u, row, unit * UNIT / GROUP_FOURS, params.n_groups) * product;
    }
    return row_scale(0u, row, params.n_groups) * sum;
}

// Element `at` of x.
fn x_number(at: u32) -> f32 {
    return x[at / 4u][at % 4u];
}
