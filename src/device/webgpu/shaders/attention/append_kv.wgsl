// Appends keys and values to a cache. A workgroup handles one head of one position: its keys if z is 0, its values if z
// is 1.
@group(0) @binding(1) var<storage, read> k: array<f32>; // [T, kv heads, d]
@group(0) @binding(2) var<storage, read> v: array<f32>; // [T, kv heads, d]

fn number(id: vec3<u32>, column: u32) -> f32 {
    let at = (id.y * params.n_kv_heads + id.x) * params.head_dim + column;
    if id.z == 0u {
        return k[at];
    }
    return v[at];
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    append(id, lane);
}
