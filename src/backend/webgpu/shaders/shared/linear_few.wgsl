// The sizes of `linear_vec.wgsl` for two to four tokens, which share one reading of the weights.
const ROWS = 4u;
const TOKENS = 4u;
const SUMS = 4u;
