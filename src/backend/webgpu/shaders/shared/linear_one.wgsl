// The sizes of `linear_vec.wgsl` for one token: more rows, so that what is read of x serves more weights.
const ROWS = 8u;
const TOKENS = 1u;
const SUMS = 2u;
