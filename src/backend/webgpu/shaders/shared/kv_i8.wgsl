// Keys and values in eight bits with a scale per head and position, four to a word; a head is padded with zeros to whole
// fours. This text comes before a kernel of attention. The processor keeps the same numbers (`cpu/attention.rs`).
alias KvFour = u32; // [context, kv heads, fours]

fn four(kept: KvFour) -> vec4<f32> {
    let shifted = vec4<u32>(kept << 24u, kept << 16u, kept << 8u, kept);
    return vec4<f32>(bitcast<vec4<i32>>(shifted) >> vec4<u32>(24u));
}

fn scale_of(scale: f32) -> f32 {
    return scale;
}
