// Convolution, SiLU and state update for a few tokens. One thread per channel, which loops over the tokens: no other
// thread reads or writes that channel of the state.
@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.channels {
        return;
    }
    for (var t = 0u; t < params.n_tokens; t++) {
        convolve(t, id.x);
    }
    update_state(id.x);
}
