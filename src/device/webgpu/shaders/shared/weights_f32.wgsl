// Weights in f32. Rows are padded with zeros to a multiple of GROUP columns. Same interface as `weights_q8.wgsl` and
// `weights_q4.wgsl` with `scales.wgsl`.

// Vectors of four columns per load of a thread.
const UNIT = 1u;
alias Unit = vec4<f32>;

// The k-th four columns of a unit, which has only four.
fn four(unit: Unit, k: u32) -> vec4<f32> {
    return unit;
}

fn row_scale(matrix: u32, row: u32, n_groups: u32) -> f32 {
    return 1.0;
}

fn block_scale(matrix: u32, row: u32, group: u32, n_groups: u32) -> f32 {
    return 1.0;
}

fn scale(row: u32, group: u32, n_groups: u32) -> f32 {
    return 1.0;
}
