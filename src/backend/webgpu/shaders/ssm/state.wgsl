// The state after a chunk: what is left of the state before it, and of each token's x⊗B. One product per head.
// `ssm.wgsl` comes before it, `product.wgsl` after it. CPU twin: `add_outer_products` in `cpu/ssm_scan.rs`.
// left [H, CHUNK, 1 + CHUNK]
@group(0) @binding(1) var<storage, read> xbc: array<f32>;
@group(0) @binding(2) var<storage, read> left: array<f32>;
@group(0) @binding(3) var<storage, read_write> state: array<f32>;

fn sizes() -> vec3<u32> {
    return vec3<u32>(params.head_dim, params.d_state, params.n_tokens);
}

// What is left after the chunk's last token.
fn left_row(head: u32) -> u32 {
    return (head * CHUNK + params.n_tokens - 1u) * (CHUNK + 1u);
}

fn left_factor(head: u32, p: u32, t: u32) -> f32 {
    return left[left_row(head) + 1u + t] * xbc[xbc_row(t) + params.x_start + head * params.head_dim + p];
}

fn right_factor(head: u32, n: u32, t: u32) -> f32 {
    return xbc[xbc_row(t) + params.b_start + group_of(head) * params.d_state + n];
}

fn put(head: u32, p: u32, n: u32, sum: f32) {
    let at = (head * params.head_dim + p) * params.d_state + n;
    state[at] = left[left_row(head)] * state[at] + sum;
}
