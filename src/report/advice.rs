//! Advice on how to make a run faster, and cautions about its figures, derived from its summary. Each sentence is given
//! only if the data support it.

use crate::base::quant::WeightFormat;
use crate::model::config::BlockKind;
use crate::report::count::{Formats, ModuleWork};
use crate::report::run::{RecordedLevel, Run};
use crate::report::sentence::{Sentence, SentenceValue};
use crate::report::summary::{PhaseSummary, Summary, ratio, works};
use crate::report::verdict::{Roof, Verdict};

/// Smaller weights may stay in the last-level cache of a CPU from pass to pass.
const CACHED_BYTES: u64 = 64 << 20;
/// No caution if recording costs at most this much, and if runs differ by at most twice as much.
const QUIET_PERCENT: f64 = 10.0;
/// Fewer runs than this give no useful spread.
const MIN_RUNS: usize = 3;
/// q4 is suggested only if it saves more than a twentieth of the bytes.
const WORTHWHILE_SHARE: f64 = 0.95;

/// Advice, the most useful first.
pub fn advice(run: &Run, summary: &Summary) -> Vec<Sentence> {
    let mut sentences = Vec::new();
    if run.decode_tokens > 0 {
        sentences.extend(decode(run, summary));
    }
    sentences.extend(farthest(summary));
    sentences.extend(threads(run));
    sentences
}

/// What limits decode, and what fewer bytes would change. A phase above its ceiling gets a caution instead.
fn decode(run: &Run, summary: &Summary) -> Option<Sentence> {
    let decode = &summary.decode;
    let (percent, ceilings) = (decode.percent_of_ceiling?, run.ceilings?);
    let mut values = vec![
        ("time", SentenceValue::Us(decode.wall_us.median)),
        ("percent", SentenceValue::Whole(percent)),
    ];
    let key = match decode.verdict {
        Verdict::AboveCeiling | Verdict::NoCeilings => return None,
        Verdict::HeldByArithmetic => "advice.decode.arithmetic",
        Verdict::NearestArithmetic | Verdict::NearestMemory => {
            let slowest = decode.types.first()?;
            values.extend([
                ("type", SentenceValue::Text(slowest.class.clone())),
                ("share", SentenceValue::Whole(slowest.time_percent)),
            ]);
            "advice.decode.neither"
        }
        Verdict::HeldByMemory => {
            values.extend([
                ("read", SentenceValue::Figure(ceilings.read_gb_per_s)),
                ("bytes", SentenceValue::Bytes(decode.bytes)),
            ]);
            let share = q4_share(run);
            if share < WORTHWHILE_SHARE {
                values.push(("share", SentenceValue::Whole(100.0 * share)));
                "advice.decode.memory_q4"
            } else {
                "advice.decode.memory"
            }
        }
    };
    Some(Sentence::new(key, values))
}

/// Bytes of a decode step with q4 weights relative to this run's weights.
fn q4_share(run: &Run) -> f64 {
    let (config, formats) = (run.config(), run.formats());
    let bytes = |weights: WeightFormat| -> f64 {
        let works = works(run, &config, Formats { weights, ..formats }, true);
        works.iter().map(ModuleWork::bytes).sum()
    };
    ratio(bytes(WeightFormat::Q4), bytes(formats.weights))
}

/// The module name whose calls, taken together, would gain the most time at their ceiling.
fn farthest(summary: &Summary) -> Option<Sentence> {
    let prefill = most_lost(&summary.prefill).map(|lost| (lost, true));
    let decode = most_lost(&summary.decode).map(|lost| (lost, false));
    let (lost, is_prefill) = prefill.or(decode)?;
    let (key, phase) = match is_prefill {
        true => ("advice.farthest.prefill", &summary.prefill),
        false => ("advice.farthest.decode", &summary.decode),
    };
    let share = 100.0 * ratio(lost.us, phase.profiled_us.median);
    let percent = 100.0 * ratio(lost.allowed_us, lost.us);
    Some(Sentence::new(
        key,
        [
            ("module", SentenceValue::Text(lost.name)),
            ("share", SentenceValue::Whole(share)),
            ("percent", SentenceValue::Whole(percent)),
            ("gain", SentenceValue::Us(lost.us - lost.allowed_us)),
        ],
    ))
}

struct Lost {
    name: String,
    us: f64,
    allowed_us: f64,
}

/// Sums the leaf modules by name, and returns the sum with the most time above its ceiling's.
fn most_lost(phase: &PhaseSummary) -> Option<Lost> {
    let mut sums: Vec<Lost> = Vec::new();
    for row in &phase.modules {
        // Only leaves: a module around them would count the same time again.
        let Some(percent) = row.percent_of_ceiling.filter(|_| row.us == row.self_us) else {
            continue;
        };
        let (name, allowed_us) = (&row.name, row.us * percent / 100.0);
        match sums.iter_mut().find(|sum| sum.name == *name) {
            Some(sum) => (sum.us, sum.allowed_us) = (sum.us + row.us, sum.allowed_us + allowed_us),
            None => sums.push(Lost {
                name: name.clone(),
                us: row.us,
                allowed_us,
            }),
        }
    }
    let gain = |lost: &Lost| lost.us - lost.allowed_us;
    let most = sums
        .into_iter()
        .max_by(|a, b| gain(a).total_cmp(&gain(b)))?;
    (gain(&most) > 0.0).then_some(most)
}

