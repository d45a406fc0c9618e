// Peak rate of f32 multiply-adds: independent chains of fma without memory access. Inputs depend on the thread and the
// result is stored, so that the compiler can't remove the computation.
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // [threads]

// Four chains of four lanes.
const ROUNDS = STEP_MACS / 16u;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let factor = vec4<f32>(0.5 + f32(id.x % 7u) / 16.0);
    var a = vec4<f32>(1.0, 2.0, 3.0, 4.0);
    var b = a + 1.0;
    var c = a + 2.0;
    var d = a + 3.0;
    for (var i = 0u; i < params.n_steps; i++) {
        // unroll
        for (var j = 0u; j < ROUNDS; j++) {
            a = fma(a, factor, factor);
            b = fma(b, factor, factor);
            c = fma(c, factor, factor);
            d = fma(d, factor, factor);
        }
    }
    let sum = a + b + c + d;
    y[id.x] = sum.x + sum.y + sum.z + sum.w;
}
