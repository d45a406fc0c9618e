// RMSNorm of x · silu(gate) with one mean per group of channels. One workgroup per group and row.
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

const THREADS = 64u;
var<workgroup> squares: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = id.x * params.width;
    let start = id.y * params.n_groups * params.width + first;
    let gate_start = params.gate_start + id.y * params.gate_stride + first;
    var sum = 0.0;
    for (var i = lane; i < params.width; i += THREADS) {
        let value = x[start + i] * silu(gate[gate_start + i]);
        y[start + i] = value;
        sum += value * value;
    }
    squares[lane] = sum;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            squares[lane] += squares[lane + half];
        }
    }
    workgroupBarrier();
    let scale = 1.0 / sqrt(squares[0] / f32(params.width) + params.eps);
    // Each thread meets the numbers that it wrote itself.
    for (var i = lane; i < params.width; i += THREADS) {
        y[start + i] = weight[first + i] * (y[start + i] * scale);
    }
}
