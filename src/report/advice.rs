//! What the figures of a run suggest, and what weakens them, in whole sentences. It stands inside the report, beside
//! the summary whose last two fields it writes. A sentence appears only where the data bear it.

use crate::model::config::BlockKind;
use crate::quant::WeightFormat;
use crate::report::count::{Formats, ModuleWork};
use crate::report::modules;
use crate::report::run::{RecordedLevel, Run};
use crate::report::summary::{Bound, PhaseSummary, Summary, ratio, works};
use crate::report::words::Language;

/// Above this a ceiling can't be one: the rest is the noise of its own measurement.
const ABOVE_CEILING_PERCENT: f64 = 105.0;
/// From here a phase is held by its ceiling, and only less work makes it faster.
const HELD_PERCENT: f64 = 60.0;
/// Weights below this may stay in a processor's last cache from pass to pass.
const CACHED_BYTES: u64 = 64 << 20;
/// What recording, or the difference of runs, may cost without a remark.
const QUIET_PERCENT: f64 = 10.0;

/// The most useful first.
pub fn advice(run: &Run, summary: &Summary, language: Language) -> Vec<String> {
    let mut sentences = Vec::new();
    if run.decode_tokens > 0 {
        sentences.extend(decode(run, summary, language));
    }
    sentences.extend(farthest(summary, language));
    sentences.extend(threads(run, language));
    sentences
}

/// What holds decode, and what fewer bytes would do.
fn decode(run: &Run, summary: &Summary, language: Language) -> Option<String> {
    let decode = &summary.decode;
    // Above its ceiling, a phase has a caution instead.
    let percent = decode
        .percent_of_ceiling
        .filter(|&percent| percent <= ABOVE_CEILING_PERCENT)?;
    let (ceilings, time) = (run.ceilings?, language.time(decode.wall_us.median));
    let percent_text = language.number(percent, 0);
    let values = [
        ("time", &time[..]),
        ("percent", &percent_text),
        ("read", &language.figure(ceilings.read_gb_per_s)),
        ("bytes", &language.bytes(decode.bytes)),
    ];
    if percent < HELD_PERCENT {
        let slowest = decode.types.first()?;
        let share = language.number(slowest.time_percent, 0);
        return Some(language.say(
            "Decode is held neither by memory nor by arithmetic: {time} per token is {percent} % of what the ceilings allow; {type} takes the most, {share} % of the step.",
            "Генерацию не держат ни память, ни арифметика: {time} на токен — это {percent} % от возможного; больше всего, {share} % шага, занимает {type}.",
            &[&values[..], &[("type", &slowest.class), ("share", &share)]].concat(),
        ));
    }
    let mut text = match decode.bound {
        Bound::Memory => language.say(
            "Decode is held by memory: each token reads {bytes}, and {time} is {percent} % of what reading at {read} GB/s allows.",
            "Генерацию держит память: на каждый токен читается {bytes}, и {time} — это {percent} % от возможного при чтении {read} ГБ/с.",
            &values,
        ),
        Bound::Arithmetic => language.say(
            "Decode is held by arithmetic: {time} per token is {percent} % of what the ceilings allow.",
            "Генерацию держит арифметика: {time} на токен — это {percent} % от возможного.",
            &values,
        ),
    };
    let fewer = fewer_bytes(run);
    if decode.bound == Bound::Memory && fewer < 0.95 {
        text.push(' ');
        text.push_str(&language.say(
            "q4 would read {share} % of the bytes.",
            "q4 читал бы {share} % этих байтов.",
            &[("share", &language.number(100.0 * fewer, 0))],
        ));
    }
    Some(text)
}

/// Bytes of a decode step with q4 weights, for one byte of this run's.
fn fewer_bytes(run: &Run) -> f64 {
    let (config, formats) = (run.config(), run.formats());
    let bytes = |weights: WeightFormat| -> f64 {
        let works = works(run, &config, Formats { weights, ..formats }, true);
        works.iter().map(ModuleWork::bytes).sum()
    };
    ratio(bytes(WeightFormat::Q4), bytes(formats.weights))
}

