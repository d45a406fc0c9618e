// Weights of four bits. Their scales are read in `scales.wgsl`.

// Vectors of four columns per load of a thread: a block.
const UNIT = 8u;
alias Unit = vec4<u32>;

// The k-th four columns of a unit, unscaled.
fn four(unit: Unit, k: u32) -> vec4<f32> {
    let word = unit[k / 2u] >> (16u * (k % 2u));
    return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u)) - 8.0;
}
