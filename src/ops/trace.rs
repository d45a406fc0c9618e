//! Spans: what ran when, and how much work it was, in columns that are passed to JavaScript as typed arrays.
//! [`Ops`](crate::ops::Ops) opens the spans, the session takes the profile, and `work.rs` counts the work.

use crate::base::clock::now_us;
use crate::ops::work::Work;

/// The level of detail that is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing; costs one branch per span.
    #[default]
    Off,
    /// One span per block, and one for each call of a shared transformer.
    Block,
    /// Also one span per op.
    Module,
}

/// A module of the model, by its index in the model's tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleId(pub u16);

impl ModuleId {
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Handle to a span of the current profile, for a device that reports times later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId {
    index: usize,
    /// Number of the profile; times for a profile that was taken or discarded are dropped.
    record: u32,
}

/// Start and end of a part of a span, measured by the device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpanTime {
    pub span: SpanId,
    pub start_us: f64,
    pub end_us: f64,
}

/// Handle to an open span; empty if spans of this level are not recorded.
#[must_use]
#[derive(Debug)]
pub struct OpenSpan(Option<usize>);

impl OpenSpan {
    pub fn is_recorded(&self) -> bool {
        self.0.is_some()
    }
}

/// A finished profile: one entry per span in every column, in the order in which the spans were opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// Names that `name` indexes: span names of modules, unique within a block.
    pub names: Vec<String>,
    pub name: Vec<u16>,
    /// The index of the enclosing span, or −1.
    pub parent: Vec<i32>,
    /// The pass of the session: 0 is the prefill, n the n-th decode step.
    pub pass: Vec<u32>,
    pub start_us: Vec<f64>,
    pub duration_us: Vec<f32>,
    /// [`Work::flops`] of an op; 0 for a block, whose work is the sum of its ops.
    pub flops: Vec<f64>,
    /// [`Work::bytes`] of an op.
    pub bytes: Vec<f64>,
    /// The first span of the same fused kernel, or −1. Such spans follow each other; their times are shares of the
    /// kernel's time, by the bytes that each op would move by itself.
    pub fused_with: Vec<i32>,
}

/// An op that shares its kernel with others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Member {
    pub module: ModuleId,
    pub work: Work,
    /// The bytes of its work and of its inputs and outputs.
    pub moved_bytes: f64,
}

impl Profile {
    pub fn len(&self) -> usize {
        self.name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.name.is_empty()
    }

    /// Drops the first `n` spans, which no later one has as a parent.
    fn forget(&mut self, n: usize) {
        self.name.drain(..n);
        self.parent.drain(..n);
        self.pass.drain(..n);
        self.start_us.drain(..n);
        self.duration_us.drain(..n);
        self.flops.drain(..n);
        self.bytes.drain(..n);
        self.fused_with.drain(..n);
        for row in self.parent.iter_mut().chain(&mut self.fused_with) {
            *row = (*row - n as i32).max(-1);
        }
    }

    fn clear(&mut self) {
        self.name.clear();
        self.parent.clear();
        self.pass.clear();
        self.start_us.clear();
        self.duration_us.clear();
        self.flops.clear();
        self.bytes.clear();
        self.fused_with.clear();
    }
}

/// A module's span name, and its index in [`Profile::names`] once it has been interned.
#[derive(Debug)]
struct SpanName {
    text: String,
    interned: Option<u16>,
}

/// Records spans.
#[derive(Debug, Default)]
pub struct Profiler {
    level: Level,
    profile: Profile,
    open: Vec<usize>,
    /// Number of profiles taken or discarded so far.
    record: u32,
    /// Spans of this profile that were forgotten: the index of a [`SpanId`] counts them, too.
    n_forgotten: usize,
    /// For each span, whether its times come from the device.
    is_device_time: Vec<bool>,
    /// For each span, [`Member::moved_bytes`].
    moved_bytes: Vec<f64>,
    /// By [`ModuleId`], so that opening a span compares no strings.
    modules: Vec<SpanName>,
    pass: u32,
}

impl Profiler {
    pub fn set_level(&mut self, level: Level) {
        self.level = level;
    }

