// Logits with the repetition penalty: those of seen tokens are divided by it if positive, and multiplied if not. One
// thread per token; the token that the list before chose is marked first, by its own thread.
@group(0) @binding(1) var<storage, read> chosen: array<f32>; // [4 + 2k] or dummy binding
@group(0) @binding(2) var<storage, read> logits: array<u32>; // [n_logits], as bits
@group(0) @binding(3) var<storage, read_write> seen: array<f32>; // [n_logits]
@group(0) @binding(4) var<storage, read_write> y: array<u32>; // [n_logits], as bits

const LARGEST = 3.4028234e38;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let token = id.x;
    if token >= params.n_logits {
        return;
    }
    if params.has_chosen > 0u && u32(max(chosen[CHOSEN], 0.0)) == token {
        seen[token] = 1.0;
    }
    let bits = logits[token];
    y[token] = bits;
    // What is not finite stays, and is found later.
    if seen[token] != 0.0 && (bits & 0x7f800000u) != 0x7f800000u {
        let logit = bitcast<f32>(bits);
        var penalised = logit * params.penalty;
        if logit > 0.0 {
            penalised = logit / params.penalty;
        }
        y[token] = bitcast<u32>(clamp(penalised, -LARGEST, LARGEST));
    }
}
