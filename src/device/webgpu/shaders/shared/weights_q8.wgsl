// Weights of eight bits. Their scales are read in `scales.wgsl`.

// Vectors of four columns per load of a thread: half a block.
const UNIT = 4u;
alias Unit = vec4<u32>;

// The k-th four columns of a unit, unscaled.
fn four(unit: Unit, k: u32) -> vec4<f32> {
    let word = unit[k];
    let shifted = vec4<u32>(word << 24u, word << 16u, word << 8u, word);
    return vec4<f32>(bitcast<vec4<i32>>(shifted) >> vec4<u32>(24u));
}
