// Shared by the kernels of linear layers. A kernel consists of weights (`weights_*.wgsl`), the matrices that they
// belong to (`matrix.wgsl`), what is multiplied (`linear/input*.wgsl`), what happens to a product
// (`linear/finish*.wgsl`), and the form of the computation, which has the entry point.
const GROUP_FOURS = GROUP / 4u;

fn n_units() -> u32 {
    return params.n_groups * GROUP_FOURS / UNIT;
}

// sum + a·b
fn multiply_add(a: vec4<f32>, b: vec4<f32>, sum: f32) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}
