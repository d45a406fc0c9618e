//! Timestamp queries: a pair around each compute pass, resolved by the next readback. WebGPU has timestamps only at
//! the ends of passes, so a new span starts a new pass.

use crate::ops::trace::{SpanId, SpanTime};

/// Passes per query set: WebGPU allows 4096 queries, two per pass.
const SET_PASSES: usize = 2048;
/// After this many passes with the same timestamp the counter is considered stopped. They span several readbacks, each
/// of which takes longer than the 100 µs to which browsers round.
const STOPPED_AFTER_PASSES: usize = 16;

pub struct Timers {
    period_us: f64,
    sets: Vec<wgpu::QuerySet>,
    resolved: Option<wgpu::Buffer>,
    /// The passes since the last readback was requested.
    passes: TimedPasses,
    /// When the last pass that was read back ended, by the host's clock.
    last_end_us: f64,
    /// The greatest common divisor of all timestamp differences so far: browsers round timestamps.
    step_ticks: u64,
    first_tick: Option<u64>,
    /// Whether any timestamp differed from the first one.
    has_moved: bool,
    /// Passes read back so far, up to [`STOPPED_AFTER_PASSES`].
    n_passes: usize,
}

/// Compute passes with timestamps.
#[derive(Default)]
pub struct TimedPasses {
    spans: Vec<SpanId>, // [passes]
    /// When the first of them was submitted.
    submitted_us: Option<f64>,
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl Timers {
    pub fn new(period_ns: f32) -> Timers {
        Timers {
            period_us: f64::from(period_ns) / 1e3,
            sets: Vec::new(),
            resolved: None,
            passes: TimedPasses::default(),
            last_end_us: 0.0,
            step_ticks: 0,
            first_tick: None,
            has_moved: false,
            n_passes: 0,
        }
    }

    /// Whether all timestamps so far are equal: some drivers return 0, and such an adapter has no clock.
    pub fn is_stopped(&self) -> bool {
        !self.has_moved && self.n_passes >= STOPPED_AFTER_PASSES
    }

    /// The observed resolution; 0 before the first readback.
    pub fn step_us(&self) -> f64 {
        self.step_ticks as f64 * self.period_us
    }

    /// The timestamp writes of a pass that is about to begin.
    pub fn next_pass(
        &mut self,
        device: &wgpu::Device,
        span: SpanId,
    ) -> wgpu::ComputePassTimestampWrites<'_> {
        let spans = &mut self.passes.spans;
        let (set, pass) = (spans.len() / SET_PASSES, spans.len() % SET_PASSES);
        spans.push(span);
        if set == self.sets.len() {
            self.sets
                .push(device.create_query_set(&wgpu::QuerySetDescriptor {
                    label: Some("timestamps"),
                    ty: wgpu::QueryType::Timestamp,
                    count: 2 * SET_PASSES as u32,
                }));
        }
        wgpu::ComputePassTimestampWrites {
            query_set: &self.sets[set],
            beginning_of_pass_write_index: Some(2 * pass as u32),
            end_of_pass_write_index: Some(2 * pass as u32 + 1),
        }
    }

    pub fn note_submission(&mut self, now_us: f64) {
        if !self.passes.spans.is_empty() {
            self.passes.submitted_us.get_or_insert(now_us);
        }
    }

    /// Encodes the copy of all timestamps into a buffer; returns the buffer and the number of bytes used.
    pub fn resolve(
        &mut self,
        device: &wgpu::Device,
        encoder: &mut wgpu::CommandEncoder,
    ) -> Option<(&wgpu::Buffer, u64)> {
        const PASS_BYTES: usize = 16;
        let spans = &self.passes.spans;
        if spans.is_empty() {
            return None;
        }
        let needed_bytes = (self.sets.len() * SET_PASSES * PASS_BYTES) as u64;
        let large_enough = (self.resolved.take()).filter(|buffer| buffer.size() >= needed_bytes);
        let buffer = large_enough.unwrap_or_else(|| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size: needed_bytes,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            })
        });
        let passes_of_sets = spans.chunks(SET_PASSES).map(<[SpanId]>::len);
        for (i, (set, passes)) in self.sets.iter().zip(passes_of_sets).enumerate() {
            let start = (i * SET_PASSES * PASS_BYTES) as u64;
            encoder.resolve_query_set(set, 0..2 * passes as u32, &buffer, start);
        }
        Some((
            self.resolved.insert(buffer),
            (spans.len() * PASS_BYTES) as u64,
        ))
    }

    /// The passes whose timestamps the current readback contains. Later passes belong to the next one.
    pub fn take_passes(&mut self) -> TimedPasses {
        std::mem::take(&mut self.passes)
    }

    /// Decodes the bytes of [`Timers::resolve`]'s buffer for `passes`. Times are converted to the host's clock by
    /// assuming that the first pass began when it was submitted, or when the passes of the previous readback had ended.
    pub fn times(&mut self, passes: TimedPasses, bytes: &[u8]) -> Vec<SpanTime> {
        let ticks = bytes
            .as_chunks()
            .0
            .iter()
            .map(|tick| u64::from_le_bytes(*tick));
        let ticks: Vec<u64> = ticks.collect();
        for pair in ticks.windows(2) {
            self.step_ticks = greatest_common_divisor(self.step_ticks, pair[1].abs_diff(pair[0]));
        }
        if let Some(&first) = ticks.first() {
            let first = *self.first_tick.get_or_insert(first);
            self.has_moved |= ticks.iter().any(|&tick| tick != first);
        }
        let pairs = ticks.as_chunks::<2>().0;
        self.n_passes = STOPPED_AFTER_PASSES.min(self.n_passes + pairs.len());
        let first = pairs.first().map_or(0, |[start, _]| *start);
        let begin_us = passes
            .submitted_us
            .unwrap_or_default()
            .max(self.last_end_us);
        let us = |tick: u64| begin_us + tick.saturating_sub(first) as f64 * self.period_us;
        let times = passes.spans.into_iter().zip(pairs);
        let times: Vec<SpanTime> = times
            .map(|(span, [start, end])| SpanTime {
                span,
                start_us: us(*start),
                // The counter may restart from zero between two timestamps.
                end_us: us(*end.max(start)),
            })
            .collect();
        self.last_end_us = times.last().map_or(self.last_end_us, |last| last.end_us);
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The timers after readbacks of one pass each, from `start` to `end`.
    fn after(passes: impl Iterator<Item = [u64; 2]>) -> Timers {
        let mut timers = Timers::new(1.0);
        for pass in passes {
            timers.times(TimedPasses::default(), &pass.map(u64::to_le_bytes).concat());
        }
        timers
    }

    #[test]
    fn timestamps_that_never_change_are_no_clock() {
        for tick in [0, 77] {
            let passes = std::iter::repeat_n([tick; 2], STOPPED_AFTER_PASSES);
            assert!(after(passes.clone()).is_stopped());
            assert!(
                !after(passes.skip(1)).is_stopped(),
                "a few may be rounded to one"
            );
        }
    }

    #[test]
    fn rounded_timestamps_are_a_clock_once_they_advance() {
        let passes = (0..100).map(|pass| [pass / 50 * 100_000; 2]);
        assert!(!after(passes).is_stopped());
    }
}
