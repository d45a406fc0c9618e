//! Scalar functions of the model and the loops over them. It stands inside the CPU backend.

/// x · sigmoid(x)
pub fn silu(x: f32) -> f32 {
    x / (1.0 + (-x).exp())
}

/// ln(1 + eˣ); above 20 it is x to the last bit of f32, and eˣ is on its way to infinity.
pub fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

/// The exact GELU, x·Φ(x): the reference's `gelu`, not its tanh approximation.
pub fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// y = gelu(x[.. d]) · x[d ..]. // row of x [2d], of y [d]
pub fn gelu_mul_row(x: &[f32], y: &mut [f32]) {
    let (gate, up) = x.split_at(y.len());
    for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
        *y = gelu(*gate) * up;
    }
}

/// Rotates the pairs (k, k + d/2) of each head by `position · inv_freq[k]`. // row [heads · d]
pub fn rope_row(inv_freq: &[f32], head_dim: usize, position: usize, row: &mut [f32]) {
    for (k, freq) in inv_freq.iter().enumerate() {
        let (sin, cos) = (position as f32 * freq).sin_cos();
        for head in row.chunks_mut(head_dim) {
            let (a, b) = (head[k], head[k + head_dim / 2]);
            head[k] = a * cos - b * sin;
            head[k + head_dim / 2] = b * cos + a * sin;
        }
    }
}
