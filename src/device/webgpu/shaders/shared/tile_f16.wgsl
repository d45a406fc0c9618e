// Element type of the weight tile in `linear/mat.wgsl`: f16, which represents quants of up to eight bits exactly.
// Products and sums are f32, so results equal those of `tile_f32.wgsl` bit for bit.
alias TileFour = vec4<f16>;
