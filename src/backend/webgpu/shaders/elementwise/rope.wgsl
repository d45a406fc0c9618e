// Rotates the pairs (k, k + half) of each head of each row. One thread per pair. The angles' cosines and sines come in a
// table, because WGSL bounds their error only near zero. // x [T, heads · 2 · half], table [positions, half]
struct Params {
    position: u32,
    half: u32,
    n_pairs: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.n_pairs {
        return;
    }
    let k = id.x % params.half;
    let at = 2u * (id.y * params.n_pairs + id.x - k) + k;
    let turn = table[(params.position + id.y) * params.half + k];
    let a = x[at];
    let b = x[at + params.half];
    x[at] = a * turn.x - b * turn.y;
    x[at + params.half] = b * turn.x + a * turn.y;
}
