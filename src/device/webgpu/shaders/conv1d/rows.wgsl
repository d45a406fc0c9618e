// Convolution and SiLU for many tokens. One thread per token and channel; `state.wgsl` runs afterwards, when all
// threads have read the old state.
@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.channels {
        return;
    }
    convolve(id.y, id.x);
}
