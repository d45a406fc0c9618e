// Keys and values in f32; a head is padded with zeros to whole fours. This text comes before a kernel of attention.
alias KvFour = vec4<f32>; // [context, kv heads, fours]

fn four(kept: KvFour) -> vec4<f32> {
    return kept;
}

fn scale_of(scale: f32) -> f32 {
    return 1.0;
}
