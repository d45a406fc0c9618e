// One row of x, without padding.
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>; // [d / 4]

fn x_at(at: u32) -> vec4<f32> {
    return x[at];
}
