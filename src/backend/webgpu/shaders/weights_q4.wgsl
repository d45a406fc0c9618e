// A matrix with four bits per weight, read eight columns at a time. This text comes before a kernel of linear layers.
@group(0) @binding(1) var<storage, read> quants: array<u32>; // [rows, groups], eight each
@group(0) @binding(2) var<storage, read> scales: array<u32>; // [rows, 1 + ⌈blocks / 2⌉]

struct Eight {
    low: vec4<f32>,
    high: vec4<f32>,
}

fn four(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u)) - 8.0;
}

// The columns from 8 · group, without their scale.
fn eight(row: u32, group: u32, n_groups: u32) -> Eight {
    let word = quants[row * n_groups + group];
    return Eight(four(word), four(word >> 16u));
}
