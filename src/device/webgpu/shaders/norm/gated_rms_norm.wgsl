// RMSNorm of x · silu(gate) with one mean per group of `width` channels. One workgroup per group and row, which keeps
// the products in registers until their mean is known. For groups of whole vectors that fit the registers;
// `gated_rms_norm_any.wgsl` is for all others.
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>; // [groups, width / 4]
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>; // [T, groups, width / 4]
@group(0) @binding(3) var<storage, read> gate: array<vec4<f32>>; // [T, gate_stride / 4], from gate_start / 4 on
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>; // [T, groups, width / 4]

const SUMS = 1u;

fn silu_of_four(x: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(silu(x.x), silu(x.y), silu(x.z), silu(x.w));
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, thread: Thread) {
    let n_fours = params.width / 4u;
    let first = id.x * n_fours;
    let start = id.y * params.n_groups * n_fours + first;
    let gate_start = (params.gate_start + id.y * params.gate_stride) / 4u + first;
    var kept: array<vec4<f32>, KEPT_FOURS>;
    var squares: Sums;
    // unroll
    for (var i = 0u; i < KEPT_FOURS; i++) {
        let at = thread.lane + i * THREADS;
        if at < n_fours {
            kept[i] = x[start + at] * silu_of_four(gate[gate_start + at]);
            squares[0] += kept[i] * kept[i];
        }
    }
    let sums = sum_over_workgroup(thread, squares)[0];
    let scale = 1.0 / sqrt(dot(sums, vec4<f32>(1.0)) / f32(params.width) + params.eps);
    // unroll
    for (var i = 0u; i < KEPT_FOURS; i++) {
        let at = thread.lane + i * THREADS;
        if at < n_fours {
            y[start + at] = weight[first + at] * (kept[i] * scale);
        }
    }
}
