// How `vec.wgsl` unpacks weights: with a shift and a conversion each. Same interface as `unpack_mask.wgsl` and
// `unpack_magic.wgsl`, which need quantised weights.

// The k-th four columns of a unit, for the product with `unpacked_input`.
fn unpacked(unit: Unit, k: u32) -> vec4<f32> {
    return four(unit, k);
}

fn unpacked_input(x: vec4<f32>) -> vec4<f32> {
    return x;
}

// The product of a unit from that of what is unpacked. `sum` is that of the unit's inputs.
fn unpacked_product(product: f32, sum: f32) -> f32 {
    return product;
}
