// The state after a chunk: the decayed state before it plus each token's decayed dt·x⊗B. One product per head.
@group(0) @binding(1) var<storage, read> xbc: array<f32>; // [T, xbc_stride]
@group(0) @binding(2) var<storage, read> decay: array<f32>; // [H, CHUNK, 1 + CHUNK]
@group(0) @binding(3) var<storage, read_write> state: array<f32>; // [H, P, N]

fn sizes() -> vec3<u32> {
    return vec3<u32>(params.head_dim, params.d_state, params.n_tokens);
}

// The row of `decay` after the chunk's last token.
fn last_row(head: u32) -> u32 {
    return (head * CHUNK + params.n_tokens - 1u) * (CHUNK + 1u);
}

fn a_element(head: u32, p: u32, t: u32) -> f32 {
    return decay[last_row(head) + 1u + t] * xbc[xbc_row(t) + params.x_start + head * params.head_dim + p];
}

fn b_element(head: u32, n: u32, t: u32) -> f32 {
    return xbc[xbc_row(t) + params.b_start + group_of(head) * params.d_state + n];
}

fn store(head: u32, p: u32, n: u32, sum: f32) {
    let at = (head * params.head_dim + p) * params.d_state + n;
    state[at] = decay[last_row(head)] * state[at] + sum;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    tiled_product(id, thread);
}
