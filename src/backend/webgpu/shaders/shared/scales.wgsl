// The scale of a quantised matrix at a group of eight columns: f32 per row, i16 per block of 32 columns, two to a word.
fn scale(row: u32, group: u32, n_groups: u32) -> f32 {
    let start = row * (1u + (n_groups / 4u + 1u) / 2u);
    let block = group / 4u;
    let pair = bitcast<i32>(scales[start + 1u + block / 2u]);
    return bitcast<f32>(scales[start]) * f32(extractBits(pair, 16u * (block % 2u), 16u));
}
