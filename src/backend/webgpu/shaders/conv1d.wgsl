// The causal depthwise convolution, its SiLU and its state. One thread per channel, which owns that channel of the state:
// tokens pass one after the other. // weight [d_conv, channels], bias [channels], state [d_conv − 1, channels]
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

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let channel = id.x;
    if channel >= params.channels {
        return;
    }
    for (var t = 0u; t < params.n_tokens; t++) {
        var sum = bias[channel];
        for (var k = 0u; k < params.d_conv; k++) {
            sum += weight[k * params.channels + channel] * input(t + k, channel);
        }
        y[t * params.channels + channel] = silu(sum);
    }
    // Upwards: a row is read before it is overwritten.
    for (var i = 0u; i + 1u < params.d_conv; i++) {
        state[i * params.channels + channel] = input(params.n_tokens + i, channel);
    }
}
