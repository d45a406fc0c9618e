// Moves a rectangle of numbers: every copy, concatenation and append. One thread per number.
struct Params {
    width: u32,
    from_start: u32,
    from_stride: u32,
    to_start: u32,
    to_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<f32>;
@group(0) @binding(2) var<storage, read_write> destination: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.width {
        return;
    }
    let source_at = params.from_start + id.y * params.from_stride + id.x;
    destination[params.to_start + id.y * params.to_stride + id.x] = source[source_at];
}
