// y = a + b. One thread per element.
@group(0) @binding(1) var<storage, read> a: array<f32>; // [T, width]
@group(0) @binding(2) var<storage, read> b: array<f32>; // [T, width]
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [T, width]

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.width {
        return;
    }
    let at = id.y * params.width + id.x;
    y[at] = a[at] + b[at];
}
