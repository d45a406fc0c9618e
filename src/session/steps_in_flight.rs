//! The number of decode steps in flight: submitted before the host has read the token of the first of them. Each step
//! more than the device needs to stay busy is wasted when a run stops; one too few leaves the device idle during each
//! readback. So the number follows from two times that are measured while decoding.

use std::collections::VecDeque;

use crate::ops::device::Device;

/// Tokens over which the time per token is averaged. Readbacks that are late arrive together, so single times vary.
const WINDOW: usize = 8;
/// Safety factor, so that a step is always waiting on the device although times vary.
const MARGIN: f64 = 1.1;

/// Bounds for the decode steps in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookahead {
    pub min_steps: usize,
    /// 1: read all logits back after every token.
    pub max_steps: usize,
}

impl Lookahead {
    /// The default of device `B`.
    pub fn of<B: Device>() -> Lookahead {
        Lookahead {
            min_steps: B::MAX_STEPS_IN_FLIGHT.min(2),
            max_steps: B::MAX_STEPS_IN_FLIGHT,
        }
    }

    /// The steps in flight that keep the device busy, if a single step takes `alone_us` from submission to the arrival
    /// of its token, and tokens currently arrive every `token_us`. A busy device delivers a token per step time,
    /// however many are in flight; with too few in flight, there are as many tokens per `alone_us`. So this returns one
    /// more as long as one more helps, and two if the readback takes less than eight tenths of a step.
    fn steps(self, alone_us: f64, token_us: f64) -> usize {
        let steps = (MARGIN * alone_us / token_us).ceil();
        (steps as usize).clamp(self.min_steps, self.max_steps)
    }
}

/// The times of decode steps.
#[derive(Debug, Default)]
pub(super) struct StepClock {
    /// The shortest time of a step that was submitted to an idle device.
    alone_us: Option<f64>,
    /// When the last tokens arrived, at most one more than [`WINDOW`].
    arrivals_us: VecDeque<f64>,
}

impl StepClock {
    /// Records the time of a step from its submission to an idle device to the arrival of its token.
    pub fn note_alone(&mut self, us: f64) {
        self.alone_us = Some(self.alone_us.map_or(us, |least| least.min(us)));
    }

    pub fn note_arrival(&mut self, now_us: f64) {
        self.arrivals_us.push_back(now_us);
        if self.arrivals_us.len() > WINDOW + 1 {
            self.arrivals_us.pop_front();
        }
    }

    /// The steps to have in flight. The first of a sequence is alone, so that its time is known.
    pub fn steps_in_flight(&self, bounds: Lookahead) -> usize {
        let Some(alone_us) = self.alone_us else {
            return if bounds.min_steps == bounds.max_steps {
                bounds.min_steps
            } else {
                1
            };
        };
        let arrivals_us = &self.arrivals_us;
        match (arrivals_us.front(), arrivals_us.back()) {
            (Some(first_us), Some(last_us)) if arrivals_us.len() > WINDOW => {
                bounds.steps(alone_us, (last_us - first_us) / WINDOW as f64)
            }
            _ => bounds.min_steps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Lookahead = Lookahead {
        min_steps: 2,
        max_steps: 8,
    };

    /// Simulates a device that takes `step_us` for a step, and a readback that arrives `readback_us` later. Returns the
    /// steps in flight at the end, and the device's idle share of the time.
    fn decode(step_us: f64, readback_us: f64, n_tokens: usize) -> (usize, f64) {
        let mut clock = StepClock::default();
        clock.note_alone(step_us + readback_us);
        let (mut now_us, mut device_us) = (0.0f64, 0.0f64);
        let mut in_flight = VecDeque::new();
        let (mut idle_us, mut steps) = (0.0, 0);
        for token in 0..n_tokens {
            steps = clock.steps_in_flight(BOUNDS);
            while in_flight.len() < steps {
                // The idle time is counted after the number has settled.
                if token > n_tokens / 2 {
                    idle_us += (now_us - device_us).max(0.0);
                }
                device_us = device_us.max(now_us) + step_us;
                in_flight.push_back(device_us + readback_us);
            }
            now_us = in_flight.pop_front().map_or(now_us, |at| now_us.max(at));
            clock.note_arrival(now_us);
        }
        (steps, idle_us / (now_us / 2.0))
    }

    #[test]
    fn two_steps_are_in_flight_where_a_readback_is_shorter_than_a_step() {
        for readback_us in [0.0, 100.0, 5_000.0, 12_000.0] {
            let (steps, idle) = decode(16_000.0, readback_us, 200);
            assert_eq!(steps, 2, "{readback_us}");
            assert!(idle < 1e-6, "{readback_us}: {idle}");
        }
    }

    #[test]
    fn a_fast_device_with_slow_readbacks_has_as_many_in_flight_as_keep_it_busy() {
        for (step_us, readback_us, expected) in [
            (2_000.0, 3_000.0, 3),
            (2_000.0, 5_000.0, 4),
            (2_000.0, 10_000.0, 7),
            (2_500.0, 15_000.0, 8),
        ] {
            let (steps, idle) = decode(step_us, readback_us, 400);
            assert_eq!(steps, expected, "{step_us} {readback_us}");
            assert!(idle < 0.02, "{step_us} {readback_us}: {idle}");
        }
    }

    #[test]
    fn the_bounds_hold_at_any_speed() {
        assert_eq!(decode(1.0, 1e6, 400).0, BOUNDS.max_steps);
        let fixed = Lookahead {
            min_steps: 1,
            max_steps: 1,
        };
        assert_eq!(fixed.steps(5e3, 1.0), 1);
        assert_eq!(BOUNDS.steps(0.0, 0.0), 2, "before a clock has moved");
    }

    #[test]
    fn a_pause_between_tokens_asks_for_no_more_steps() {
        let mut clock = StepClock::default();
        clock.note_alone(8_000.0);
        for i in 0..20 {
            clock.note_arrival(if i < 10 { 0.0 } else { 1e9 } + 2_000.0 * f64::from(i));
        }
        assert_eq!(clock.steps_in_flight(BOUNDS), 5);
        clock.note_arrival(5e9);
        assert_eq!(clock.steps_in_flight(BOUNDS), 2);
    }

    #[test]
    fn the_first_step_of_a_sequence_is_alone_unless_the_number_is_fixed() {
        let clock = StepClock::default();
        assert_eq!(clock.steps_in_flight(BOUNDS), 1);
        let fixed = Lookahead {
            min_steps: 3,
            max_steps: 3,
        };
        assert_eq!(clock.steps_in_flight(fixed), 3);
    }
}
