// RMSNorm of x · silu(gate) with one mean per group of `width` channels, for groups of any width. One workgroup per
// group and row.
@group(0) @binding(1) var<storage, read> weight: array<f32>; // [groups, width]
@group(0) @binding(2) var<storage, read> x: array<f32>; // [T, groups, width]
@group(0) @binding(3) var<storage, read> gate: array<f32>; // [T, gate_stride], groups · width columns from gate_start
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [T, groups, width]

const SUMS = 1u;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, thread: Thread) {
    let first = id.x * params.width;
    let start = id.y * params.n_groups * params.width + first;
    let gate_start = params.gate_start + id.y * params.gate_stride + first;
    // Four independent sums, to break the chain of dependent additions.
    var squares: Sums;
    for (var i = thread.lane; i < params.width; i += 4u * THREADS) {
        // unroll
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
    // Each thread reads back only its own writes, so no barrier is needed.
    for (var i = thread.lane; i < params.width; i += THREADS) {
        y[start + i] = weight[first + i] * (y[start + i] * scale);
    }
}
