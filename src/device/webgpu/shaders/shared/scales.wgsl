// Scale of a quantised matrix at a group of GROUP columns: an f32 per row times an i16 per BLOCK columns, packed two to
// a word after the row's f32.
const BLOCK_GROUPS = BLOCK / GROUP;

fn scale(row: u32, group: u32, n_groups: u32) -> f32 {
    let start = row * (1u + (n_groups / BLOCK_GROUPS + 1u) / 2u);
    let block = group / BLOCK_GROUPS;
    let pair = bitcast<i32>(scales[start + 1u + block / 2u]);
    return bitcast<f32>(scales[start]) * f32(extractBits(pair, 16u * (block % 2u), 16u));
}
