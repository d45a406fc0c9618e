// Row t of y is row tokens[t] of the table, of which this is a part: other tokens are left alone. One thread per eight
// columns. `weights_*.wgsl` comes before it. A token that the host does not know is a number in `chosen`. // y [T, cols]
struct Params {
    n_groups: u32,
    cols: u32,
    first_row: u32,
    rows: u32,
    first_token: u32,
    // Where the one token stands in `chosen`, and 1 more; 0 if the tokens are those below.
    chosen_end: u32,
    // A uniform's array has elements of sixteen bytes.
    @align(16) tokens: array<vec4<u32>, 16>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> chosen: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let group = id.x;
    var token = params.tokens[id.y / 4u][id.y % 4u];
    if params.chosen_end > 0u {
        token = u32(max(chosen[params.chosen_end - 1u], 0.0));
    }
    if group >= params.n_groups || token < params.first_row || token - params.first_row >= params.rows {
        return;
    }
    let row = token - params.first_row;
    let values = eight(row, group, params.n_groups);
    let factor = scale(row, group, params.n_groups);
    let start = (params.first_token + id.y) * params.cols;
    for (var i = 0u; i < 4u; i++) {
        let low = 8u * group + i;
        if low < params.cols {
            y[start + low] = factor * values.low[i];
        }
        if low + 4u < params.cols {
            y[start + low + 4u] = factor * values.high[i];
        }
    }
}
