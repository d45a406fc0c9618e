// Appends one head of one position to a cache in eight bits: the nearest multiples of 1/127 of the head's largest
// magnitude, like `quantize` in the CPU's `kv_cache.rs`.
var<workgroup> peaks: array<u32, THREADS>;

// Vector `at` of four columns as quants.
fn word(id: vec3<u32>, at: u32, inverse: f32) -> u32 {
    let quants = bitcast<vec4<u32>>(vec4<i32>(round(new_four(id, at) * inverse))) & vec4<u32>(255u);
    return quants.x | (quants.y << 8u) | (quants.z << 16u) | (quants.w << 24u);
}

// Call from all threads.
fn append(id: vec3<u32>, lane: u32) {
    let n_fours = (params.head_dim + 3u) / 4u;
    // Magnitudes are compared as integers: same order as floats, and NaN is larger than all numbers, so it propagates.
    var peak_bits = 0u;
    for (var at = lane; at < n_fours; at += THREADS) {
        let bits = bitcast<vec4<u32>>(new_four(id, at)) & vec4<u32>(0x7fffffffu);
        peak_bits = max(peak_bits, max(max(bits.x, bits.y), max(bits.z, bits.w)));
    }
    peaks[lane] = peak_bits;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            peaks[lane] = max(peaks[lane], peaks[lane + half]);
        }
    }
    workgroupBarrier();
    let peak = bitcast<f32>(peaks[0]);
    // Zeros, or numbers so small that the inverse would overflow.
    let is_tiny = peaks[0] < bitcast<u32>(3.8e-37);
    let inverse = select(127.0 / peak, 0.0, is_tiny);
    for (var at = lane; at < kv_units(); at += THREADS) {
        let unit = vec4<u32>(
            word(id, 4u * at, inverse), word(id, 4u * at + 1u, inverse),
            word(id, 4u * at + 2u, inverse), word(id, 4u * at + 3u, inverse),
        );
        store_kv(id, at, unit);
    }
    if lane == 0u {
        let row = (params.position + id.y) * params.n_kv_heads + id.x;
        kv_scales[2u * row + id.z] = select(peak / 127.0, 0.0, is_tiny);
    }
}
