// Weights of four bits. Their scales are read in `scales.wgsl`.

// Vectors of four columns per load of a thread: a block.
const UNIT = 8u;
alias Unit = vec4<u32>;

// The k-th four columns of a unit where they are in a word: ZERO too large, and multiplied by their PLACES.
const ZERO = 8.0;
const PLACES = vec4<f32>(1.0, 16.0, 256.0, 4096.0);

fn masked(unit: Unit, k: u32) -> vec4<u32> {
    return vec4<u32>(unit[k / 2u] >> (16u * (k % 2u))) & vec4<u32>(0xfu, 0xf0u, 0xf00u, 0xf000u);
}

// The k-th four columns of a unit, unscaled.
fn four(unit: Unit, k: u32) -> vec4<f32> {
    let word = unit[k / 2u] >> (16u * (k % 2u));
    return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u)) - 8.0;
}