/// The kind of module that would give back the most time at its ceiling.
fn farthest(summary: &Summary, language: Language) -> Option<String> {
    let prefill = lost(&summary.prefill).map(|lost| (lost, true));
    let decode = lost(&summary.decode).map(|lost| (lost, false));
    let ((name, us, allowed_us), is_prefill) = prefill.or(decode)?;
    let phase = match is_prefill {
        true => &summary.prefill,
        false => &summary.decode,
    };
    let share = 100.0 * ratio(us, phase.profiled_us.median);
    let percent = 100.0 * ratio(allowed_us, us);
    let values = [
        ("module", &name[..]),
        ("share", &language.number(share, 0)),
        ("percent", &language.number(percent, 0)),
        ("gain", &language.time(us - allowed_us)),
    ];
    Some(match is_prefill {
        true => language.say(
            "In the prefill {module} is farthest from its ceiling: {share} % of the time at {percent} % of what is possible; {gain} could be gained there.",
            "При чтении запроса дальше всего от потолка {module}: {share} % времени при {percent} % от возможного; там можно выиграть {gain}.",
            &values,
        ),
        false => language.say(
            "In decode {module} is farthest from its ceiling: {share} % of the time at {percent} % of what is possible; {gain} per token could be gained there.",
            "При генерации дальше всего от потолка {module}: {share} % времени при {percent} % от возможного; там можно выиграть {gain} на токен.",
            &values,
        ),
    })
}

/// Name, time and allowed time of the modules of one name with the largest difference.
fn lost(phase: &PhaseSummary) -> Option<(String, f64, f64)> {
    let mut sums: Vec<(&str, f64, f64)> = Vec::new();
    for row in &phase.modules {
        // Only leaves: what a block loses is lost inside it.
        let Some(percent) = row.percent_of_ceiling.filter(|_| row.us == row.self_us) else {
            continue;
        };
        let (name, allowed_us) = (modules::leaf(&row.path), row.us * percent / 100.0);
        match sums.iter_mut().find(|sum| sum.0 == name) {
            Some(sum) => (sum.1, sum.2) = (sum.1 + row.us, sum.2 + allowed_us),
            None => sums.push((name, row.us, allowed_us)),
        }
    }
    let most = sums
        .into_iter()
        .max_by(|a, b| (a.1 - a.2).total_cmp(&(b.1 - b.2)));
    most.filter(|(_, us, allowed_us)| us > allowed_us)
        .map(|(name, us, allowed_us)| (name.into(), us, allowed_us))
}

fn threads(run: &Run, language: Language) -> Option<String> {
    let conditions = &run.conditions;
    (conditions.threads == 1 && conditions.isolated == Some(false)).then(|| {
        language.say(
            "One thread computed, because the page is not isolated: on a host that sends the isolation headers the other cores would help.",
            "Считал один поток, потому что страница не изолирована: на сервере с заголовками изоляции помогли бы остальные ядра.",
            &[],
        )
    })
}

