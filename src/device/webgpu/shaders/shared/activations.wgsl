// Exponential, SiLU, softplus and GELU, with the polynomials of the CPU's `vecmath.rs`: WGSL does not bound the error
// of `log` near 1 tightly enough and has no error function.

// The argument is clamped to avoid overflow: WGSL implementations may assume that infinities do not occur.
fn bounded_exp(x: f32) -> f32 {
    return exp(clamp(x, -87.0, 87.0));
}

fn silu(x: f32) -> f32 {
    return x / (1.0 + bounded_exp(-x));
}

// ln(1 + eˣ) = max(x, 0) + ln(1 + e^−|x|), the second term by the series of artanh(y / (2 + y)).
fn softplus(x: f32) -> f32 {
    let y = bounded_exp(-abs(x));
    let s = y / (y + 2.0);
    let q = s * s;
    let high = 0.14310312 + q * (0.10697134 + q * 0.12204702);
    let series = 1.0 + q * (0.3333334 + q * (0.19999348 + q * high));
    return max(x, 0.0) + 2.0 * s * series;
}

// x·Φ(x) with Φ(−u) = t·e^(−u²/2 + P(t)), t = 1 / (1 + 0.3536·u).
fn gelu(x: f32) -> f32 {
    let u = min(abs(x), 12.9);
    let t = 1.0 / (1.0 + 0.3536 * u);
    let high = -0.6002073 + t * (1.0851593 + t * (-0.6507255 + t * 0.13946182));
    let middle = 0.020014552 + t * (0.043679845 + t * (-0.16002434 + t * high));
    let p = -1.9584454 + t * (0.9982735 + t * (0.3896665 + t * middle));
    let below = select(x * t * bounded_exp(p - 0.5 * u * u), 0.0, abs(x) > 12.9);
    return select(below, x - below, x > 0.0);
}
