// Copies a rectangle of one tensor to another. One thread per element.
@group(0) @binding(1) var<storage, read> source: array<f32>; // [rows, from_stride] from from_start
@group(0) @binding(2) var<storage, read_write> destination: array<f32>; // [rows, to_stride] from to_start

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.width {
        return;
    }
    let source_at = params.from_start + id.y * params.from_stride + id.x;
    destination[params.to_start + id.y * params.to_stride + id.x] = source[source_at];
}
