// The convolution, its SiLU and its state for a few tokens. One thread per channel, which owns that channel of the state:
// tokens pass one after the other. `conv1d_x.wgsl` comes before it. CPU twin: `cpu/conv1d.rs`.
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.channels {
        return;
    }
    for (var t = 0u; t < params.n_tokens; t++) {
        make_y(t, id.x);
    }
    move_state(id.x);
}
