//! The work of a pass relative to the measured ceilings.

use crate::base::quant::Arithmetic;
use crate::model::config::Config;
use crate::ops::device::Ceilings;
use crate::report::count::{self, Formats, ModuleWork};
use crate::report::run::Run;
use crate::report::summary::spread::ratio;
use crate::report::verdict::Roof;

/// FLOPs per byte from which a pass counts as limited by arithmetic if there are no ceilings: between the values of the
/// CPUs in docs/performance.md.
const TYPICAL_BALANCE: f64 = 10.0;

/// The work of one prefill, or of a decode step at the mean context of the run.
pub fn works(run: &Run, config: &Config, formats: Formats, is_decode: bool) -> Vec<ModuleWork> {
    if !is_decode {
        return count::pass(config, run.prompt_tokens, 0, formats);
    }
    // Work is linear in the context, so its mean over the steps is the mean of the first and the last.
    let mut works = count::pass(config, 1, run.prompt_tokens, formats);
    let last = run.prompt_tokens + run.decode_tokens.saturating_sub(1);
    for (work, last) in works.iter_mut().zip(count::pass(config, 1, last, formats)) {
        work.flops = (work.flops + last.flops) / 2.0;
        work.state_bytes = (work.state_bytes + last.state_bytes) / 2.0;
    }
    works
}

/// A sum of work, and the time that the ceilings allow for it.
#[derive(Clone, Copy, Default)]
pub struct WorkTotal {
    pub flops: f64,
    pub bytes: f64,
    pub allowed_us: f64,
}

impl WorkTotal {
    pub fn add(&mut self, other: WorkTotal) {
        self.flops += other.flops;
        self.bytes += other.bytes;
        self.allowed_us += other.allowed_us;
    }
}

pub struct Workload<'a> {
    pub works: Vec<ModuleWork>,
    pub ceilings: Option<&'a Ceilings>,
}

impl Workload<'_> {
    pub fn of(&self, work: &ModuleWork) -> WorkTotal {
        WorkTotal {
            flops: work.flops,
            bytes: work.bytes(),
            allowed_us: self.ceilings.map_or(0.0, |c| allowed_us(c, work)),
        }
    }

    pub fn total(&self) -> WorkTotal {
        let mut total = WorkTotal::default();
        for work in &self.works {
            total.add(self.of(work));
        }
        total
    }

    /// The speed of `work` in `us`, as a percentage of what the ceilings allow; `None` if they were not measured.
    pub fn percent(&self, work: WorkTotal, us: f64) -> Option<f64> {
        self.ceilings.map(|_| 100.0 * ratio(work.allowed_us, us))
    }

    /// The ceiling that accounts for most of the allowed time.
    pub fn roof(&self) -> Roof {
        let arithmetic = match self.ceilings {
            Some(ceilings) => {
                let sum = |us: fn(&Ceilings, &ModuleWork) -> f64| -> f64 {
                    self.works.iter().map(|work| us(ceilings, work)).sum()
                };
                sum(arithmetic_us) > sum(memory_us)
            }
            None => {
                let total = self.total();
                ratio(total.flops, total.bytes) > TYPICAL_BALANCE
            }
        };
        match arithmetic {
            true => Roof::Arithmetic,
            false => Roof::Memory,
        }
    }
}

/// The peak of `arithmetic` in GFLOP/s.
pub fn peak_gflops(ceilings: &Ceilings, arithmetic: Arithmetic) -> f64 {
    2.0 * ceilings.gmacs_per_s(arithmetic)
}

fn allowed_us(ceilings: &Ceilings, work: &ModuleWork) -> f64 {
    arithmetic_us(ceilings, work).max(memory_us(ceilings, work))
}

fn arithmetic_us(ceilings: &Ceilings, work: &ModuleWork) -> f64 {
    work.flops / peak_gflops(ceilings, work.arithmetic) / 1e3
}

fn memory_us(ceilings: &Ceilings, work: &ModuleWork) -> f64 {
    work.bytes() / ceilings.read_gb_per_s / 1e3
}
