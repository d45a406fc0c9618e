// What the kernels of the scan share: its sizes, and what dt makes of each token. `activations.wgsl` comes before it.
// x [T, H·P], b, c [T, G·N] are columns of one tensor, dt [T, H] of another; state [H·P, N]
struct Params {
    // The tokens of this call are those from `first` on.
    first: u32,
    n_tokens: u32,
    n_heads: u32,
    head_dim: u32,
    d_state: u32,
    n_groups: u32,
    x_start: u32,
    b_start: u32,
    c_start: u32,
    xbc_stride: u32,
    dt_start: u32,
    dt_stride: u32,
    dt_min: f32,
}

@group(0) @binding(0) var<uniform> params: Params;

// Tokens that meet one another in the dual form.
const CHUNK = 64u;

fn group_of(head: u32) -> u32 {
    return head / (params.n_heads / params.n_groups);
}

// Where token t has its columns of x, b and c.
fn xbc_row(t: u32) -> u32 {
    return (params.first + t) * params.xbc_stride;
}

// max(softplus(dt + bias), dt_min)
fn step_of(raw: f32) -> f32 {
    return max(softplus(raw), params.dt_min);
}

fn dt_at(t: u32, head: u32) -> u32 {
    return (params.first + t) * params.dt_stride + params.dt_start + head;
}
