// y = gelu(x[:, :width]) · x[:, width:], with the exact (erf) GELU. One thread per element.
@group(0) @binding(1) var<storage, read> x: array<f32>; // [T, 2 · width]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [T, width]

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.width {
        return;
    }
    let gate = 2u * id.y * params.width + id.x;
    y[id.y * params.width + id.x] = gelu(x[gate]) * x[gate + params.width];
}
