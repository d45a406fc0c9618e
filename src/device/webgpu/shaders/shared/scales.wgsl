// Scale of a quantised matrix at a group of GROUP columns: the row's f32 scale times the i16 scale of BLOCK columns.
// The i16 scales are packed in pairs after the row's f32.
const BLOCK_GROUPS = BLOCK / GROUP;

fn scale(row: u32, group: u32, n_groups: u32) -> f32 {
    let start = row * (1u + (n_groups / BLOCK_GROUPS + 1u) / 2u);
    let block = group / BLOCK_GROUPS;
    let pair = bitcast<i32>(scales[start + 1u + block / 2u]);
    return bitcast<f32>(scales[start]) * f32(extractBits(pair, 16u * (block % 2u), 16u));
}
