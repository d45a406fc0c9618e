// Unpacks weights without shifts, which are slow on some devices: a weight is converted where it is in its word, that
// is times a power of two, and the input is divided by it, once for all rows. What makes weights signed is subtracted
// from the product of a unit; so sums are rounded in another way than by `unpack_shift.wgsl`.
fn unpacked(unit: Unit, k: u32) -> vec4<f32> {
    return vec4<f32>(masked(unit, k));
}

fn unpacked_input(x: vec4<f32>) -> vec4<f32> {
    return x / PLACES;
}

fn unpacked_product(product: f32, sum: f32) -> f32 {
    return product - ZERO * sum;
}
