// A weight matrix read eight columns at a time, for the embedding. `weights_*.wgsl` comes before it.
struct Eight {
    low: vec4<f32>,
    high: vec4<f32>,
}

fn four_at(row: u32, at: u32, n_fours: u32) -> vec4<f32> {
    return four(unit_of(row, at / UNIT, n_fours / UNIT), at % UNIT);
}

// The columns from 8 · group, without their scale.
fn eight(row: u32, group: u32, n_groups: u32) -> Eight {
    let n_fours = 2u * n_groups;
    return Eight(four_at(row, 2u * group, n_fours), four_at(row, 2u * group + 1u, n_fours));
}
