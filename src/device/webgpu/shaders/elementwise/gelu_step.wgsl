// y = gelu(g) · u with [g, u] = gate_up + B·r, for one row: the second matrix of gate_up_proj's LoRA adapter and the
// activation. One thread per element.
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>; // [(2 · width + rank) / 4], gate_up and r
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [width]

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let gate = id.x;
    if gate >= params.width {
        return;
    }
    let up = params.width + gate;
    let rank_start = params.width / 2u;
    let sum = x_number(gate) + adapter_product(gate, rank_start);
    y[gate] = gelu(sum) * (x_number(up) + adapter_product(up, rank_start));
}
