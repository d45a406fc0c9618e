// Stores y of the recurrence, gated in a fused decode step.
fn store_y(t: u32, n_channels: u32, channel: u32, total: f32) {
    let row = params.first + t;
    var gated = total;
    if params.is_gated != 0u {
        gated *= silu(dt[row * params.dt_stride + params.gate_start + channel]);
    }
    y[row * n_channels + channel] = gated;
}