    pub fn level(&self) -> Level {
        self.level
    }

    /// Assigns the spans that follow to pass `pass`.
    pub fn set_pass(&mut self, pass: u32) {
        self.pass = pass;
    }

    /// Sets the span name of every module, in the order of the ids.
    pub fn set_modules<'a>(&mut self, span_names: impl IntoIterator<Item = &'a str>) {
        let name = |text: &str| SpanName {
            text: text.into(),
            interned: None,
        };
        self.modules = span_names.into_iter().map(name).collect();
    }

    fn name(&mut self, module: ModuleId) -> u16 {
        let text = match self.modules.get(module.index()) {
            Some(SpanName {
                interned: Some(name),
                ..
            }) => return *name,
            Some(name) => &name.text[..],
            // Ops outside of a model, as in the self-test.
            None => "unnamed",
        };
        let names = &mut self.profile.names;
        let known = names.iter().position(|name| name == text);
        let name = known.unwrap_or_else(|| {
            names.push(text.to_owned());
            names.len() - 1
        });
        let name = u16::try_from(name).expect("a model has fewer than 65,536 span names");
        if let Some(module) = self.modules.get_mut(module.index()) {
            module.interned = Some(name);
        }
        name
    }

    /// Opens the span of a block or of a call of a shared transformer. Close it with [`Profiler::close`].
    pub fn open_block(&mut self, module: ModuleId) -> OpenSpan {
        self.open(Level::Block, module)
    }

    /// Opens the span of one op.
    pub fn open_op(&mut self, module: ModuleId) -> OpenSpan {
        self.open(Level::Module, module)
    }

    /// Opens one span for the members of a fused op. Close it with [`Profiler::close_members`].
    pub fn open_members(&mut self, members: &[Member]) -> OpenSpan {
        if self.level < Level::Module {
            return OpenSpan(None);
        }
        let first = self.profile.len();
        for member in members {
            self.push(member.module);
        }
        if members.len() > 1 {
            self.profile.fused_with[first..].fill(first as i32);
        }
        self.open.push(first);
        self.profile.start_us[first..].fill(now_us());
        OpenSpan(Some(first))
    }

    /// Closes `span`. Until the profile is taken, it has the time of all `members`.
    pub fn close_members(&mut self, span: OpenSpan, members: &[Member]) {
        let Some(first) = span.0 else { return };
        for (i, member) in (first..).zip(members) {
            self.profile.flops[i] = member.work.flops;
            self.profile.bytes[i] = member.work.bytes();
            self.moved_bytes[i] = member.moved_bytes;
        }
        self.close(span, || members[0].work);
    }

    fn open(&mut self, level: Level, module: ModuleId) -> OpenSpan {
        if self.level < level {
            return OpenSpan(None);
        }
        let index = self.push(module);
        self.open.push(index);
        // The clock is read last, so that bookkeeping counts towards the parent span.
        self.profile.start_us[index] = now_us();
        OpenSpan(Some(index))
    }

    /// Adds a row for a span of `module` below the innermost open span.
    fn push(&mut self, module: ModuleId) -> usize {
        let name = self.name(module);
        self.profile.name.push(name);
        let parent = self.open.last().map_or(-1, |&at| at as i32);
        self.profile.parent.push(parent);
        self.profile.pass.push(self.pass);
        self.profile.start_us.push(0.0);
        self.profile.duration_us.push(0.0);
        self.profile.flops.push(0.0);
        self.profile.bytes.push(0.0);
        self.profile.fused_with.push(-1);
        self.is_device_time.push(false);
        self.moved_bytes.push(0.0);
        self.profile.len() - 1
    }

    /// Closes `span`; `work` is evaluated only if the span is recorded.
    pub fn close(&mut self, span: OpenSpan, work: impl FnOnce() -> Work) {
        let Some(index) = span.0 else { return };
        self.profile.duration_us[index] = (now_us() - self.profile.start_us[index]) as f32;
        let work = work();
        self.profile.flops[index] = work.flops;
        self.profile.bytes[index] = work.bytes();
        let last = self.open.pop();
        debug_assert_eq!(last, Some(index), "spans close in reverse order of opening");
    }

    /// The innermost open span.
    pub fn innermost(&self) -> Option<SpanId> {
        self.open.last().map(|&index| SpanId {
            index: self.n_forgotten + index,
            record: self.record,
        })
    }

    /// Replaces the host's times of a span and its ancestors by the device's: each extends from the start of its first
    /// part to the end of its last.
    pub fn note_device_time(&mut self, time: SpanTime) {
        let SpanTime {
            span,
            start_us,
            end_us,
        } = time;
        if span.record != self.record {
            return;
        }
        let mut at = span.index.checked_sub(self.n_forgotten);
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

    /// Takes the spans recorded since the last call. Interned names are kept.
    pub fn take(&mut self) -> Profile {
        self.apportion();
        let taken = self.profile.clone();
        self.discard();
        taken
    }

    /// Divides the time of each fused kernel, which its first span has, among its members.
    fn apportion(&mut self) {
        let Profile {
            start_us,
            duration_us,
            fused_with,
            ..
        } = &mut self.profile;
        let mut first = 0;
        for members in fused_with.chunk_by(|a, b| *a >= 0 && a == b) {
            let rows = first..first + members.len();
            first = rows.end;
            if members[0] < 0 {
                continue;
            }
            let all_bytes: f64 = self.moved_bytes[rows.clone()].iter().sum();
            let whole_us = f64::from(duration_us[rows.start]);
            let mut at_us = start_us[rows.start];
            for row in rows {
                let own_us = whole_us * self.moved_bytes[row] / all_bytes;
                start_us[row] = at_us;
                duration_us[row] = own_us as f32;
                at_us += own_us;
            }
        }
    }

    /// The total duration of each of `modules` in the latest pass `pass`; `None` if that pass has no spans. Modules
    /// with the same span name are summed together.
    pub fn durations_us(&self, modules: &[ModuleId], pass: u32) -> Option<Vec<f32>> {
        if !self.profile.pass.contains(&pass) {
            return None;
        }
        let name_of = |module: &ModuleId| self.modules.get(module.index())?.interned;
        let names: Vec<Option<u16>> = modules.iter().map(name_of).collect();
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
            if let Some(at) = names.iter().position(|n| *n == Some(*name)) {
                sums[at] += duration_us;
            }
        }
        Some(sums)
    }

    /// Discards the spans recorded since `take`.
    pub fn discard(&mut self) {
        self.profile.clear();
        self.is_device_time.clear();
        self.moved_bytes.clear();
        self.n_forgotten = 0;
        self.record += 1;
    }

    /// Discards the spans up to the end of the latest pass `pass`; later ones may still get the device's times. No span
    /// may be open.
    pub fn forget_through(&mut self, pass: u32) {
        debug_assert!(self.open.is_empty(), "an open span would be forgotten");
        let last = self.profile.pass.iter().rposition(|&of| of == pass);
        let n = last.map_or(0, |last| last + 1);
        self.profile.forget(n);
        self.is_device_time.drain(..n);
        self.moved_bytes.drain(..n);
        self.n_forgotten += n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: ModuleId = ModuleId(0);
    const OPS: [ModuleId; 2] = [ModuleId(1), ModuleId(2)];

    fn profiler(level: Level) -> Profiler {
        let mut profiler = Profiler::default();
        profiler.set_modules(["layers.0", "in_proj", "out_proj"]);
        profiler.set_level(level);
        profiler
    }

    #[test]
    fn level_off_records_no_spans_and_counts_no_work() {
        let mut profiler = profiler(Level::Off);
        let block = profiler.open_block(BLOCK);
        let op = profiler.open_op(OPS[0]);
        profiler.close(op, || panic!("work is counted for recorded spans only"));
        profiler.close(block, Work::default);
        assert!(profiler.take().is_empty());
    }

    #[test]
    fn the_span_of_an_op_is_a_child_of_its_block() {
        let mut profiler = profiler(Level::Module);
        let block = profiler.open_block(BLOCK);
        let op = profiler.open_op(OPS[0]);
        let work = || Work {
            flops: 512.0,
            weight_bytes: 96.0,
            state_bytes: 32.0,
        };
        profiler.close(op, work);
        profiler.close(block, Work::default);
        let profile = profiler.take();
        assert_eq!(profile.names, ["layers.0", "in_proj"]);
        assert_eq!(profile.parent, [-1, 0]);
        assert_eq!(profile.flops, [0.0, 512.0]);
        assert_eq!(profile.bytes, [0.0, 128.0]);
        assert!(profile.duration_us[0] >= profile.duration_us[1]);
    }

    #[test]
    fn modules_with_the_same_span_name_share_a_name_entry() {
        let mut profiler = Profiler::default();
        profiler.set_modules(["in_proj", "in_proj"]);
        profiler.set_level(Level::Module);
        for module in [0, 1, 0, 7] {
            let op = profiler.open_op(ModuleId(module));
            profiler.close(op, Work::default);
        }
        let profile = profiler.take();
        assert_eq!(profile.names, ["in_proj", "unnamed"]);
        assert_eq!(profile.name, [0, 0, 0, 1]);
    }

    #[test]
    fn device_times_replace_host_times_of_a_span_and_its_ancestors() {
        let mut profiler = profiler(Level::Module);
        let block = profiler.open_block(BLOCK);
        let mut ids = Vec::new();
        for module in OPS {
            let op = profiler.open_op(module);
            ids.push(profiler.innermost().unwrap());
            profiler.close(op, Work::default);
        }
        profiler.close(block, Work::default);
        let time = |at: usize, start_us, end_us| SpanTime {
            span: ids[at],
            start_us,
            end_us,
        };
        profiler.note_device_time(time(0, 100.0, 110.0));
        profiler.note_device_time(time(1, 112.0, 120.0));
        let profile = profiler.take();
        assert_eq!(profile.start_us, [100.0, 100.0, 112.0]);
        assert_eq!(profile.duration_us, [20.0, 10.0, 8.0]);
        profiler.note_device_time(time(0, 1.0, 2.0));
        assert!(profiler.take().is_empty());
    }

    #[test]
    fn the_time_of_a_fused_kernel_is_divided_by_the_bytes_that_its_members_move() {
        let mut profiler = profiler(Level::Module);
        let member = |at: usize, flops, moved_bytes| Member {
            module: OPS[at],
            work: Work {
                flops,
                ..Work::default()
            },
            moved_bytes,
        };
        let members = [member(0, 8.0, 300.0), member(1, 0.0, 100.0)];
        let block = profiler.open_block(BLOCK);
        let mut ids = Vec::new();
        for _ in 0..2 {
            let op = profiler.open_members(&members);
            ids.extend(profiler.innermost());
            profiler.close_members(op, &members);
        }
        let op = profiler.open_op(OPS[0]);
        profiler.close(op, Work::default);
        profiler.close(block, Work::default);
        for (span, start_us, end_us) in [(ids[0], 100.0, 120.0), (ids[1], 130.0, 134.0)] {
            profiler.note_device_time(SpanTime {
                span,
                start_us,
                end_us,
            });
        }
        let profile = profiler.take();
        assert_eq!(profile.fused_with, [-1, 1, 1, 3, 3, -1]);
        assert_eq!(profile.parent, [-1, 0, 0, 0, 0, 0]);
        assert_eq!(profile.start_us[..5], [100.0, 100.0, 115.0, 130.0, 133.0]);
        assert_eq!(profile.duration_us[..5], [34.0, 15.0, 5.0, 3.0, 1.0]);
        assert_eq!(profile.flops, [0.0, 8.0, 0.0, 8.0, 0.0, 0.0]);
    }

    #[test]
    fn block_level_records_no_spans_of_ops() {
        let mut profiler = profiler(Level::Block);
        let block = profiler.open_block(BLOCK);
        let op = profiler.open_op(OPS[0]);
        profiler.close(op, Work::default);
        profiler.close(block, Work::default);
        assert_eq!(profiler.take().len(), 1);
    }
}
