// y of a chunk in the dual form: [C·Bᵀ ∘ L, decay of the state · C]·[x, S] + D·x. One product per head, summed over the
// chunk's tokens first and the state second. A NaN or infinity in a token may spread to earlier tokens of its chunk,
// because zero times it is not zero.
@group(0) @binding(1) var<storage, read> xbc: array<f32>; // [T, xbc_stride]
@group(0) @binding(2) var<storage, read> cb: array<f32>; // [G, CHUNK, CHUNK]
@group(0) @binding(3) var<storage, read> decay: array<f32>; // [H, CHUNK, 1 + CHUNK]
@group(0) @binding(4) var<storage, read> d: array<f32>; // [H]
@group(0) @binding(5) var<storage, read> state: array<f32>; // [H, P, N]
@group(0) @binding(6) var<storage, read_write> y: array<f32>; // [T, H, P]

fn sizes() -> vec3<u32> {
    return vec3<u32>(params.n_tokens, params.head_dim, params.n_tokens + params.d_state);
}

fn a_element(head: u32, t: u32, k: u32) -> f32 {
    let row = (head * CHUNK + t) * (CHUNK + 1u);
    let group = group_of(head);
    if k >= params.n_tokens {
        let n = k - params.n_tokens;
        return decay[row] * xbc[xbc_row(t) + params.c_start + group * params.d_state + n];
    }
    if k > t {
        return 0.0;
    }
    return decay[row + 1u + k] * cb[(group * CHUNK + t) * CHUNK + k];
}

fn b_element(head: u32, p: u32, k: u32) -> f32 {
    let channel = head * params.head_dim + p;
    if k >= params.n_tokens {
        return state[channel * params.d_state + k - params.n_tokens];
    }
    return xbc[xbc_row(k) + params.x_start + channel];
}

fn store(head: u32, t: u32, p: u32, sum: f32) {
    let channel = head * params.head_dim + p;
    let direct = d[head] * xbc[xbc_row(t) + params.x_start + channel];
    y[(params.first + t) * params.n_heads * params.head_dim + channel] = sum + direct;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    tiled_product(id, thread);
}
