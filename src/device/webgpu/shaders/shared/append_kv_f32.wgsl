// Appends one head of one position to a cache in f32. Call from all threads.
fn append(id: vec3<u32>, lane: u32) {
    for (var at = lane; at < kv_units(); at += THREADS) {
        store_kv(id, at, new_four(id, at));
    }
}
