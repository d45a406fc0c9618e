// Unpacks weights without shifts and conversions: with the exponent of 2²³ before it, a masked weight w is the float
// 2²³ + w. It is multiplied by a power of two, and the input divided by it, once for all rows: both are exact, so
// results are those of `unpack_shift.wgsl` bit for bit.
const EXPONENT = 0x4b000000u;

fn unpacked(unit: Unit, k: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(masked(unit, k) | vec4<u32>(EXPONENT)) - (8388608.0 + ZERO * PLACES);
}

fn unpacked_input(x: vec4<f32>) -> vec4<f32> {
    return x / PLACES;
}

fn unpacked_product(product: f32, sum: f32) -> f32 {
    return product;
}
