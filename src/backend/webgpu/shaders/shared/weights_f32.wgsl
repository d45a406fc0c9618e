// A matrix in f32; rows are padded with zeros to whole eights. This text comes before a kernel that reads weights.
@group(0) @binding(1) var<storage, read> numbers: array<vec4<f32>>; // [rows, 2 · groups]
@group(0) @binding(2) var<storage, read> scales: array<u32>; // unused

// Fours of columns in what a thread reads at once.
const UNIT = 1u;
alias Unit = vec4<f32>;

fn unit_of(row: u32, unit: u32, n_units: u32) -> Unit {
    return numbers[row * n_units + unit];
}

// The only four columns of a unit.
fn four(unit: Unit, k: u32) -> vec4<f32> {
    return unit;
}

fn scale(row: u32, group: u32, n_groups: u32) -> f32 {
    return 1.0;
}
