// State update of the convolution after `rows.wgsl`. One thread per channel.
@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.channels {
        return;
    }
    update_state(id.x);
}
