// RMSNorm of x · silu(gate) with one mean per group of channels. One workgroup per group and row. A `sum_*.wgsl` comes
// before it. CPU twin: `cpu/norm.rs`.
// x, y [T, groups · width], weight [groups · width]; the gate lies in a wider tensor.
struct Params {
    width: u32,
    n_groups: u32,
    gate_start: u32,
    gate_stride: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> gate: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

const SUMS = 1u;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, thread: Thread) {
    let first = id.x * params.width;
    let start = id.y * params.n_groups * params.width + first;
    let gate_start = params.gate_start + id.y * params.gate_stride + first;
    // Four sums, so that four additions are under way at a time.
    var squares: Sums;
    for (var i = thread.lane; i < params.width; i += 4u * THREADS) {
        for (var k = 0u; k < 4u; k++) {
            let at = i + k * THREADS;
            if at < params.width {
                let value = x[start + at] * silu(gate[gate_start + at]);
                y[start + at] = value;
                squares[0][k] += value * value;
            }
        }
    }
    let sums = sum_over_workgroup(thread, squares)[0];
    let scale = 1.0 / sqrt(dot(sums, vec4<f32>(1.0)) / f32(params.width) + params.eps);
    // Each thread meets the numbers that it wrote itself.
    for (var i = thread.lane; i < params.width; i += THREADS) {
        y[start + i] = weight[first + i] * (y[start + i] * scale);
    }
}
