//! The draw of a token from a top-k list, as devices make it. The caller provides the random number.

use crate::text::sampling::TopK;

/// How a device draws a token from a top-k list: like [`Sampler`](crate::text::sampling::Sampler) after its penalty, in
/// f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Entries of the list that may be drawn, at least 1.
    pub top_k: usize,
    pub temperature: f32,
    pub top_p: f32,
    pub min_p: f32,
    /// A uniform random number in 0..=1.
    pub random: f32,
}

impl Draw {
    /// The token drawn from the row of a list; none if the logits were not finite.
    pub fn choose(&self, row: &[f32]) -> Option<u32> {
        let mut top = TopK::from_row(row);
        top.tokens.truncate(self.top_k);
        if top.fault.is_some() || top.tokens.is_empty() {
            return None;
        }
        let largest = top.tokens[0].1;
        let mut weights = top
            .tokens
            .iter()
            .map(|(_, logit)| libm::expf((logit - largest) / self.temperature))
            .collect::<Vec<f32>>();
        let total: f32 = weights.iter().sum();
        let mut sum = 0.0;
        let mut n_kept = 0;
        for weight in &weights {
            // The first token is always kept, and so is the one that reaches top_p.
            if n_kept > 0 && (sum >= self.top_p * total || *weight < self.min_p) {
                break;
            }
            sum += weight;
            n_kept += 1;
        }
        weights.truncate(n_kept);
        let threshold = self.random * sum;
        let mut cumulative = 0.0;
        let above = weights.iter().position(|weight| {
            cumulative += weight;
            cumulative > threshold
        });
        Some(top.tokens[above.unwrap_or(n_kept - 1)].0)
    }
}
