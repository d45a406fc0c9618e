// Peak bandwidth of reading and writing: copies every 16 bytes of a large buffer once.
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // [n_fours]
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>; // [n_fours]

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let n_threads = THREADS * groups.x;
    for (var at = id.x; at < params.n_fours; at += n_threads) {
        y[at] = x[at];
    }
}
