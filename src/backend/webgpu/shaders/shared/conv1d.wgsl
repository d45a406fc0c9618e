// What the kernels of the causal depthwise convolution share. `activations.wgsl` comes before it.
// weight [d_conv, channels], bias [channels], x [T, channels] in a wider tensor, state [d_conv − 1, channels]
struct Params {
    n_tokens: u32,
    channels: u32,
    d_conv: u32,
    x_start: u32,
    x_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> state: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

// Row `at` of the state and x, one above the other.
fn input(at: u32, channel: u32) -> f32 {
    let kept = params.d_conv - 1u;
    if at < kept {
        return state[at * params.channels + channel];
    }
    return x[(at - kept) * params.x_stride + params.x_start + channel];
}

fn make_y(t: u32, channel: u32) {
    var sum = bias[channel];
    for (var k = 0u; k < params.d_conv; k++) {
        sum += weight[k * params.channels + channel] * input(t + k, channel);
    }
    y[t * params.channels + channel] = silu(sum);
}

fn move_state(channel: u32) {
    // Upwards: a row is read before it is overwritten.
    for (var i = 0u; i + 1u < params.d_conv; i++) {
        state[i * params.channels + channel] = input(params.n_tokens + i, channel);
    }
}
