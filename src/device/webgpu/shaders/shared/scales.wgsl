// Scale of a quantised matrix at a group of GROUP columns: the row's f32 scale times the i16 scale of BLOCK columns.
// The i16 scales are packed in pairs after the row's f32.
const BLOCK_GROUPS = BLOCK / GROUP;

fn scales_start(row: u32, n_groups: u32) -> u32 {
    return buffer_row(row) * (1u + (n_groups / BLOCK_GROUPS + 1u) / 2u);
}

fn row_scale(matrix: u32, row: u32, n_groups: u32) -> f32 {
    return bitcast<f32>(scale_word(matrix, scales_start(row, n_groups)));
}

fn block_scale(matrix: u32, row: u32, group: u32, n_groups: u32) -> f32 {
    let block = group / BLOCK_GROUPS;
    let pair = bitcast<i32>(scale_word(matrix, scales_start(row, n_groups) + 1u + block / 2u));
    return f32(extractBits(pair, 16u * (block % 2u), 16u));
}

// Of the only matrix.
fn scale(row: u32, group: u32, n_groups: u32) -> f32 {
    return row_scale(0u, row, n_groups) * block_scale(0u, row, group, n_groups);
}
