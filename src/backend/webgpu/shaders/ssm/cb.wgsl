// C·B of every two tokens of a chunk, once for all heads of a group. `ssm.wgsl` comes before it, `product.wgsl` after it.
// CPU twin: `ssm_scan` in `cpu/mod.rs`. // cb [G, CHUNK, CHUNK]
@group(0) @binding(1) var<storage, read> xbc: array<f32>;
@group(0) @binding(2) var<storage, read_write> cb: array<f32>;

fn sizes() -> vec3<u32> {
    return vec3<u32>(params.n_tokens, params.n_tokens, params.d_state);
}

fn left_factor(group: u32, t: u32, n: u32) -> f32 {
    return xbc[xbc_row(t) + params.c_start + group * params.d_state + n];
}

fn right_factor(group: u32, t: u32, n: u32) -> f32 {
    return xbc[xbc_row(t) + params.b_start + group * params.d_state + n];
}

fn put(group: u32, i: u32, j: u32, sum: f32) {
    cb[(group * CHUNK + i) * CHUNK + j] = sum;
}
