// A matrix in f32, read eight columns at a time; rows are padded with zeros to whole eights.
// This text comes before a kernel of linear layers.
@group(0) @binding(1) var<storage, read> numbers: array<f32>; // [rows, groups, 8]
@group(0) @binding(2) var<storage, read> scales: array<u32>; // unused

struct Eight {
    low: vec4<f32>,
    high: vec4<f32>,
}

// The columns from 8 · group, without their scale.
fn eight(row: u32, group: u32, n_groups: u32) -> Eight {
    let at = 8u * (row * n_groups + group);
    let low = vec4<f32>(numbers[at], numbers[at + 1u], numbers[at + 2u], numbers[at + 3u]);
    let high = vec4<f32>(numbers[at + 4u], numbers[at + 5u], numbers[at + 6u], numbers[at + 7u]);
    return Eight(low, high);
}

fn scale(row: u32, group: u32, n_groups: u32) -> f32 {
    return 1.0;
}
