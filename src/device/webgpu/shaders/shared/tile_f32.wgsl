// Element type of the weight tile in `linear/mat.wgsl`: f32.
alias TileFour = vec4<f32>;
