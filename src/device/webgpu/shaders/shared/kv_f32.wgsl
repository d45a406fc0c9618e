// KV cache in f32. A head is padded with zeros to a multiple of four columns. Same interface as `kv_i8.wgsl`.
alias KvFour = vec4<f32>;

fn four(stored: KvFour) -> vec4<f32> {
    return stored;
}

fn scale_of(scale: f32) -> f32 {
    return 1.0;
}
