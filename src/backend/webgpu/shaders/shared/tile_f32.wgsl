// How `linear_mat.wgsl` keeps unscaled weights in the workgroup's memory: as f32.
alias TileFour = vec4<f32>;
