// What the scan needs of dt, once for all channels of a head: softplus(dt + bias), bounded below, and the decay
// exp(dt · A). One thread per token and head. // dt [T, H] in a wider tensor, steps [T, H]
struct Params {
    n_heads: u32,
    dt_start: u32,
    dt_stride: u32,
    dt_min: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dt: array<f32>;
@group(0) @binding(2) var<storage, read> dt_bias: array<f32>;
@group(0) @binding(3) var<storage, read> a: array<f32>;
@group(0) @binding(4) var<storage, read_write> steps: array<vec2<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let head = id.x;
    if head >= params.n_heads {
        return;
    }
    let raw = dt[id.y * params.dt_stride + params.dt_start + head] + dt_bias[head];
    let step = max(softplus(raw), params.dt_min);
    steps[id.y * params.n_heads + head] = vec2<f32>(step, bounded_exp(step * a[head]));
}
