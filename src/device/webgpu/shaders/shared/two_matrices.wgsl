// Two matrices of the same width, of which the first has `n_first_rows` rows: the rows of the second one follow. Same
// interface as `matrix.wgsl`.
@group(0) @binding(1) var<storage, read> quants: array<Unit>; // [n_first_rows, units]
@group(0) @binding(2) var<storage, read> scales: array<u32>; // [n_first_rows, 1 + ⌈blocks / 2⌉], dummy binding in f32
@group(0) @binding(6) var<storage, read> more_quants: array<Unit>; // [n_rows − n_first_rows, units]
@group(0) @binding(7) var<storage, read> more_scales: array<u32>; // [n_rows − n_first_rows, 1 + ⌈blocks / 2⌉]

const MATRICES = 2u;

fn matrix_of(row: u32) -> u32 {
    return select(0u, 1u, row >= params.n_first_rows);
}

fn matrix_start(matrix: u32) -> u32 {
    return matrix * params.n_first_rows;
}

fn buffer_row(row: u32) -> u32 {
    return row;
}

fn unit_of(matrix: u32, row: u32, unit: u32, n_units: u32) -> Unit {
    if matrix == 0u {
        return quants[row * n_units + unit];
    }
    return more_quants[row * n_units + unit];
}

fn scale_word(matrix: u32, at: u32) -> u32 {
    if matrix == 0u {
        return scales[at];
    }
    return more_scales[at];
}
