// y = [a, b] along the columns. One thread per number. // a [T, left], b [T, right], y [T, left + right]
struct Params {
    left: u32,
    right: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let width = params.left + params.right;
    if id.x >= width {
        return;
    }
    let at = id.y * width + id.x;
    if id.x < params.left {
        y[at] = a[id.y * params.left + id.x];
    } else {
        y[at] = b[id.y * params.right + id.x - params.left];
    }
}
