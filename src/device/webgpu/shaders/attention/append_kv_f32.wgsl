// Appends keys and values to a cache in f32.
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let n_fours = (params.head_dim + 3u) / 4u;
    for (var at = lane; at < n_fours; at += THREADS) {
        store(id, at, n_fours, new_four(id, at));
    }
}
