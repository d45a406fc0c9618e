//! Decides what limits a phase, for the report, the advice and the page. A phase is "held back" by a ceiling only if
//! its time is close to what the ceiling allows; otherwise the ceiling is merely the nearest one.

use serde::Serialize;

/// Ceilings are measured with some noise; a phase further above a ceiling shows that it was measured too low.
pub const ABOVE_CEILING_PERCENT: f64 = 105.0;
/// From this percentage on a phase is held back by its ceiling, and only less work makes it faster.
const HELD_PERCENT: f64 = 60.0;

/// The two ceilings of the roofline model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Roof {
    Arithmetic,
    Memory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    HeldByArithmetic,
    HeldByMemory,
    /// Far from both ceilings; arithmetic is the closer one.
    NearestArithmetic,
    NearestMemory,
    /// Faster than the ceiling, which was therefore measured too low.
    AboveCeiling,
    NoCeilings,
}

impl Verdict {
    /// The verdict for a phase at `percent` of `roof`, the ceiling that limits it most; `percent` is `None` if no
    /// ceilings were measured.
    pub fn of(roof: Roof, percent: Option<f64>) -> Verdict {
        let Some(percent) = percent else {
            return Verdict::NoCeilings;
        };
        match roof {
            _ if percent > ABOVE_CEILING_PERCENT => Verdict::AboveCeiling,
            Roof::Arithmetic if percent >= HELD_PERCENT => Verdict::HeldByArithmetic,
            Roof::Memory if percent >= HELD_PERCENT => Verdict::HeldByMemory,
            Roof::Arithmetic => Verdict::NearestArithmetic,
            Roof::Memory => Verdict::NearestMemory,
        }
    }

    /// The key of its sentence in `www/words/`. The page derives the same key from the JSON.
    pub fn key(self) -> &'static str {
        match self {
            Verdict::HeldByArithmetic => "report.verdict.held_by_arithmetic",
            Verdict::HeldByMemory => "report.verdict.held_by_memory",
            Verdict::NearestArithmetic => "report.verdict.nearest_arithmetic",
            Verdict::NearestMemory => "report.verdict.nearest_memory",
            Verdict::AboveCeiling => "report.verdict.above_ceiling",
            Verdict::NoCeilings => "report.verdict.no_ceilings",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_far_from_its_ceiling_is_not_held_back_by_it() {
        for (roof, percent, verdict) in [
            (Roof::Memory, Some(7.0), Verdict::NearestMemory),
            (Roof::Memory, Some(59.9), Verdict::NearestMemory),
            (Roof::Memory, Some(60.0), Verdict::HeldByMemory),
            (Roof::Arithmetic, Some(105.0), Verdict::HeldByArithmetic),
            (Roof::Arithmetic, Some(105.1), Verdict::AboveCeiling),
            (Roof::Arithmetic, Some(10.0), Verdict::NearestArithmetic),
            (Roof::Memory, None, Verdict::NoCeilings),
        ] {
            assert_eq!(Verdict::of(roof, percent), verdict, "{roof:?} {percent:?}");
        }
    }

    #[test]
    fn the_key_of_a_verdict_ends_in_its_json_name() {
        for roof in [Roof::Arithmetic, Roof::Memory] {
            for percent in [None, Some(1.0), Some(80.0), Some(200.0)] {
                let verdict = Verdict::of(roof, percent);
                let json = serde_json::to_value(verdict).unwrap();
                let key = format!("report.verdict.{}", json.as_str().unwrap());
                assert_eq!(key, verdict.key());
            }
        }
    }
}