/// What a reader should know before believing the figures.
pub fn cautions(run: &Run, summary: &Summary, language: Language) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut say = |english: &str, russian: &str, values: &[(&str, &str)]| {
        sentences.push(language.say(english, russian, values));
    };
    let phases = [
        (&summary.prefill, language.word("Prefill", "Чтение запроса")),
        (&summary.decode, language.word("Decode", "Генерация")),
    ];
    if run.conditions.hidden_ms > 0.0 {
        let time = language.time(run.conditions.hidden_ms * 1e3);
        say(
            "The tab was in the background for {time}: browsers slow such tabs down.",
            "Вкладка {time} была в фоне: браузеры замедляют такие вкладки.",
            &[("time", &time)],
        );
    }
    for (phase, name) in phases {
        let percent = phase.percent_of_ceiling.unwrap_or(0.0);
        if percent <= ABOVE_CEILING_PERCENT {
            continue;
        }
        let values = [
            ("phase", name),
            ("percent", &language.number(percent, 0)),
            ("bytes", &language.bytes(run.memory.weights_bytes as f64)),
        ];
        if run.memory.weights_bytes < CACHED_BYTES && phase.bound == Bound::Memory {
            say(
                "{phase}: {percent} % of the ceiling. The ceiling is that of memory, and {bytes} of weights may stay in a cache, which is faster.",
                "{phase}: {percent} % от потолка. Потолок измерен по памяти, а {bytes} весов могут оставаться в кэше, который быстрее.",
                &values,
            );
        } else {
            say(
                "{phase}: {percent} % of the ceiling, so the ceiling was measured too low. Measure again with nothing else running.",
                "{phase}: {percent} % от потолка, значит, потолок измерен слишком низко. Повторите измерение, закрыв остальное.",
                &values,
            );
        }
    }
    if run.runs.len() < 3 {
        let runs = run.runs.len().to_string();
        say(
            "Measured runs: {runs}. With fewer than three, the spread says little.",
            "Измеренных прогонов: {runs}. При числе меньше трёх разброс мало о чём говорит.",
            &[("runs", &runs)],
        );
    }
    for (phase, name) in phases {
        let wide = 100.0 * ratio(phase.wall_us.p95 - phase.wall_us.p5, phase.wall_us.median);
        if wide > 2.0 * QUIET_PERCENT {
            say(
                "{phase}: the times lie {percent} % apart (5th to 95th percentile): something else used the machine, or its clock changed.",
                "{phase}: времена расходятся на {percent} % (5–95-й процентили): машину занимало что-то ещё, или менялась её частота.",
                &[("phase", name), ("percent", &language.number(wide, 0))],
            );
        }
        // Within the spread of the runs it can't be told from what disturbed them.
        let apart_us = phase.wall_us.p95 - phase.wall_us.p5;
        let told = phase.profiled_us.median - phase.wall_us.median > apart_us;
        if phase.recording_percent > QUIET_PERCENT && told {
            say(
                "{phase}: recording cost {percent} %. Times of modules contain it; those of whole passes don't.",
                "{phase}: запись стоила {percent} %. Она входит во время модулей, но не во время целых проходов.",
                &[
                    ("phase", name),
                    ("percent", &language.number(phase.recording_percent, 0)),
                ],
            );
        }
    }
    let plain = summary
        .decode
        .blocks
        .iter()
        .filter(|row| row.kind == BlockKind::Mamba);
    let shortest_us = plain.map(|row| row.us.median).fold(f64::INFINITY, f64::min);
    let step_us = run.timer.resolution_us;
    if shortest_us.is_finite() && step_us > shortest_us * QUIET_PERCENT / 100.0 {
        say(
            "The clock moves in steps of {step}, and a block takes {block} per token: single times are coarse, means over many steps less so.",
            "Часы идут шагами по {step}, а блок занимает {block} на токен: отдельные времена грубы, средние по многим шагам точнее.",
            &[
                ("step", &language.time(step_us)),
                ("block", &language.time(shortest_us)),
            ],
        );
    }
    if run.conditions.level == RecordedLevel::Block
        && summary
            .prefill
            .blocks
            .iter()
            .any(|row| row.kind == BlockKind::Hybrid)
    {
        say(
            "Only blocks were recorded: the attention and the FFN of a hybrid block are one time, shown as other.",
            "Записаны только блоки: внимание и FFN гибридного блока — одно время, показанное как прочее.",
            &[],
        );
    }
    if run.ceilings.is_none() {
        say(
            "No ceilings were measured, so no percentage of them can be given.",
            "Потолки не измерены, поэтому доли от них нет.",
            &[],
        );
    }
    sentences
}
