// KV cache in eight bits, with a scale per head and position. A unit is what a thread loads at once, 16 bytes; a head
// is padded with zeros to whole units. The CPU's cache has the same quants and scales.
alias KvUnit = vec4<u32>;
const KV_FOURS = 4u; // vectors of four columns per unit

// The k-th four columns of a unit, unscaled.
fn kv_four(unit: KvUnit, k: u32) -> vec4<f32> {
    let word = unit[k];
    let shifted = vec4<u32>(word << 24u, word << 16u, word << 8u, word);
    return vec4<f32>(bitcast<vec4<i32>>(shifted) >> vec4<u32>(24u));
}

fn scale_of(scale: f32) -> f32 {
    return scale;
}
