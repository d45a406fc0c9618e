// The scan of `scan.wgsl` for any d_state up to MAX_STATE and rows that start anywhere. A workgroup handles
// SCAN_CHANNELS channels with LANES threads each.
@group(0) @binding(1) var<storage, read> xbc: array<f32>; // [T, xbc_stride]
@group(0) @binding(2) var<storage, read> dt: array<f32>; // [T, dt_stride], with the gate
@group(0) @binding(3) var<storage, read> dt_bias: array<f32>; // [H]
@group(0) @binding(4) var<storage, read> a: array<f32>; // [H]
@group(0) @binding(5) var<storage, read> d: array<f32>; // [H]
@group(0) @binding(6) var<storage, read_write> state: array<f32>; // [H, P, N]
@group(0) @binding(7) var<storage, read_write> y: array<f32>; // [T, H, P]

const LANES = THREADS / SCAN_CHANNELS;
const PER_LANE = MAX_STATE / LANES;
var<workgroup> sums: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let n_channels = params.n_heads * params.head_dim;
    let lane = thread % LANES;
    // Threads past the last channel repeat it, because all threads must reach the barriers, but store nothing.
    let own_channel = id.x * SCAN_CHANNELS + thread / LANES;
    let channel = min(own_channel, n_channels - 1u);
    let head = channel / params.head_dim;
    let group = group_of(head) * params.d_state;
    let state_start = channel * params.d_state;

    var s: array<f32, PER_LANE>;
    // unroll
    for (var i = 0u; i < PER_LANE; i++) {
        if i * LANES + lane < params.d_state {
            s[i] = state[state_start + i * LANES + lane];
        }
    }
    for (var t = 0u; t < params.n_tokens; t++) {
        let step = step_size(dt[dt_at(t, head)] + dt_bias[head]);
        let decay = bounded_exp(step * a[head]);
        let row = xbc_row(t);
        let value = xbc[row + params.x_start + channel];
        let b_start = row + params.b_start + group;
        let c_start = row + params.c_start + group;
        var sum = 0.0;
        // unroll
        for (var i = 0u; i < PER_LANE; i++) {
            let n = i * LANES + lane;
            if n < params.d_state {
                s[i] = decay * s[i] + step * value * xbc[b_start + n];
                sum += xbc[c_start + n] * s[i];
            }
        }
        sums[thread] = sum;
        workgroupBarrier();
        if lane == 0u && own_channel < n_channels {
            var total = d[head] * value;
            for (var i = 0u; i < LANES; i++) {
                total += sums[thread + i];
            }
            store_y(t, n_channels, channel, total);
        }
        workgroupBarrier();
    }
    if own_channel < n_channels {
        // unroll
        for (var i = 0u; i < PER_LANE; i++) {
            if i * LANES + lane < params.d_state {
                state[state_start + i * LANES + lane] = s[i];
            }
        }
    }
}