fn threads(run: &Run) -> Option<Sentence> {
    let conditions = &run.conditions;
    (conditions.threads == 1 && conditions.isolated == Some(false))
        .then(|| Sentence::new("advice.threads", []))
}

/// Reasons to distrust figures of the run.
pub fn cautions(run: &Run, summary: &Summary) -> Vec<Sentence> {
    let phases = [
        (
            &summary.prefill,
            SentenceValue::Word("advice.phase.prefill"),
        ),
        (&summary.decode, SentenceValue::Word("advice.phase.decode")),
    ];
    let mut sentences = Vec::new();
    if run.conditions.hidden_ms > 0.0 {
        let time = SentenceValue::Us(run.conditions.hidden_ms * 1e3);
        sentences.push(Sentence::new("advice.caution.hidden", [("time", time)]));
    }
    for (phase, name) in &phases {
        sentences.extend(above_ceiling(run, phase, name));
    }
    let n_runs = run.runs.len();
    if n_runs < MIN_RUNS {
        let runs = SentenceValue::Whole(n_runs as f64);
        sentences.push(Sentence::new("advice.caution.few_runs", [("runs", runs)]));
    }
    let step_us = run.timer.resolution_us;
    for (phase, name) in &phases {
        // Differences of a few clock steps are caused by the clock.
        if step_us <= phase.wall_us.median * QUIET_PERCENT / 100.0 {
            sentences.extend(spread_or_recording(phase, name));
        }
    }
    sentences.extend(coarse_clock(run, summary));
    for ((_, name), is_decode) in phases.iter().zip([false, true]) {
        sentences.extend(fused(run, name, is_decode));
    }
    if run.conditions.level == RecordedLevel::Block
        && run.model.config.kinds.contains(&BlockKind::Hybrid)
    {
        sentences.push(Sentence::new("advice.caution.blocks_only", []));
    }
    if run.ceilings.is_none() {
        sentences.push(Sentence::new("advice.caution.no_ceilings", []));
    }
    sentences
}

fn above_ceiling(run: &Run, phase: &PhaseSummary, name: &SentenceValue) -> Option<Sentence> {
    let percent = phase.percent_of_ceiling?;
    if phase.verdict != Verdict::AboveCeiling {
        return None;
    }
    let mut values = vec![
        ("phase", name.clone()),
        ("percent", SentenceValue::Whole(percent)),
    ];
    if run.memory.weights_bytes < CACHED_BYTES && phase.roof == Roof::Memory {
        values.push((
            "bytes",
            SentenceValue::Bytes(run.memory.weights_bytes as f64),
        ));
        return Some(Sentence::new("advice.caution.cached", values));
    }
    Some(Sentence::new("advice.caution.above_ceiling", values))
}

fn spread_or_recording(phase: &PhaseSummary, name: &SentenceValue) -> Vec<Sentence> {
    let apart_us = phase.wall_us.p95 - phase.wall_us.p5;
    let spread_percent = 100.0 * ratio(apart_us, phase.wall_us.median);
    let sentence = |key, percent| {
        let values = [
            ("phase", name.clone()),
            ("percent", SentenceValue::Whole(percent)),
        ];
        Sentence::new(key, values)
    };
    let mut sentences = Vec::new();
    if spread_percent > 2.0 * QUIET_PERCENT {
        sentences.push(sentence("advice.caution.spread", spread_percent));
    }
    if phase.recording_percent > QUIET_PERCENT && phase.is_recording_measurable {
        sentences.push(sentence(
            "advice.caution.recording",
            phase.recording_percent,
        ));
    }
    sentences
}

/// The share of the time whose division among modules is an estimate.
fn fused(run: &Run, name: &SentenceValue, is_decode: bool) -> Option<Sentence> {
    let (mut fused_us, mut all_us) = (0.0, 0.0);
    for spans in run.runs.iter().map(|run| &run.spans) {
        for row in (0..spans.len()).filter(|&row| (spans.pass[row] > 0) == is_decode) {
            if spans.parent[row] < 0 {
                all_us += spans.duration_us[row];
            }
            if spans.is_fused(row) {
                fused_us += spans.duration_us[row];
            }
        }
    }
    let percent = SentenceValue::Whole(100.0 * ratio(fused_us, all_us));
    (fused_us > 0.0).then(|| {
        let values = [("phase", name.clone()), ("percent", percent)];
        Sentence::new("advice.caution.fused", values)
    })
}

fn coarse_clock(run: &Run, summary: &Summary) -> Option<Sentence> {
    let is_decoded = run.decode_tokens > 0;
    let phase = if is_decoded {
        &summary.decode
    } else {
        &summary.prefill
    };
    let plain = (phase.blocks.iter()).filter(|row| row.kind == BlockKind::Mamba);
    let shortest_us = plain.map(|row| row.us.median).fold(f64::INFINITY, f64::min);
    let step_us = run.timer.resolution_us;
    let step = ("step", SentenceValue::Us(step_us));
    // A block then takes no time or one clock step, at random.
    if shortest_us.is_finite() && step_us > shortest_us {
        return Some(Sentence::new("advice.caution.no_block_times", [step]));
    }
    (is_decoded && step_us > shortest_us * QUIET_PERCENT / 100.0).then(|| {
        let block = ("block", SentenceValue::Us(shortest_us));
        Sentence::new("advice.caution.coarse_clock", [step, block])
    })
}
