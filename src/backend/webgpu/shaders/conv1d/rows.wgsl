// The convolution and its SiLU for many tokens. One thread per token and channel; the state is moved on afterwards, when
// all have read it (`conv1d_state.wgsl`). `conv1d_x.wgsl` comes before it. CPU twin: `conv1d_row` in `cpu/conv1d.rs`.
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.channels {
        return;
    }
    make_y(id.y, id.x);
}
