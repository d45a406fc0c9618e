// y of a chunk in the dual form: [C·Bᵀ ∘ L, what is left of the state · C]·[x, S], and D·x. One product per head; the
// sum over k has the chunk's tokens first and the state's numbers after them. A token that is not finite may make the
// earlier ones of its chunk so, since zero times it is no zero. `ssm.wgsl` comes before it, `product.wgsl` after it.
// CPU twin: `chunk` in `cpu/ssm_scan.rs`. // cb [G, CHUNK, CHUNK], left [H, CHUNK, 1 + CHUNK], y [T, H·P]
@group(0) @binding(1) var<storage, read> xbc: array<f32>;
@group(0) @binding(2) var<storage, read> cb: array<f32>;
@group(0) @binding(3) var<storage, read> left: array<f32>;
@group(0) @binding(4) var<storage, read> d: array<f32>;
@group(0) @binding(5) var<storage, read> state: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;

fn sizes() -> vec3<u32> {
    return vec3<u32>(params.n_tokens, params.head_dim, params.n_tokens + params.d_state);
}

fn left_factor(head: u32, t: u32, k: u32) -> f32 {
    let left_row = (head * CHUNK + t) * (CHUNK + 1u);
    let group = group_of(head);
    if k >= params.n_tokens {
        let n = k - params.n_tokens;
        return left[left_row] * xbc[xbc_row(t) + params.c_start + group * params.d_state + n];
    }
    if k > t {
        return 0.0;
    }
    return left[left_row + 1u + k] * cb[(group * CHUNK + t) * CHUNK + k];
}

fn right_factor(head: u32, p: u32, k: u32) -> f32 {
    let channel = head * params.head_dim + p;
    if k >= params.n_tokens {
        return state[channel * params.d_state + k - params.n_tokens];
    }
    return xbc[xbc_row(k) + params.x_start + channel];
}

fn put(head: u32, t: u32, p: u32, sum: f32) {
    let channel = head * params.head_dim + p;
    let direct = d[head] * xbc[xbc_row(t) + params.x_start + channel];
    y[(params.first + t) * params.n_heads * params.head_dim + channel] = sum + direct;
}
