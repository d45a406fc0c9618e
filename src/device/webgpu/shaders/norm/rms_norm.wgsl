// y = weight · x / sqrt(mean(x²) + eps). One workgroup per row, which keeps x in registers until its mean is known.
// For rows of whole vectors that fit the registers; `rms_norm_any.wgsl` is for all others.
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>; // [width / 4]
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>; // [T, width / 4]
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>; // [T, width / 4]

const SUMS = 1u;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, thread: Thread) {
    let n_fours = params.width / 4u;
    let start = id.x * n_fours;
    var kept: array<vec4<f32>, KEPT_FOURS>;
    var squares: Sums;
    // unroll
    for (var i = 0u; i < KEPT_FOURS; i++) {
        let at = thread.lane + i * THREADS;
        if at < n_fours {
            kept[i] = x[start + at];
            squares[0] += kept[i] * kept[i];
        }
    }
    let sums = sum_over_workgroup(thread, squares)[0];
    let scale = 1.0 / sqrt(dot(sums, vec4<f32>(1.0)) / f32(params.width) + params.eps);
    // unroll
    for (var i = 0u; i < KEPT_FOURS; i++) {
        let at = thread.lane + i * THREADS;
        if at < n_fours {
            y[start + at] = weight[at] * (kept[i] * scale);
        }
    }
}
