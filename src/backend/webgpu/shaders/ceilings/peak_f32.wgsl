// The most that the device multiplies: chains of fused multiplications and additions that don't wait for one another, with
// no memory to wait for. What it computes is of no use, and written so that it is computed at all.
struct Params {
    // Steps of each thread; 64 multiplications each.
    n_steps: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // [threads]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let factor = vec4<f32>(0.5 + f32(id.x % 7u) / 16.0);
    var a = vec4<f32>(1.0, 2.0, 3.0, 4.0);
    var b = a + 1.0;
    var c = a + 2.0;
    var d = a + 3.0;
    for (var i = 0u; i < params.n_steps; i++) {
        for (var j = 0u; j < 4u; j++) {
            a = fma(a, factor, factor);
            b = fma(b, factor, factor);
            c = fma(c, factor, factor);
            d = fma(d, factor, factor);
        }
    }
    let sum = a + b + c + d;
    y[id.x] = sum.x + sum.y + sum.z + sum.w;
}
