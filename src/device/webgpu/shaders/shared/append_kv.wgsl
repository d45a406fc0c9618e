// Shared by the kernels that append to the KV cache: the cache, and the new numbers of one head of one position. `id`
// is the head, the row, and 0 for keys or 1 for values. Needs a `kv_*.wgsl` before it; the kernel defines `number`.
@group(0) @binding(3) var<storage, read_write> keys: array<KvUnit>; // [context, kv heads, units]
@group(0) @binding(4) var<storage, read_write> values: array<KvUnit>; // [context, kv heads, units]
@group(0) @binding(5) var<storage, read_write> kv_scales: array<f32>; // [context, kv heads, 2], eight bits only

fn kv_units() -> u32 {
    return (params.head_dim + 4u * KV_FOURS - 1u) / (4u * KV_FOURS);
}

// Zero past the last column.
fn column_number(id: vec3<u32>, column: u32) -> f32 {
    if column >= params.head_dim {
        return 0.0;
    }
    return number(id, column);
}

// Vector `at` of four columns.
fn new_four(id: vec3<u32>, at: u32) -> vec4<f32> {
    return vec4<f32>(
        column_number(id, 4u * at), column_number(id, 4u * at + 1u),
        column_number(id, 4u * at + 2u), column_number(id, 4u * at + 3u),
    );
}

fn store_kv(id: vec3<u32>, at: u32, value: KvUnit) {
    let index = ((params.position + id.y) * params.n_kv_heads + id.x) * kv_units() + at;
    if id.z == 0u {
        keys[index] = value;
    } else {
        values[index] = value;
    }
}
