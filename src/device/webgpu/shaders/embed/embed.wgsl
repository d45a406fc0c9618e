// Row t of y, and of z unless it is a dummy, is row `tokens[t]` of the table, or the row of a token that was chosen on
// the device and is in `chosen`. The binding has `n_rows` rows of the table starting at `first_row`; tokens outside are
// left to another dispatch. One thread per GROUP columns.
@group(0) @binding(3) var<storage, read> chosen: array<f32>; // [4 + 2k] or dummy binding
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [T, cols]
@group(0) @binding(5) var<storage, read_write> z: array<f32>; // [T, cols] or dummy binding

const GROUP_FOURS = GROUP / 4u;

// Vector `at` of four columns of a row, unscaled.
fn four_at(row: u32, at: u32) -> vec4<f32> {
    let n_units = params.n_groups * GROUP_FOURS / UNIT;
    return four(unit_of(0u, row, at / UNIT, n_units), at % UNIT);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let group = id.x;
    var token = params.tokens[id.y / 4u][id.y % 4u];
    if params.is_chosen > 0u {
        token = u32(max(chosen[CHOSEN], 0.0));
    }
    if group >= params.n_groups || token < params.first_row || token - params.first_row >= params.n_rows {
        return;
    }
    let row = token - params.first_row;
    let factor = scale(row, group, params.n_groups);
    let start = (params.first_token + id.y) * params.cols;
    for (var i = 0u; i < GROUP_FOURS; i++) {
        let values = four_at(row, group * GROUP_FOURS + i);
        for (var k = 0u; k < 4u; k++) {
            let column = group * GROUP + 4u * i + k;
            if column < params.cols {
                y[start + column] = factor * values[k];
                if params.n_outputs > 1u {
                    z[start + column] = factor * values[k];
                }
            }
        }
    }
}
