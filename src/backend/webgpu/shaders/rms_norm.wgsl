// y = weight · x / sqrt(mean(x²) + eps). One workgroup per row. // x, y [T, width], weight [width]
struct Params {
    width: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

const THREADS = 64u;
var<workgroup> squares: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let start = id.x * params.width;
    var sum = 0.0;
    for (var i = lane; i < params.width; i += THREADS) {
        let value = x[start + i];
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
    for (var i = lane; i < params.width; i += THREADS) {
        y[start + i] = weight[i] * (x[start + i] * scale);
    }
}
