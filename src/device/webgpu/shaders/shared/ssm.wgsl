// Shared by the kernels of the scan: addressing of a token's inputs, and its step size. x, B and C are columns of one
// tensor `xbc` [T, xbc_stride], dt of another; `params.first` is the first token of this dispatch.

fn group_of(head: u32) -> u32 {
    return head / (params.n_heads / params.n_groups);
}

fn xbc_row(t: u32) -> u32 {
    return (params.first + t) * params.xbc_stride;
}

fn dt_at(t: u32, head: u32) -> u32 {
    return (params.first + t) * params.dt_stride + params.dt_start + head;
}

// max(softplus(dt + bias), dt_min)
fn step_size(dt_and_bias: f32) -> f32 {
    return max(softplus(dt_and_bias), params.dt_min);
}
