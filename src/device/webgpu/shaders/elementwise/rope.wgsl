// Rotates the pairs (k, k + half) of each head of each row. One thread per pair. Cosines and sines come from a table,
// because WGSL bounds their error only near zero.
@group(0) @binding(1) var<storage, read> table: array<vec2<f32>>; // [positions, half]
@group(0) @binding(2) var<storage, read_write> x: array<f32>; // [T, heads, 2 · half]

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.n_pairs {
        return;
    }
    let k = id.x % params.half;
    let at = 2u * (id.y * params.n_pairs + id.x - k) + k;
    let cos_sin = table[(params.position + id.y) * params.half + k];
    let a = x[at];
    let b = x[at + params.half];
    x[at] = a * cos_sin.x - b * cos_sin.y;
    x[at + params.half] = b * cos_sin.x + a * cos_sin.y;
}
