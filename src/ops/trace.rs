//! Records what ran when and how much had to be done, in columns that cross to JavaScript as typed arrays. It stands on
//! floor 0: backends open the spans and know the work, the session takes the result. It does not count, draw or print.

use crate::clock::now_us;

/// How much is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing; one branch per span.
    #[default]
    Off,
    /// One span per block, and one for each use of a shared block.
    Block,
    /// Every op of the backend too.
    Module,
}

/// What an op must do on any device, from its shapes alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// A multiplication with its addition is two.
    pub flops: u64,
    /// Weights read, states read and written, keys and values read and written; activations are not in it.
    pub bytes: u64,
}

impl Work {
    pub const NONE: Work = Work { flops: 0, bytes: 0 };

    /// An op whose arithmetic is not counted: norms, copies, activation functions.
    pub fn moving(bytes: usize) -> Work {
        Work {
            flops: 0,
            bytes: bytes as u64,
        }
    }
}

/// An interned span name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameId(u16);

/// A span of the present record, for a device that tells its times later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId {
    index: usize,
    /// Which record it is in: of one that was taken or discarded no time is wanted any more.
    record: u32,
}

/// A span that is open, or the fact that nothing is recorded at its level.
#[must_use]
#[derive(Debug)]
pub struct OpenSpan(Option<usize>);

/// The finished record: one entry per span in every column, in the order in which the spans opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// The table that `name` points into: module names as the checkpoint spells them.
    pub names: Vec<String>,
    pub name: Vec<u16>,
    /// The index of the span that was open around this one, or −1.
    pub parent: Vec<i32>,
    /// Which pass of the session the span belongs to: 0 is the prefill, n the n-th decode step.
    pub pass: Vec<u32>,
    pub start_us: Vec<f64>,
    pub duration_us: Vec<f32>,
    /// [`Work::flops`] of an op; 0 of a block, whose ops have them.
    pub flops: Vec<f64>,
    /// [`Work::bytes`] of an op.
    pub bytes: Vec<f64>,
}

impl Profile {
    pub fn len(&self) -> usize {
        self.name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.name.is_empty()
    }

    fn clear(&mut self) {
        self.name.clear();
        self.parent.clear();
        self.pass.clear();
        self.start_us.clear();
        self.duration_us.clear();
        self.flops.clear();
        self.bytes.clear();
    }
}

/// The recorder that a backend owns.
#[derive(Debug, Default)]
pub struct Profiler {
    level: Level,
    profile: Profile,
    open: Vec<usize>,
    /// Records taken or discarded so far.
    record: u32,
    /// Whether the times of each span are the device's own.
    is_device_time: Vec<bool>,
    /// Names that came as literals, found again by address: no string is compared on the hot path.
    literals: Vec<(*const u8, NameId)>,
    pass: u32,
}

impl Profiler {
    pub fn set_level(&mut self, level: Level) {
        self.level = level;
    }

    pub fn level(&self) -> Level {
        self.level
    }

    /// All spans from here on belong to pass `pass`.
    pub fn set_pass(&mut self, pass: u32) {
        self.pass = pass;
    }

    /// The id of `name`, which stays valid for the life of the profiler.
    pub fn intern(&mut self, name: &str) -> NameId {
        let known = self.profile.names.iter().position(|n| n == name);
        let index = known.unwrap_or_else(|| {
            self.profile.names.push(name.to_owned());
            self.profile.names.len() - 1
        });
        NameId(u16::try_from(index).expect("a model has fewer than 65,536 module names"))
    }

    /// Opens the span of a block. Close it with [`Profiler::close`].
    pub fn open_block(&mut self, name: NameId) -> OpenSpan {
        if self.level < Level::Block {
            return OpenSpan(None);
        }
        self.open_span(name)
    }

    /// Opens the span of one op.
    pub fn open_op(&mut self, name: &'static str) -> OpenSpan {
        if self.level < Level::Module {
            return OpenSpan(None);
        }
        let known = self.literals.iter().find(|(at, _)| *at == name.as_ptr());
        let id = match known {
            Some((_, id)) => *id,
            None => {
                let id = self.intern(name);
                self.literals.push((name.as_ptr(), id));
                id
            }
        };
        self.open_span(id)
    }

    fn open_span(&mut self, name: NameId) -> OpenSpan {
        let index = self.profile.len();
        self.profile.name.push(name.0);
        let parent = self.open.last().map_or(-1, |&at| at as i32);
        self.profile.parent.push(parent);
        self.profile.pass.push(self.pass);
        self.profile.duration_us.push(0.0);
        self.profile.flops.push(0.0);
        self.profile.bytes.push(0.0);
        self.is_device_time.push(false);
        self.open.push(index);
        // The clock is read last, so that the bookkeeping is charged to the parent.
        self.profile.start_us.push(now_us());
        OpenSpan(Some(index))
    }

