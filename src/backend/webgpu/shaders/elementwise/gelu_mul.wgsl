// y = gelu(x[:, :width]) · x[:, width:], with the exact GELU. One thread per number. // x [T, 2 · width], y [T, width]
struct Params {
    width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.width {
        return;
    }
    let gate = 2u * id.y * params.width + id.x;
    y[id.y * params.width + id.x] = gelu(x[gate]) * x[gate + params.width];
}
