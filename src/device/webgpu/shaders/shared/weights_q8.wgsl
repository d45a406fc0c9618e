// Weights of eight bits. Their scales are read in `scales.wgsl`.

// Vectors of four columns per load of a thread: half a block.
const UNIT = 4u;
alias Unit = vec4<u32>;

// The k-th four columns of a unit where they are in a word and in its upper half: ZERO too large, and multiplied by
// their PLACES.
const ZERO = 128.0;
const PLACES = vec4<f32>(1.0, 256.0, 1.0, 256.0);

fn masked(unit: Unit, k: u32) -> vec4<u32> {
    // Flipping the sign of two's complement adds 128.
    let word = unit[k] ^ 0x80808080u;
    let upper = word >> 16u;
    return vec4<u32>(word, word, upper, upper) & vec4<u32>(0xffu, 0xff00u, 0xffu, 0xff00u);
}

// The k-th four columns of a unit, unscaled.
fn four(unit: Unit, k: u32) -> vec4<f32> {
    let word = unit[k];
    let shifted = vec4<u32>(word << 24u, word << 16u, word << 8u, word);
    return vec4<f32>(bitcast<vec4<i32>>(shifted) >> vec4<u32>(24u));
}
