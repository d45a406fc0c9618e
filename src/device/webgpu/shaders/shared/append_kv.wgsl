// Shared by the kernels that append to the KV cache. A workgroup handles one head of one position: its keys if z is 0,
// its values if z is 1. Needs a `kv_*.wgsl` before it.
@group(0) @binding(1) var<storage, read> k: array<f32>; // [T, kv heads, d]
@group(0) @binding(2) var<storage, read> v: array<f32>; // [T, kv heads, d]
@group(0) @binding(3) var<storage, read_write> keys: array<KvUnit>; // [context, kv heads, units]
@group(0) @binding(4) var<storage, read_write> values: array<KvUnit>; // [context, kv heads, units]
@group(0) @binding(5) var<storage, read_write> scales: array<f32>; // [context, kv heads, 2], eight bits only

fn number(id: vec3<u32>, column: u32) -> f32 {
    if column >= params.head_dim {
        return 0.0;
    }
    let at = (id.y * params.n_kv_heads + id.x) * params.head_dim + column;
    if id.z == 0u {
        return k[at];
    }
    return v[at];
}

fn n_units() -> u32 {
    return (params.head_dim + 4u * UNIT_FOURS - 1u) / (4u * UNIT_FOURS);
}

// Vector `at` of four columns.
fn new_four(id: vec3<u32>, at: u32) -> vec4<f32> {
    let column = 4u * at;
    return vec4<f32>(number(id, column), number(id, column + 1u), number(id, column + 2u), number(id, column + 3u));
}

fn store(id: vec3<u32>, at: u32, value: KvUnit) {
    let index = ((params.position + id.y) * params.n_kv_heads + id.x) * n_units() + at;
    if id.z == 0u {
        keys[index] = value;
    } else {
        values[index] = value;
    }
}
