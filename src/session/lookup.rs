//! Prompt lookup decoding (Saxena 2023): finds where the last tokens occurred before, drafts the tokens that followed
//! there, and decides how many of them are worth a pass. It needs no second model. Passes over drafts are in
//! `draft_pass`.
//!
//! Drafts never change the text: the sampler chooses every token, and a draft that differs from its choice is dropped.
//! So the decision may depend on measured times.

/// Length of the shortest match that is used. A single equal token hardly predicts the next one.
const MIN_MATCH: usize = 2;
/// Longer matches count as matches of this length.
const MAX_MATCH: usize = 8;
const N_LENGTHS: usize = MAX_MATCH - MIN_MATCH + 1;
/// Prior acceptance rates of the next token after matches of 2 to 8 tokens. Together with [`PRIOR_GUESSES`],
/// [`LEAST_WEIGHT`] and [`MOST_CREDIT`] they gave the most tokens per second on some edited files, documents and lists.
/// The loss on a text without repetitions is bounded by [`START_CREDIT`].
const PRIOR: [f64; N_LENGTHS] = [0.15, 0.35, 0.55, 0.7, 0.8, 0.85, 0.9];
/// The number of guesses that the prior counts as.
const PRIOR_GUESSES: f64 = 6.0;
/// Least weight of the newest guess in an acceptance rate, so that the rate follows a text that changes.
const LEAST_WEIGHT: f64 = 1.0 / 32.0;
/// Weight of the newest time in a moving average.
const WEIGHT: f64 = 0.25;
/// Estimate of the extra time of a pass over a token and n drafts compared with a decode step, in decode steps:
/// `ENTRY + ROW · n`. The weights are read once per pass, so a further row adds only its multiplications and its scan.
/// Measured in Chromium on two threads (`docs/lookup_decoding.md`), where extra rows are relatively expensive.
const ENTRY: f64 = 0.05;
const ROW: f64 = 0.5;
/// Upper bound of the ratio of measured extra time to its estimate. Drafts do not pay at this ratio already, so a
/// higher one, for example on a busy machine, would only prolong the recovery.
const MOST_SCALE: f64 = 3.0;
/// The part of its distance from 1 that this ratio loses with each decode step: passes that were slow because the
/// machine was busy must not end drafting for good.
const FORGETTING: f64 = 1.0 / 256.0;
/// Initial credit: the time that drafts may lose in total before any has paid, in decode steps.
const START_CREDIT: f64 = 4.0;
/// Most credit that gains can add up to, in decode steps: enough to notice the end of a long repetition.
const MOST_CREDIT: f64 = 16.0;
/// Credit that each decode step restores, up to [`START_CREDIT`]. It bounds the share of time that drafts take in a
/// text where they never pay.
const CREDIT_PER_STEP: f64 = 1.0 / 64.0;
/// The least expected speedup for which a draft is made.
const LEAST_GAIN: f64 = 1.05;

/// When drafts are made. It affects speed only, never the tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DraftPolicy {
    /// As many as pay, by the acceptance rates so far and the times measured on this machine.
    #[default]
    WherePaying,
    /// The most tokens that may be drafted after every match. For tests: most of them are rejected.
    Always,
}

/// An earlier occurrence of the last tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// How many of the last tokens are equal, at most [`MAX_MATCH`].
    len: usize,
    /// Its distance from the end of the history, in tokens.
    distance: usize,
}

impl Match {
    /// The longest match; of several, the newest one.
    pub fn of(history: &[u32]) -> Option<Match> {
        let mut longest: Option<Match> = None;
        for distance in 1..history.len() {
            let earlier = &history[..history.len() - distance];
            let pairs = history.iter().rev().zip(earlier.iter().rev());
            let equal = pairs.take(MAX_MATCH).take_while(|(a, b)| a == b);
            let len = equal.count();
            if len >= MIN_MATCH && longest.is_none_or(|other| len > other.len) {
                longest = Some(Match { len, distance });
                if len == MAX_MATCH {
                    break;
                }
            }
        }
        longest
    }

    /// The token that followed the match.
    fn guess(self, history: &[u32]) -> u32 {
        history[history.len() - self.distance]
    }

