// Weight matrix with four bits per weight. Its scales are read in `scales.wgsl`.
@group(0) @binding(1) var<storage, read> quants: array<vec4<u32>>; // [rows, blocks], 32 columns each
@group(0) @binding(2) var<storage, read> scales: array<u32>; // [rows, 1 + ⌈blocks / 2⌉]

// Vectors of four columns per load of a thread: a block.
const UNIT = 8u;
alias Unit = vec4<u32>;

fn unit_of(row: u32, unit: u32, n_units: u32) -> Unit {
    return quants[row * n_units + unit];
}

// The k-th four columns of a unit, unscaled.
fn four(unit: Unit, k: u32) -> vec4<f32> {
    let word = unit[k / 2u] >> (16u * (k % 2u));
    return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u)) - 8.0;
}
