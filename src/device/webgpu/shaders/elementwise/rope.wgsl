// Rotates the pairs (k, k + half) of each head of each row of x, or of the other tensor if z is 1: queries and keys
// take one dispatch. One thread per pair. Cosines and sines come from a table, because WGSL bounds their error only
// near zero.
@group(0) @binding(1) var<storage, read> table: array<vec2<f32>>; // [positions, half]
@group(0) @binding(2) var<storage, read_write> x: array<f32>; // [T, heads, 2 · half]
@group(0) @binding(3) var<storage, read_write> other: array<f32>; // [T, other heads, 2 · half] or dummy binding

fn rotated(pair: vec2<f32>, position: u32, k: u32) -> vec2<f32> {
    let cos_sin = table[position * params.half + k];
    return vec2<f32>(pair.x * cos_sin.x - pair.y * cos_sin.y, pair.y * cos_sin.x + pair.x * cos_sin.y);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n_pairs = select(params.n_pairs, params.n_other_pairs, id.z == 1u);
    if id.x >= n_pairs {
        return;
    }
    let k = id.x % params.half;
    let at = 2u * (id.y * n_pairs + id.x - k) + k;
    let position = params.position + id.y;
    if id.z == 0u {
        let pair = rotated(vec2<f32>(x[at], x[at + params.half]), position, k);
        x[at] = pair.x;
        x[at + params.half] = pair.y;
    } else {
        let pair = rotated(vec2<f32>(other[at], other[at + params.half]), position, k);
        other[at] = pair.x;
        other[at + params.half] = pair.y;
    }
}
