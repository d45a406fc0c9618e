// Puts together what the splits of `attention.wgsl` left: the values of each count by how far its largest score is below
// the largest of all. One workgroup per query and head. // parts [T, heads, splits, 2 + d], y [T, heads · d]
struct Params {
    n_heads: u32,
    head_dim: u32,
    n_splits: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> parts: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

const THREADS = 64u;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let stride = params.head_dim + 2u;
    let head = id.y * params.n_heads + id.x;
    let start = head * params.n_splits * stride;
    // The first split has positions of every query; others may have none, and a total of zero.
    var peak = parts[start];
    for (var split = 1u; split < params.n_splits; split++) {
        peak = max(peak, parts[start + split * stride]);
    }
    var total = 0.0;
    for (var split = 0u; split < params.n_splits; split++) {
        let part = start + split * stride;
        total += bounded_exp(parts[part] - peak) * parts[part + 1u];
    }
    for (var i = lane; i < params.head_dim; i += THREADS) {
        var sum = 0.0;
        for (var split = 0u; split < params.n_splits; split++) {
            let part = start + split * stride;
            sum += bounded_exp(parts[part] - peak) * parts[part + 2u + i];
        }
        y[head * params.head_dim + i] = sum / total;
    }
}
