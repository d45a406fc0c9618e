// S ← exp(dt·A)·S + dt·x⊗B; y = C·S + D·x, token by token, for a few tokens. A decode step is bound by reading and
// writing the state, so a thread keeps four of the D_STATE numbers of a channel in registers, and both happen once, 16
// bytes at a time. In a fused decode step y is multiplied by silu(gate), which is a part of the tensor of dt. Rows of
// xbc, and B and C in them, start at multiples of four numbers; `scan_any.wgsl` is for other sizes.
@group(0) @binding(1) var<storage, read> xbc: array<vec4<f32>>; // [T, xbc_stride / 4]
@group(0) @binding(2) var<storage, read> dt: array<f32>; // [T, dt_stride], with the gate
@group(0) @binding(3) var<storage, read> dt_bias: array<f32>; // [H]
@group(0) @binding(4) var<storage, read> a: array<f32>; // [H]
@group(0) @binding(5) var<storage, read> d: array<f32>; // [H]
@group(0) @binding(6) var<storage, read_write> state: array<vec4<f32>>; // [H, P, N / 4]
@group(0) @binding(7) var<storage, read_write> y: array<f32>; // [T, H, P]

const LANES = D_STATE / 4u; // threads of a channel
const CHANNELS = THREADS / LANES; // channels of a workgroup
// The lanes' parts of y, for two tokens in turn: a token's are written while the first lanes may still add up those of
// the token before.
var<workgroup> sums: array<f32, 2u * THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let n_channels = params.n_heads * params.head_dim;
    let lane = thread % LANES;
    // Threads past the last channel repeat it, because all threads must reach the barriers, but store nothing.
    let own_channel = id.x * CHANNELS + thread / LANES;
    let channel = min(own_channel, n_channels - 1u);
    let head = channel / params.head_dim;
    let group = group_of(head) * D_STATE;
    let bias = dt_bias[head];
    let rate = a[head];

    var s = state[channel * LANES + lane];
    for (var t = 0u; t < params.n_tokens; t++) {
        let step = step_size(dt[dt_at(t, head)] + bias);
        let row = xbc_row(t);
        let at = row + params.x_start + channel;
        let value = xbc[at / 4u][at % 4u];
        let b = xbc[(row + params.b_start + group) / 4u + lane];
        let c = xbc[(row + params.c_start + group) / 4u + lane];
        s = bounded_exp(step * rate) * s + step * value * b;
        let places = (t % 2u) * THREADS;
        sums[places + thread] = dot(c, s);
        workgroupBarrier();
        if lane == 0u && own_channel < n_channels {
            var total = d[head] * value;
            // unroll
            for (var i = 0u; i < LANES; i++) {
                total += sums[places + thread + i];
            }
            store_y(t, n_channels, channel, total);
        }
    }
    if own_channel < n_channels {
        state[channel * LANES + lane] = s;
    }
}
