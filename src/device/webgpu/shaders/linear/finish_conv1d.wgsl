// Stores a product of in_proj, for one row. The columns of xbc pass the causal convolution with its SiLU first: the
// thread that has a channel's product is the only one that reads or writes the channel's state.
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [d_in_proj]
@group(0) @binding(6) var<storage, read> conv_weight: array<f32>; // [d_conv, channels]
@group(0) @binding(7) var<storage, read> conv_bias: array<f32>; // [channels]
@group(0) @binding(8) var<storage, read_write> conv_state: array<f32>; // [d_conv − 1, channels]

fn finish(t: u32, row: u32, product: f32) {
    let column = params.y_start + row;
    if column < params.xbc_start || column >= params.xbc_start + params.channels {
        y[column] = product;
        return;
    }
    let channel = column - params.xbc_start;
    let n_state = params.d_conv - 1u;
    var sum = conv_bias[channel];
    for (var k = 0u; k < n_state; k++) {
        let at = k * params.channels + channel;
        let earlier = conv_state[at];
        sum += conv_weight[at] * earlier;
        if k > 0u {
            conv_state[at - params.channels] = earlier;
        }
    }
    if n_state > 0u {
        conv_state[(n_state - 1u) * params.channels + channel] = product;
    }
    y[column] = silu(sum + conv_weight[n_state * params.channels + channel] * product);
}
