// y = [a, b] along the columns. One thread per element.
@group(0) @binding(1) var<storage, read> a: array<f32>; // [T, a_cols]
@group(0) @binding(2) var<storage, read> b: array<f32>; // [T, b_cols]
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [T, a_cols + b_cols]

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let width = params.a_cols + params.b_cols;
    if id.x >= width {
        return;
    }
    let at = id.y * width + id.x;
    if id.x < params.a_cols {
        y[at] = a[id.y * params.a_cols + id.x];
    } else {
        y[at] = b[id.y * params.b_cols + id.x - params.a_cols];
    }
}
