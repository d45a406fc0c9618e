//! Repetition penalty (Keskar et al. 2019, "CTRL", with the sign rule adopted since): the logit of each distinct token
//! of the history is divided by the penalty if positive, and multiplied if negative.

use crate::base::error::{Error, Result};

/// A finite logit of a token of the history.
pub fn penalised(logit: f32, penalty: f64) -> f32 {
    let logit = f64::from(logit);
    let penalised = if logit > 0.0 {
        logit / penalty
    } else {
        logit * penalty
    };
    // An extreme penalty may leave the range of f32; clamping keeps every later step finite.
    penalised.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

/// Memory that is reused from token to token.
#[derive(Debug, Default)]
pub(super) struct RepetitionPenalty {
    /// Per token of the vocabulary: whether it was already penalised. All false between calls.
    pub(super) is_done: Vec<bool>,
    /// The logits that the last call has replaced, with their tokens.
    plain: Vec<(usize, f32)>,
}

impl RepetitionPenalty {
    /// # Errors
    /// [`Error::Token`] for a token outside the vocabulary; no logit is changed then.
    pub(super) fn apply(
        &mut self,
        penalty: f64,
        history: &[u32],
        logits: &mut [f32],
    ) -> Result<()> {
        self.plain.clear();
        let vocab_size = logits.len();
        if penalty == 1.0 {
            return Ok(());
        }
        if let Some(&token) = history.iter().find(|&&token| token as usize >= vocab_size) {
            return Err(Error::Token { token, vocab_size });
        }
        if self.is_done.len() < vocab_size {
            self.is_done.resize(vocab_size, false);
        }
        for &token in history {
            let token = token as usize;
            if self.is_done[token] {
                continue;
            }
            self.is_done[token] = true;
            self.plain.push((token, logits[token]));
            logits[token] = penalised(logits[token], penalty);
        }
        for &token in history {
            self.is_done[token as usize] = false;
        }
        Ok(())
    }

    /// Restores the logits that the last [`RepetitionPenalty::apply`] has replaced.
    pub(super) fn undo(&self, logits: &mut [f32]) {
        for &(token, logit) in &self.plain {
            logits[token] = logit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_penalty_applies_once_to_each_token_of_the_history() {
        let mut penalty = RepetitionPenalty::default();
        let mut logits = [4.0, -4.0, 4.0, 0.0];
        let history = [0, 1, 0, 0, 1, 3];
        penalty.apply(2.0, &history, &mut logits).unwrap();
        assert_eq!(logits, [2.0, -8.0, 4.0, 0.0]);
        penalty.undo(&mut logits);
        assert_eq!(logits, [4.0, -4.0, 4.0, 0.0]);
        penalty.apply(2.0, &[0], &mut logits).unwrap();
        assert_eq!(logits, [2.0, -4.0, 4.0, 0.0]);
    }

    #[test]
    fn a_history_outside_the_vocabulary_is_an_error_and_changes_no_logit() {
        let mut logits = [1.0, 2.0];
        let refused = RepetitionPenalty::default().apply(1.5, &[0, 2], &mut logits);
        let expected = Error::Token {
            token: 2,
            vocab_size: 2,
        };
        assert_eq!(refused, Err(expected));
        assert_eq!(logits, [1.0, 2.0]);
    }
}
