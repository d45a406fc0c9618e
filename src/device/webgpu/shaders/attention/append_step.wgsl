// The rest of q, k and v for one row: the second matrices of their LoRA adapters, the rotary embedding, and the append
// to the KV cache. A workgroup handles one head of q, k or v; the rows of the joined matrix are in the same order.
@group(0) @binding(6) var<storage, read> x: array<vec4<f32>>; // [(heads · d + 3 · rank) / 4], q, k, v, and r of each
@group(0) @binding(7) var<storage, read_write> q: array<f32>; // [heads of q, d]
@group(0) @binding(8) var<storage, read> table: array<vec2<f32>>; // [positions, half]

var<workgroup> numbers: array<f32, MAX_HEAD_DIM>;

fn number(id: vec3<u32>, column: u32) -> f32 {
    return numbers[column];
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let d = params.head_dim;
    // 0 for q, 1 for k, 2 for v.
    let part = u32(id.x >= params.n_heads) + u32(id.x >= params.n_heads + params.n_kv_heads);
    for (var i = lane; i < d; i += THREADS) {
        let row = id.x * d + i;
        var sum = x_number(row);
        if params.rank_fours > 0u {
            sum += adapter_product(row, params.rank_start + part * params.rank_fours);
        }
        numbers[i] = sum;
    }
    workgroupBarrier();
    if part < 2u {
        for (var k = lane; k < params.half; k += THREADS) {
            let cos_sin = table[params.position * params.half + k];
            let pair = vec2<f32>(numbers[k], numbers[k + params.half]);
            numbers[k] = pair.x * cos_sin.x - pair.y * cos_sin.y;
            numbers[k + params.half] = pair.y * cos_sin.x + pair.x * cos_sin.y;
        }
    }
    workgroupBarrier();
    if part == 0u {
        for (var i = lane; i < d; i += THREADS) {
            q[id.x * d + i] = numbers[i];
        }
    } else {
        let first_head = select(params.n_heads, params.n_heads + params.n_kv_heads, part == 2u);
        append(vec3<u32>(id.x - first_head, 0u, part - 1u), lane);
    }
}