    /// The `n` tokens that followed the match. Beyond the end of the history it repeats the draft itself, which
    /// continues a loop.
    pub fn draft(self, history: &[u32], n: usize) -> Vec<u32> {
        let mut tokens: Vec<u32> = Vec::with_capacity(n);
        for i in 0..n {
            let at = history.len() - self.distance + i;
            let token = match at.checked_sub(history.len()) {
                None => history[at],
                Some(in_draft) => tokens[in_draft],
            };
            tokens.push(token);
        }
        tokens
    }
}

/// Recent acceptance rates by length of the match. The guess is compared with every token, drafted or not, which costs
/// nothing.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    rates: [f64; N_LENGTHS],
    /// Including [`PRIOR_GUESSES`].
    n_guesses: [f64; N_LENGTHS],
}

impl Default for Evidence {
    fn default() -> Self {
        Evidence {
            rates: PRIOR,
            n_guesses: [PRIOR_GUESSES; N_LENGTHS],
        }
    }
}

impl Evidence {
    /// Records that `token` followed `history`, in which `found` is the match.
    pub fn note(&mut self, found: Match, history: &[u32], token: u32) {
        let is_right = found.guess(history) == token;
        let i = found.len - MIN_MATCH;
        self.n_guesses[i] += 1.0;
        let weight = (1.0 / self.n_guesses[i]).max(LEAST_WEIGHT);
        self.rates[i] += weight * (f64::from(u8::from(is_right)) - self.rates[i]);
    }

    /// The number of tokens to draft, at most `most`, that is expected to give the most tokens per second; 0 if a
    /// decode step does.
    pub fn draft_len(&self, found: Match, most: usize, cost: &PassCost) -> usize {
        let (mut best, mut best_gain) = (0, LEAST_GAIN);
        // A draft is accepted up to its first wrong token. With each right one the match is longer.
        let (mut all_right, mut tokens) = (1.0, 1.0);
        for n in 1..=most {
            let len = (found.len + n - 1).min(MAX_MATCH);
            all_right *= self.rates[len - MIN_MATCH];
            tokens += all_right;
            let gain = tokens / cost.steps(n);
            if gain > best_gain {
                (best, best_gain) = (n, gain);
            }
        }
        best
    }
}

/// The time of passes over drafts relative to decode steps, and what drafts have gained or lost.
#[derive(Clone, Debug)]
pub(super) struct PassCost {
    /// Mean of the times of decode steps.
    step_us: Option<f64>,
    /// Ratio of the extra time of passes to [`estimate`].
    scale: f64,
    /// Time spent on removing rejected rows since the last pass over drafts.
    undo_us: f64,
    /// Drafts and time of the pass whose tokens are being used.
    pass: Option<(usize, f64)>,
    /// What passes have gained, in decode steps. No drafts are made at 0 or below.
    credit: f64,
}

impl Default for PassCost {
    fn default() -> Self {
        PassCost {
            step_us: None,
            scale: 1.0,
            undo_us: 0.0,
            pass: None,
            credit: START_CREDIT,
        }
    }
}

impl PassCost {
    /// The expected time of a pass over a token and `n_drafts` drafts, in decode steps.
    fn steps(&self, n_drafts: usize) -> f64 {
        1.0 + self.scale * estimate(n_drafts)
    }

    pub fn note_step(&mut self, us: f64) {
        let mean = self.step_us.unwrap_or(us);
        self.step_us = Some(mean + WEIGHT * (us - mean));
        self.scale += FORGETTING * (1.0 - self.scale);
        if self.credit < START_CREDIT {
            self.credit += CREDIT_PER_STEP;
        }
    }

    /// Whether drafts may be made.
    pub fn has_credit(&self) -> bool {
        self.credit > 0.0
    }

    /// Records the time of a pass over a token and `n_drafts` drafts.
    pub fn note_pass(&mut self, n_drafts: usize, us: f64) {
        self.pass = Some((n_drafts, us));
        let us = us + std::mem::take(&mut self.undo_us);
        if let Some(step_us) = self.step_us.filter(|&step_us| step_us > 0.0) {
            let scale = (us / step_us - 1.0) / estimate(n_drafts);
            self.scale += WEIGHT * (scale.clamp(0.0, MOST_SCALE) - self.scale);
        }
    }

