// Appends keys and values to a cache in f32.
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    for (var at = lane; at < n_units(); at += THREADS) {
        store(id, at, new_four(id, at));
    }
}
