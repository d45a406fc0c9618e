// What the kernels share that append new keys and values to a cache: a workgroup takes one head of one position, the
// keys where z is 0 and the values where it is 1. `kv_*.wgsl` comes before it. // k, v [T, kv heads · d]
struct Params {
    n_kv_heads: u32,
    head_dim: u32,
    // Where the first new position goes.
    position: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read_write> keys: array<KvFour>;
@group(0) @binding(4) var<storage, read_write> values: array<KvFour>;
@group(0) @binding(5) var<storage, read_write> scales: array<f32>; // [context, kv heads, 2], of eight bits only

const THREADS = 64u;

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

fn new_four(id: vec3<u32>, at: u32) -> vec4<f32> {
    let column = 4u * at;
    return vec4<f32>(number(id, column), number(id, column + 1u), number(id, column + 2u), number(id, column + 3u));
}

fn keep(id: vec3<u32>, at: u32, n_fours: u32, kept: KvFour) {
    let place = ((params.position + id.y) * params.n_kv_heads + id.x) * n_fours + at;
    if id.z == 0u {
        keys[place] = kept;
    } else {
        values[place] = kept;
    }
}
