// Shared by the kernels of the causal depthwise convolution.
@group(0) @binding(1) var<storage, read> weight: array<f32>; // [d_conv, channels]
@group(0) @binding(2) var<storage, read> bias: array<f32>; // [channels]
@group(0) @binding(3) var<storage, read> x: array<f32>; // [T, x_stride], channels columns from x_start
@group(0) @binding(4) var<storage, read_write> state: array<f32>; // [d_conv − 1, channels]
@group(0) @binding(5) var<storage, read_write> y: array<f32>; // [T, channels]

// Row `at` of the state followed by x, as one sequence.
fn input(at: u32, channel: u32) -> f32 {
    let n_state = params.d_conv - 1u;
    if at < n_state {
        return state[at * params.channels + channel];
    }
    return x[(at - n_state) * params.x_stride + params.x_start + channel];
}

fn convolve(t: u32, channel: u32) {
    var sum = bias[channel];
    for (var k = 0u; k < params.d_conv; k++) {
        sum += weight[k * params.channels + channel] * input(t + k, channel);
    }
    y[t * params.channels + channel] = silu(sum);
}

// The last d_conv − 1 inputs become the state.
fn update_state(channel: u32) {
    // In ascending order, so that each row is read before it is overwritten.
    for (var i = 0u; i + 1u < params.d_conv; i++) {
        state[i * params.channels + channel] = input(params.n_tokens + i, channel);
    }
}
