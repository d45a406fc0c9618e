// KV cache in eight bits, four elements per u32, with a scale per head and position. A head is padded with zeros to a
// multiple of four columns. The CPU's cache has the same quants and scales.
alias KvFour = u32;

// Unscaled.
fn four(stored: KvFour) -> vec4<f32> {
    let shifted = vec4<u32>(stored << 24u, stored << 16u, stored << 8u, stored);
    return vec4<f32>(bitcast<vec4<i32>>(shifted) >> vec4<u32>(24u));
}

fn scale_of(scale: f32) -> f32 {
    return scale;
}
