// One matrix, or the part of one in a binding. Same interface as `two_matrices.wgsl`. Needs a `weights_*.wgsl`.
@group(0) @binding(1) var<storage, read> quants: array<Unit>; // [≥ rows, units], from buffer_row on
@group(0) @binding(2) var<storage, read> scales: array<u32>; // [≥ rows, 1 + ⌈blocks / 2⌉], dummy binding in f32

const MATRICES = 1u;

// The matrix of a row.
fn matrix_of(row: u32) -> u32 {
    return 0u;
}

// The row that is the first of a matrix.
fn matrix_start(matrix: u32) -> u32 {
    return 0u;
}

// Where a row of a matrix is in the buffers: the matrix may follow others there.
fn buffer_row(row: u32) -> u32 {
    return params.buffer_row + row;
}

fn unit_of(matrix: u32, row: u32, unit: u32, n_units: u32) -> Unit {
    return quants[buffer_row(row) * n_units + unit];
}

fn scale_word(matrix: u32, at: u32) -> u32 {
    return scales[at];
}
