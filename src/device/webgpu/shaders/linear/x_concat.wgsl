// One row of [x, other_x] without padding, each of x_fours vectors.
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>; // [x_fours]
@group(0) @binding(8) var<storage, read> other_x: array<vec4<f32>>; // [x_fours]

fn x_at(at: u32) -> vec4<f32> {
    if at < params.x_fours {
        return x[at];
    }
    return other_x[at - params.x_fours];
}
