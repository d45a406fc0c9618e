// Combines the partial results of the splits of `attention.wgsl`, each weighted by exp(its largest score − the largest
// of all). One workgroup per query and head.
@group(0) @binding(1) var<storage, read> parts: array<f32>; // [T, heads, splits, PART_HEADER + d]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [T, heads, d]

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let stride = PART_HEADER + params.head_dim;
    let head = id.y * params.n_heads + id.x;
    let start = head * params.n_splits * stride;
    // The first split is visible to every query; later ones may be empty, with a total of zero.
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
            sum += bounded_exp(parts[part] - peak) * parts[part + PART_HEADER + i];
        }
        y[head * params.head_dim + i] = sum / total;
    }
}
