// A matrix with eight bits per weight, read eight columns at a time. This text comes before a kernel of linear layers.
@group(0) @binding(1) var<storage, read> quants: array<u32>; // [rows, groups, 2], four each
@group(0) @binding(2) var<storage, read> scales: array<u32>; // [rows, 1 + ⌈blocks / 2⌉]

struct Eight {
    low: vec4<f32>,
    high: vec4<f32>,
}

fn four(word: u32) -> vec4<f32> {
    let shifted = vec4<u32>(word << 24u, word << 16u, word << 8u, word);
    return vec4<f32>(bitcast<vec4<i32>>(shifted) >> vec4<u32>(24u));
}

// The columns from 8 · group, without their scale.
fn eight(row: u32, group: u32, n_groups: u32) -> Eight {
    let at = 2u * (row * n_groups + group);
    return Eight(four(quants[at]), four(quants[at + 1u]));
}
