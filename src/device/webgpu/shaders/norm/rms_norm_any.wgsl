// y = weight · x / sqrt(mean(x²) + eps) for rows of any width. One workgroup per row, which reads x twice.
@group(0) @binding(1) var<storage, read> weight: array<f32>; // [width]
@group(0) @binding(2) var<storage, read> x: array<f32>; // [T, width]
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [T, width]

const SUMS = 1u;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, thread: Thread) {
    let start = id.x * params.width;
    // Four independent sums, to break the chain of dependent additions.
    var squares: Sums;
    for (var i = thread.lane; i < params.width; i += 4u * THREADS) {
        // unroll
        for (var k = 0u; k < 4u; k++) {
            let at = i + k * THREADS;
            if at < params.width {
                let value = x[start + at];
                squares[0][k] += value * value;
            }
        }
    }
    let sums = sum_over_workgroup(thread, squares)[0];
    let scale = 1.0 / sqrt(dot(sums, vec4<f32>(1.0)) / f32(params.width) + params.eps);
    for (var i = thread.lane; i < params.width; i += THREADS) {
        y[start + i] = weight[i] * (x[start + i] * scale);
    }
}
