// S ← exp(dt·A)·S + dt·x⊗B; y = C·S + D·x, token by token, for a few tokens. A workgroup has four channels with sixteen
// threads each, which share the state's numbers among them: the state passes memory once each way, which is what bounds
// a step. `ssm.wgsl` comes before it. CPU twin: `step` in `cpu/ssm_scan.rs`. // y [T, H·P]
@group(0) @binding(1) var<storage, read> xbc: array<f32>;
@group(0) @binding(2) var<storage, read> dt: array<f32>;
@group(0) @binding(3) var<storage, read> dt_bias: array<f32>;
@group(0) @binding(4) var<storage, read> a: array<f32>;
@group(0) @binding(5) var<storage, read> d: array<f32>;
@group(0) @binding(6) var<storage, read_write> state: array<f32>;
@group(0) @binding(7) var<storage, read_write> y: array<f32>;

const CHANNELS = 4u;
const LANES = 16u;
// States of up to 256 numbers; the host asserts it.
const PER_LANE = 16u;
var<workgroup> sums: array<f32, CHANNELS * LANES>;

@compute @workgroup_size(CHANNELS * LANES)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let n_channels = params.n_heads * params.head_dim;
    let lane = thread % LANES;
    // Threads beyond the last channel walk along with it, because they meet the barriers, and write nothing.
    let wanted = id.x * CHANNELS + thread / LANES;
    let channel = min(wanted, n_channels - 1u);
    let head = channel / params.head_dim;
    let group = group_of(head) * params.d_state;
    let state_start = channel * params.d_state;

    var s: array<f32, PER_LANE>;
    for (var i = 0u; i * LANES + lane < params.d_state; i++) {
        s[i] = state[state_start + i * LANES + lane];
    }
    for (var t = 0u; t < params.n_tokens; t++) {
        let step = step_of(dt[dt_at(t, head)] + dt_bias[head]);
        let decay = bounded_exp(step * a[head]);
        let row = xbc_row(t);
        let value = xbc[row + params.x_start + channel];
        let b_start = row + params.b_start + group;
        let c_start = row + params.c_start + group;
        var sum = 0.0;
        for (var i = 0u; i * LANES + lane < params.d_state; i++) {
            let n = i * LANES + lane;
            s[i] = decay * s[i] + step * value * xbc[b_start + n];
            sum += xbc[c_start + n] * s[i];
        }
        sums[thread] = sum;
        workgroupBarrier();
        if lane == 0u && wanted < n_channels {
            var total = d[head] * value;
            for (var i = 0u; i < LANES; i++) {
                total += sums[thread + i];
            }
            y[(params.first + t) * n_channels + channel] = total;
        }
        workgroupBarrier();
    }
    if wanted < n_channels {
        for (var i = 0u; i * LANES + lane < params.d_state; i++) {
            state[state_start + i * LANES + lane] = s[i];
        }
    }
}