    /// Closes `span`, in which `work` was done.
    pub fn close(&mut self, span: OpenSpan, work: Work) {
        let Some(index) = span.0 else { return };
        self.profile.duration_us[index] = (now_us() - self.profile.start_us[index]) as f32;
        self.profile.flops[index] = work.flops as f64;
        self.profile.bytes[index] = work.bytes as f64;
        let last = self.open.pop();
        debug_assert_eq!(last, Some(index), "spans close in reverse order of opening");
    }

    /// The span in which everything is that is recorded now.
    pub fn innermost(&self) -> Option<SpanId> {
        self.open.last().map(|&index| SpanId {
            index,
            record: self.record,
        })
    }

    /// A part of `span` ran on the device from `start_us` to `end_us`. The device's times take the place of the host's in
    /// it and in the spans around it, each of which reaches from the first of its parts to the last.
    pub fn note_device_time(&mut self, span: SpanId, start_us: f64, end_us: f64) {
        if span.record != self.record {
            return;
        }
        let mut at = Some(span.index);
        while let Some(index) = at {
            let start = &mut self.profile.start_us[index];
            let duration = &mut self.profile.duration_us[index];
            if self.is_device_time[index] {
                let end_us = end_us.max(*start + f64::from(*duration));
                *start = start.min(start_us);
                *duration = (end_us - *start) as f32;
            } else {
                self.is_device_time[index] = true;
                *start = start_us;
                *duration = (end_us - start_us) as f32;
            }
            at = usize::try_from(self.profile.parent[index]).ok();
        }
    }

    /// What was recorded since the last call; the names stay interned.
    pub fn take(&mut self) -> Profile {
        let taken = self.profile.clone();
        self.discard();
        taken
    }

    /// The durations of the spans of the latest pass `pass` whose name is in `names`, summed per name.
    pub fn durations_us(&self, names: &[NameId], pass: u32) -> Vec<f32> {
        let mut sums = vec![0.0; names.len()];
        let Profile {
            name,
            pass: passes,
            duration_us,
            ..
        } = &self.profile;
        let spans = passes.iter().zip(name.iter().zip(duration_us)).rev();
        let spans = spans
            .skip_while(|(of, _)| **of != pass)
            .take_while(|(of, _)| **of == pass);
        for (_, (name, duration_us)) in spans {
            if let Some(at) = names.iter().position(|n| n.0 == *name) {
                sums[at] += duration_us;
            }
        }
        sums
    }

    /// Forgets what was recorded since `take`.
    pub fn discard(&mut self) {
        self.profile.clear();
        self.is_device_time.clear();
        self.record += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_recorded_when_profiling_is_off() {
        let mut profiler = Profiler::default();
        let name = profiler.intern("layers.0");
        let block = profiler.open_block(name);
        let op = profiler.open_op("in_proj");
        profiler.close(op, Work::moving(1));
        profiler.close(block, Work::NONE);
        assert!(profiler.take().is_empty());
    }

    #[test]
    fn an_op_is_the_child_of_the_block_around_it() {
        let mut profiler = Profiler::default();
        profiler.set_level(Level::Module);
        let name = profiler.intern("layers.0");
        let block = profiler.open_block(name);
        let op = profiler.open_op("in_proj");
        let work = Work {
            flops: 512,
            bytes: 128,
        };
        profiler.close(op, work);
        profiler.close(block, Work::NONE);
        let profile = profiler.take();
        assert_eq!(profile.parent, [-1, 0]);
        assert_eq!(profile.flops, [0.0, 512.0]);
        assert_eq!(profile.bytes, [0.0, 128.0]);
        assert!(profile.duration_us[0] >= profile.duration_us[1]);
    }

    #[test]
    fn times_of_a_device_replace_those_of_the_host_in_a_span_and_around_it() {
        let mut profiler = Profiler::default();
        profiler.set_level(Level::Module);
        let name = profiler.intern("layers.0");
        let block = profiler.open_block(name);
        let mut ids = Vec::new();
        for name in ["in_proj", "out_proj"] {
            let op = profiler.open_op(name);
            ids.push(profiler.innermost().unwrap());
            profiler.close(op, Work::NONE);
        }
        profiler.close(block, Work::NONE);
        profiler.note_device_time(ids[0], 100.0, 110.0);
        profiler.note_device_time(ids[1], 112.0, 120.0);
        let profile = profiler.take();
        assert_eq!(profile.start_us, [100.0, 100.0, 112.0]);
        assert_eq!(profile.duration_us, [20.0, 10.0, 8.0]);
        profiler.note_device_time(ids[0], 1.0, 2.0);
        assert!(profiler.take().is_empty());
    }

    #[test]
    fn block_level_leaves_the_ops_out() {
        let mut profiler = Profiler::default();
        profiler.set_level(Level::Block);
        let name = profiler.intern("layers.0");
        let block = profiler.open_block(name);
        let op = profiler.open_op("in_proj");
        profiler.close(op, Work::moving(1));
        profiler.close(block, Work::NONE);
        assert_eq!(profiler.take().len(), 1);
    }
}
