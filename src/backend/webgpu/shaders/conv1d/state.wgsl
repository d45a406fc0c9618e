// Moves the state of the convolution on by many tokens. One thread per channel. `conv1d_x.wgsl` comes before it. CPU twin:
// `next_state` in `cpu/conv1d.rs`.
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.channels {
        return;
    }
    move_state(id.x);
}
