// How `linear_mat.wgsl` keeps unscaled weights in the workgroup's memory: as f16, in which quants of up to eight bits
// are exact. Products and sums are f32 all the same, so the results are those of `tile_f32.wgsl`.
alias TileFour = vec4<f16>;
