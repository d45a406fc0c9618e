// C·Bᵀ of all pairs of tokens in a chunk, computed once per group of heads.
@group(0) @binding(1) var<storage, read> xbc: array<f32>; // [T, xbc_stride]
@group(0) @binding(2) var<storage, read_write> cb: array<f32>; // [G, CHUNK, CHUNK]

fn sizes() -> vec3<u32> {
    return vec3<u32>(params.n_tokens, params.n_tokens, params.d_state);
}

fn a_element(group: u32, t: u32, n: u32) -> f32 {
    return xbc[xbc_row(t) + params.c_start + group * params.d_state + n];
}

fn b_element(group: u32, t: u32, n: u32) -> f32 {
    return xbc[xbc_row(t) + params.b_start + group * params.d_state + n];
}

fn store(group: u32, i: u32, j: u32, sum: f32) {
    cb[(group * CHUNK + i) * CHUNK + j] = sum;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    tiled_product(id, thread);
}
