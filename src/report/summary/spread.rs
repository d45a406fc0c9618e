//! Statistics over several measurements.

use serde::Serialize;

/// Median and percentiles, interpolated linearly between measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub p5: f64,
    pub p95: f64,
    pub n: usize,
}

impl Spread {
    pub fn of(mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * values.len().saturating_sub(1) as f64;
            let (low, high) = (place.floor() as usize, place.ceil() as usize);
            match (values.get(low), values.get(high)) {
                (Some(a), Some(b)) => a + (b - a) * place.fract(),
                _ => 0.0,
            }
        };
        Spread {
            median: at(0.5),
            p5: at(0.05),
            p95: at(0.95),
            n: values.len(),
        }
    }
}

/// `a / b`, and 0 if `b` is 0: JSON has neither infinity nor NaN.
pub fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

/// The indices of `values` in ascending order of value.
pub fn ascending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    order
}

/// Selects the passes that are neither in the fastest nor in the slowest quarter.
pub fn middle_half(walls_us: &[f64]) -> Vec<bool> {
    let quarter = walls_us.len() / 4;
    let mut middle = vec![false; walls_us.len()];
    for &pass in &ascending(walls_us)[quarter..walls_us.len() - quarter] {
        middle[pass] = true;
    }
    middle
}
