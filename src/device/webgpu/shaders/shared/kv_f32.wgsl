// KV cache in f32. A unit is what a thread loads at once, 16 bytes; a head is padded with zeros to whole units. Same
// interface as `kv_i8.wgsl`.
alias KvUnit = vec4<f32>;
const KV_FOURS = 1u; // vectors of four columns per unit

// The k-th four columns of a unit, which has only four.
fn kv_four(unit: KvUnit, k: u32) -> vec4<f32> {
    return unit;
}

fn scale_of(scale: f32) -> f32 {
    return 1.0;
}
