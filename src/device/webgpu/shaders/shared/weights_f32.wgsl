// Weight matrix in f32. Rows are padded with zeros to a multiple of GROUP columns. Same interface as
// `weights_q8.wgsl` and `weights_q4.wgsl`.
@group(0) @binding(1) var<storage, read> numbers: array<vec4<f32>>; // [rows, groups, 2]
@group(0) @binding(2) var<storage, read> scales: array<u32>; // [0], dummy binding

// Vectors of four columns per load of a thread.
const UNIT = 1u;
alias Unit = vec4<f32>;

fn unit_of(row: u32, unit: u32, n_units: u32) -> Unit {
    return numbers[row * n_units + unit];
}

// The k-th four columns of a unit, which has only four.
fn four(unit: Unit, k: u32) -> vec4<f32> {
    return unit;
}

fn row_scale(row: u32, n_groups: u32) -> f32 {
    return 1.0;
}

fn block_scale(row: u32, group: u32, n_groups: u32) -> f32 {
    return 1.0;
}

fn scale(row: u32, group: u32, n_groups: u32) -> f32 {
    return 1.0;
}