    /// Records that the last pass gave `tokens`, and that removing its other rows took `undo_us`.
    pub fn note_outcome(&mut self, tokens: usize, undo_us: f64) {
        self.undo_us += undo_us;
        if let (Some((n_drafts, us)), Some(step_us)) = (self.pass.take(), self.step_us) {
            let most = 1.0 + MOST_SCALE * estimate(n_drafts);
            let steps = ((us + undo_us) / step_us).min(most);
            let credit = self.credit + tokens as f64 - steps;
            self.credit = credit.clamp(-START_CREDIT, MOST_CREDIT);
        }
    }
}

/// The estimated extra time of a pass, in decode steps.
fn estimate(n_drafts: usize) -> f64 {
    ENTRY + ROW * n_drafts as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_match_is_found_and_the_newest_one_of_equal_length() {
        let found = |history: &[u32]| Match::of(history).map(|found| (found.len, found.distance));
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[1, 2, 3]), None);
        // A single equal token is not a match.
        assert_eq!(found(&[5, 1, 2, 5]), None);
        assert_eq!(found(&[1, 2, 9, 1, 2, 8, 1, 2]), Some((2, 3)));
        assert_eq!(found(&[7, 1, 2, 9, 1, 2, 8, 7, 1, 2]), Some((3, 7)));
        let copy: Vec<u32> = (0..9).chain(0..9).collect();
        assert_eq!(found(&copy), Some((MAX_MATCH, 9)));
        assert_eq!(found(&[4, 4, 4]), Some((2, 1)));
    }

    #[test]
    fn a_draft_is_what_followed_the_match_and_goes_on_with_itself() {
        let history = [1, 2, 3, 4, 1, 2];
        let found = Match::of(&history).unwrap();
        assert_eq!(found.guess(&history), 3);
        assert_eq!(found.draft(&history, 2), [3, 4]);
        assert_eq!(found.draft(&history, 7), [3, 4, 1, 2, 3, 4, 1]);
        let history = [8, 4, 4, 4];
        let found = Match::of(&history).unwrap();
        assert_eq!(found.draft(&history, 3), [4, 4, 4]);
        assert!(found.draft(&history, 0).is_empty());
    }

    /// The evidence after guesses that were right or not.
    fn after(guesses: &[bool]) -> Evidence {
        let history = [1, 2, 3, 1, 2];
        let found = Match::of(&history).unwrap();
        let mut evidence = Evidence::default();
        for &is_right in guesses {
            evidence.note(found, &history, if is_right { 3 } else { 9 });
        }
        evidence
    }

    const SHORT: Match = Match {
        len: 2,
        distance: 3,
    };

    /// Passes whose extra time is `scale` times the estimate.
    fn at(scale: f64) -> PassCost {
        PassCost {
            scale,
            ..PassCost::default()
        }
    }

    const LONG: Match = Match {
        len: MAX_MATCH,
        distance: 9,
    };

    #[test]
    fn before_any_guess_a_long_match_is_trusted_and_a_short_one_is_not() {
        let cost = &PassCost::default();
        assert_eq!(after(&[]).draft_len(SHORT, 8, cost), 0);
        assert!(after(&[]).draft_len(LONG, 8, cost) >= 2);
    }

    #[test]
    fn nothing_is_drafted_after_guesses_were_wrong() {
        let cheap = &at(0.2);
        assert_eq!(after(&[false; 9]).draft_len(SHORT, 8, cheap), 0);
        assert!(after(&[true; 9]).draft_len(SHORT, 8, cheap) > 0);
        let fading = [&[true; 20][..], &[false; 60]].concat();
        assert_eq!(after(&fading).draft_len(SHORT, 8, cheap), 0);
    }

    #[test]
    fn matches_of_another_length_are_other_evidence() {
        let cost = &PassCost::default();
        let long = after(&[]).draft_len(LONG, 8, cost);
        assert_eq!(after(&[false; 40]).draft_len(LONG, 8, cost), long);
    }

    #[test]
    fn the_second_token_of_a_draft_is_trusted_as_after_a_match_that_is_one_longer() {
        let mut evidence = after(&[true; 40]);
        // Two tokens for 1.11 steps. Then guesses after a match of three are always wrong.
        assert!(evidence.draft_len(SHORT, 8, &at(0.2)) > 1);
        evidence.rates[1..].fill(0.0);
        assert_eq!(evidence.draft_len(SHORT, 8, &at(0.2)), 1);
    }

    #[test]
    fn the_draft_is_longer_the_better_the_guesses_and_the_cheaper_a_pass() {
        let sure = Evidence {
            rates: [0.99; N_LENGTHS],
            ..Evidence::default()
        };
        assert_eq!(sure.draft_len(SHORT, 8, &at(1.0)), 8);
        assert_eq!(sure.draft_len(SHORT, 0, &at(1.0)), 0);
        // Two tokens for 1.94 steps.
        assert_eq!(sure.draft_len(SHORT, 1, &at(1.7)), 0);
        // Nine tokens for 13.2 steps.
        assert_eq!(sure.draft_len(SHORT, 8, &at(3.0)), 0);
        // A third to a half of the guesses are right: one draft gives 1.4 tokens for 1.55 steps.
        let unsure = after(&[true; 3]);
        assert_eq!(unsure.draft_len(SHORT, 8, &at(1.0)), 0);
        let n_cheap = unsure.draft_len(SHORT, 8, &at(0.2));
        assert!((1..8).contains(&n_cheap), "{n_cheap}");
    }

    #[test]
    fn the_cost_of_a_pass_follows_its_times() {
        let mut cost = PassCost::default();
        cost.note_pass(4, 1e9);
        assert_eq!(cost.scale, 1.0, "no step was measured");
        // Each pass takes half a step more than a step.
        for _ in 0..30 {
            cost.note_step(30.0);
            cost.note_pass(4, 45.0);
        }
        assert!((cost.steps(4) - 1.5).abs() < 0.02, "{cost:?}");
        // The time for removing rows counts with the next pass.
        for _ in 0..30 {
            cost.note_outcome(1, 15.0);
            cost.note_pass(4, 45.0);
        }
        assert!((cost.steps(4) - 2.0).abs() < 0.01, "{cost:?}");
    }

    #[test]
    fn drafts_that_do_not_pay_take_a_bounded_share_of_the_time() {
        let mut cost = PassCost::default();
        cost.note_step(30.0);
        let mut lost = 0.0;
        for _ in 0..5000 {
            if cost.has_credit() {
                // One token for three steps: the drafts were wrong.
                cost.note_pass(3, 80.0);
                cost.note_outcome(1, 10.0);
                lost += 2.0;
            } else {
                cost.note_step(30.0);
            }
        }
        let bound = 2.0 * START_CREDIT + CREDIT_PER_STEP * 5000.0;
        assert!(lost >= START_CREDIT && lost < bound, "{lost}");
    }

    #[test]
    fn drafts_lose_a_bounded_part_of_what_they_gained() {
        let mut cost = PassCost::default();
        cost.note_step(30.0);
        for _ in 0..50 {
            cost.note_pass(4, 60.0);
            cost.note_outcome(5, 0.0);
        }
        assert_eq!(cost.credit, MOST_CREDIT);
        // One token for two steps, until the credit is used up.
        for _ in 0..MOST_CREDIT as usize {
            assert!(cost.has_credit());
            cost.note_pass(4, 60.0);
            cost.note_outcome(1, 0.0);
        }
        assert!(!cost.has_credit());
    }

    #[test]
    fn slow_passes_are_forgotten_while_nothing_is_drafted() {
        let mut cost = PassCost::default();
        cost.note_step(30.0);
        for _ in 0..40 {
            cost.note_pass(1, 3000.0);
        }
        assert!((2.99..=MOST_SCALE).contains(&cost.scale), "{cost:?}");
        for _ in 0..1500 {
            cost.note_step(30.0);
        }
        assert!((cost.scale - 1.0).abs() < 0.02, "{cost:?}");
    }
}
