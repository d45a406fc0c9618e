// Peak read bandwidth: reads every 16 bytes of a large buffer once; adjacent threads read adjacent addresses.
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // [n_fours]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [threads]

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let n_threads = THREADS * groups.x;
    var sum = vec4<f32>();
    for (var at = id.x; at < params.n_fours; at += n_threads) {
        sum += x[at];
    }
    y[id.x] = sum.x + sum.y + sum.z + sum.w;
}
