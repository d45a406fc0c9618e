// S ← exp(dt·A)·S + dt·x⊗B; y = C·S + D·x, token by token. A workgroup has four channels with sixteen threads each, which
// share the state's numbers among them. // x [T, H·P], b, c [T, G·N], steps [T, H], state [H·P, N]
struct Params {
    n_tokens: u32,
    n_heads: u32,
    head_dim: u32,
    d_state: u32,
    n_groups: u32,
    x_start: u32,
    x_stride: u32,
    b_start: u32,
    b_stride: u32,
    c_start: u32,
    c_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> c: array<f32>;
@group(0) @binding(4) var<storage, read> steps: array<vec2<f32>>;
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
    let group = head / (params.n_heads / params.n_groups) * params.d_state;
    let state_start = channel * params.d_state;

    var s: array<f32, PER_LANE>;
    for (var i = 0u; i * LANES + lane < params.d_state; i++) {
        s[i] = state[state_start + i * LANES + lane];
    }
    for (var t = 0u; t < params.n_tokens; t++) {
        let step = steps[t * params.n_heads + head];
        let value = x[t * params.x_stride + params.x_start + channel];
        let b_start = t * params.b_stride + params.b_start + group;
        let c_start = t * params.c_stride + params.c_start + group;
        var sum = 0.0;
        for (var i = 0u; i * LANES + lane < params.d_state; i++) {
            let n = i * LANES + lane;
            s[i] = step.y * s[i] + step.x * value * b[b_start + n];
            sum += c[c_start + n] * s[i];
        }
        sums[thread] = sum;
        workgroupBarrier();
        if lane == 0u && wanted < n_channels {
            var total = d[head] * value;
            for (var i = 0u; i < LANES; i++) {
                total += sums[thread + i];
            }
            y[t * n_channels + channel] = total;
        }
        workgroupBarrier();
    }
    if wanted < n_channels {
        for (var i = 0u; i * LANES + lane < params.d_state; i++) {
            state[state_start + i * LANES + lane] = s[i];
        }
    }
}
