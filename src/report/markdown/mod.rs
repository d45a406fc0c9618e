//! The report for people: the reference report's headings in its order, in Russian its own words, so that two reports
//! can be laid side by side; after them what that report did not have. It stands inside the report. Numbers are written
//! with a point in both languages, as the reference writes them.

use std::fmt::Write;

use crate::model::config::BlockKind;
use crate::report::reference::{self, ReferenceKind};
use crate::report::run::{RecordedLevel, Run};
use crate::report::summary::{Bound, PhaseSummary, Spread, Summary, ratio};
use crate::report::words::{Language, digits, grouped};

const SLOWEST: usize = 20;
/// Characters of the longest bar.
const BAR: f64 = 40.0;

pub fn write(run: &Run, summary: &Summary, language: Language) -> String {
    let page = Page {
        run,
        summary,
        language,
    };
    let mut text = String::new();
    page.general(&mut text);
    page.charts(&mut text);
    page.one_block(&mut text);
    page.blocks(&mut text);
    page.types(&mut text);
    page.slowest(&mut text);
    page.conditions(&mut text);
    page.spread(&mut text);
    page.ceilings(&mut text);
    page.decode(&mut text);
    page.memory(&mut text);
    page.sentences(&mut text);
    page.reference(&mut text);
    text
}

struct Page<'a> {
    run: &'a Run,
    summary: &'a Summary,
    language: Language,
}

/// A line of the report. Writing to a string can't fail.
macro_rules! line {
    ($text:expr, $($argument:tt)*) => {
        writeln!($text, $($argument)*).expect("a string takes any text")
    };
}

impl Page<'_> {
    fn word(&self, english: &'static str, russian: &'static str) -> &'static str {
        self.language.word(english, russian)
    }

    fn title(&self, text: &mut String, english: &'static str, russian: &'static str) {
        line!(text, "\n## {}", self.word(english, russian));
    }

    fn general(&self, text: &mut String) {
        let (general, phase) = (&self.summary.general, &self.summary.prefill);
        let w = |english, russian| self.word(english, russian);
        line!(text, "# {}", plain(&general.model));
        self.title(text, "General parameters", "Общие параметры");
        let ms = general.forward_us.median / 1e3;
        line!(
            text,
            "- {}: {ms:.2} ms",
            w("Forward-pass time", "Время forward-pass")
        );
        let hidden = w("Hidden size", "Размер скрытого пространства");
        line!(text, "- {hidden}: {}", general.hidden_size);
        line!(
            text,
            "- {}: {}",
            w("Vocabulary size", "Размер словаря"),
            general.vocab_size
        );
        let length = w("Input sequence length", "Длина входной последовательности");
        line!(text, "- {length}: {}", general.prompt_tokens);
        line!(
            text,
            "- {}: {}",
            w("Number of blocks", "Количество блоков"),
            general.n_blocks
        );
        let parameters = w("Number of parameters", "Количество параметров");
        line!(text, "- {parameters}: {}", grouped(general.parameters));

        self.title(
            text,
            "FLOPs (estimated from the trace)",
            "FLOPs (оценка по трейсу)",
        );
        let kinds = phase.flops_by_kind;
        for (name, flops) in [
            ("Linear + Conv1d", kinds.linear + kinds.conv1d),
            ("Attention kernel (QK^T + AV)", kinds.attention),
            ("Mamba SSM", kinds.ssm),
        ] {
            let share = 100.0 * ratio(flops, phase.flops);
            line!(text, "- {name}: {} GFLOPs ({share:.1}%)", giga(flops, 2));
        }
        line!(
            text,
            "- {}: {} GFLOPs",
            w("Total", "Итого"),
            giga(phase.flops, 2)
        );
        let rate = w("Effective performance", "Эффективная производительность");
        line!(text, "- {rate}: {} TFLOPs", fixed(phase.tflops, 2));
    }

    fn charts(&self, text: &mut String) {
        self.title(text, "Charts", "Графики");
        let phase = &self.summary.prefill;
        let caption = self.word("Time by block, ms", "Время по блокам, мс");
        let bars = phase.blocks.iter().map(|row| {
            let mark = if row.kind == BlockKind::Hybrid {
                '◆'
            } else {
                ' '
            };
            (format!("{:>3} {mark}", row.block), row.us.median)
        });
        chart(text, caption, bars.collect());
        let caption = self.word(
            "Own time by module type, ms",
            "Собственное время по типам модулей, мс",
        );
        let bars = phase.types.iter().filter(|row| row.self_us > 0.0);
        chart(
            text,
            caption,
            bars.map(|row| (row.class.clone(), row.self_us)).collect(),
        );
    }

    /// The first hybrid block, which has everything; the first of all where there is none.
    fn one_block(&self, text: &mut String) {
        self.title(
            text,
            "Example information on one block",
            "Пример информации по одному блоку",
        );
        let w = |english, russian| self.word(english, russian);
        let blocks = &self.summary.prefill.blocks;
        let hybrid = blocks.iter().find(|row| row.kind == BlockKind::Hybrid);
        let Some(row) = hybrid.or(blocks.first()) else {
            return;
        };
        let is_hybrid = row.kind == BlockKind::Hybrid;
        let truth = |holds: bool| if holds { "True" } else { "False" };
        let shapes = &self.run.model.config;
        let ffn = match is_hybrid {
            true => shapes.intermediate_size.to_string(),
            false => "None".into(),
        };
        line!(
            text,
            "- {}: {}",
            w("Block number", "Номер блока"),
            row.block
        );
        line!(
            text,
            "- {}: True",
            w("Has a Mamba block", "Есть Mamba-блок")
        );
        line!(
            text,
            "- {}: {}",
            w("Has a Mamba decoder", "Есть Mamba decoder"),
            truth(is_hybrid)
        );
        let shared = w("Has a shared Transformer", "Есть shared Transformer");
        line!(text, "- {shared}: {}", truth(is_hybrid));
        let hidden = w("Hidden size", "Размер скрытого пространства");
        line!(text, "- {hidden}: {}", shapes.hidden_size);
        let inner = w(
            "Inner size of the FFN (if any)",
            "Размер внутреннего пространства FFN (если есть)",
        );
        line!(text, "- {inner}: {ffn}");
        let parts = row.flops.parts;
        line!(text, "- FLOPs Attention: {} GF", giga(parts.attention, 3));
        line!(text, "- FLOPs FFN: {} GF", giga(parts.ffn, 3));
        line!(text, "- FLOPs Mamba: {} GF", giga(parts.mamba, 3));
        line!(text, "- FLOPs linear: {} GF", giga(parts.other, 3));
        if let (Some(shared), Some(call)) = (row.shared_block, row.call) {
            let name = w("Shared block and its call", "Общий блок и номер его вызова");
            line!(text, "- {name}: {shared}, {call}");
        }
        let times = row.parts_us;
        let name = w(
            "Time of Mamba, attention, FFN, other",
            "Время Mamba, внимания, FFN, прочего",
        );
        line!(
            text,
            "- {name}: {}, {}, {}, {} ms",
            ms(times.mamba),
            ms(times.attention),
            ms(times.ffn),
            ms(times.other)
        );
    }

    fn blocks(&self, text: &mut String) {
        let w = |english, russian| self.word(english, russian);
        line!(
            text,
            "\n### {}",
            w("Efficiency by block", "Эффективность по блокам")
        );
        line!(
            text,
            "| {} | Mamba (GF) | Attention (GF) | FFN (GF) | {} | {} | p5–p95 ({}) | {} | {} |",
            w("Block number", "Номер блока"),
            w("Efficiency (TFLOPs)", "Эффективность (TFLOPs)"),
            w("Time (ms)", "Время (мс)"),
            w("ms", "мс"),
            w("GB/s", "ГБ/с"),
            w("% of the ceiling", "% от потолка"),
        );
        line!(text, "|---|---|---|---|---|---|---|---|---|");
        for row in &self.summary.prefill.blocks {
            let parts = row.flops.parts;
            line!(
                text,
                "| {} | {} | {} | {} | {} | {} | {}–{} | {} | {} |",
                row.block,
                giga(parts.mamba, 3),
                giga(parts.attention, 3),
                giga(parts.ffn, 3),
                fixed(row.tflops, 2),
                ms(row.us.median),
                ms(row.us.p5),
                ms(row.us.p95),
                fixed(row.gb_per_s, 1),
                percent(row.percent_of_ceiling),
            );
        }
    }

    fn types(&self, text: &mut String) {
        self.title(
            text,
            "Summary of time by module type",
            "Сводная таблица времени по типам модулей",
        );
        let w = |english, russian| self.word(english, russian);
        line!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} |",
            w("Type", "Тип"),
            w("Count", "Кол-во"),
            w("Total time (ms)", "Суммарное время (мс)"),
            w("Mean (ms)", "Среднее (мс)"),
            w("Own time (ms)", "Собственное время (мс)"),
            w("% of time", "% времени"),
            "% FLOPs",
        );
        line!(
            text,
            "|-----|--------|------------------------|---------------|---|---|---|"
        );
        let phase = &self.summary.prefill;
        for row in &phase.types {
            line!(
                text,
                "| {} | {} | {} | {} | {} | {:.1} | {:.1} |",
                plain(&row.class),
                row.count,
                ms(row.us),
                ms(row.mean_us),
                ms(row.self_us),
                row.time_percent,
                row.flops_percent,
            );
        }
        line!(
            text,
            "| {} |  | {} |  | {} | {:.1} |  |",
            w("not in any span", "вне записанных отрезков"),
            ms(phase.untracked_us),
            ms(phase.untracked_us),
            100.0 * ratio(phase.untracked_us, phase.profiled_us.median),
        );
        line!(
            text,
            "\n{}",
            w(
                "Total times contain the modules inside; own times don't, and with the last row they sum to the forward pass with recording.",
                "Суммарное время включает вложенные модули, собственное — нет; вместе с последней строкой собственные времена дают forward-pass с записью.",
            )
        );
    }

    fn slowest(&self, text: &mut String) {
        line!(
            text,
            "\n## {} ({SLOWEST})",
            self.word("Slowest modules", "Самые медленные модули")
        );
        for row in self.summary.prefill.modules.iter().take(SLOWEST) {
            let path = row.path.replace('`', "'");
            line!(
                text,
                "- {} ms — `{path}` ({})",
                ms(row.self_us),
                plain(&row.class)
            );
        }
    }

    fn conditions(&self, text: &mut String) {
        self.title(text, "Conditions", "Условия измерения");
        let w = |english, russian| self.word(english, russian);
        let (general, conditions) = (&self.summary.general, &self.run.conditions);
        let isolated = match conditions.isolated {
            None => "",
            Some(true) => w(", isolated", ", изолирована"),
            Some(false) => w(", not isolated", ", не изолирована"),
        };
        for (name, value) in [
            (w("Run", "Прогон"), plain(&self.run.label)),
            (w("Date", "Дата"), format!("{} UTC", date(self.run.made_ms))),
            (
                w("Backend", "Бэкенд"),
                format!(
                    "{}, {}{isolated}",
                    plain(&general.backend),
                    plain(&general.host)
                ),
            ),
            (
                w("Weights, threads, context", "Веса, потоки, контекст"),
                format!(
                    "{}, {}, {}",
                    general.weights, general.threads, general.context
                ),
            ),
            (
                w("Runs after warm-up", "Прогонов после прогрева"),
                format!("{} ({})", general.runs, general.warmup),
            ),
            (
                w("Recorded", "Записано"),
                match conditions.level {
                    RecordedLevel::Module => w("every op", "каждая операция").into(),
                    RecordedLevel::Block => w("blocks only", "только блоки").into(),
                },
            ),
            (
                w("Clock and its step", "Часы и их шаг"),
                format!(
                    "{}, {} µs",
                    plain(&general.timer_source),
                    figure(general.timer_resolution_us)
                ),
            ),
        ] {
            line!(text, "- {name}: {value}");
        }
        line!(
            text,
            "\n{}",
            w(
                "The forward pass goes from the token ids to the first token: embedding, all blocks, the logits of the last token and its choice. A multiplication with its addition is two FLOPs; norms, activations and biases are not counted; a shared block is counted at each of its calls, under the block that calls it. Module times are means over the middle half of the passes, in proportion to the median pass.",
                "Forward-pass — от номеров токенов до первого нового токена: эмбеддинги, все блоки, логиты последнего токена и его выбор. Умножение со сложением — два FLOP; нормы, активации и смещения не считаются; общий блок считается при каждом вызове, в том блоке, который его вызвал. Времена модулей — средние по средней половине проходов, приведённые к медианному проходу.",
            )
        );
    }

    fn spread(&self, text: &mut String) {
        self.title(
            text,
            "Spread and cost of recording",
            "Разброс и стоимость записи",
        );
        let w = |english, russian| self.word(english, russian);
        line!(
            text,
            "| | {} | p5–p95 ({}) | n | {} | {} |",
            w("Median (ms)", "Медиана (мс)"),
            w("ms", "мс"),
            w("With recording (ms)", "С записью (мс)"),
            w("Cost (%)", "Стоимость (%)"),
        );
        line!(text, "|---|---|---|---|---|---|");
        for (name, phase) in self.phases() {
            let Spread { median, p5, p95, n } = phase.wall_us;
            line!(
                text,
                "| {name} | {} | {}–{} | {n} | {} | {:.1} |",
                ms(median),
                ms(p5),
                ms(p95),
                ms(phase.profiled_us.median),
                phase.recording_percent,
            );
        }
    }

    fn phases(&self) -> Vec<(&'static str, &PhaseSummary)> {
        let mut phases = vec![(
            self.word("prefill", "чтение запроса"),
            &self.summary.prefill,
        )];
        if self.run.decode_tokens > 0 {
            let name = self.word("decode, per token", "генерация, на токен");
            phases.push((name, &self.summary.decode));
        }
        phases
    }

    fn ceilings(&self, text: &mut String) {
        self.title(text, "Ceilings", "Потолки");
        let w = |english, russian| self.word(english, russian);
        let Some(c) = self.summary.ceilings else {
            line!(text, "{}", w("Not measured.", "Не измерены."));
            return;
        };
        line!(
            text,
            "- int8 {}, int16 {}, f32 {} GFLOP/s; {} {} GB/s ({}: {})",
            figure(2.0 * c.int8_gmacs_per_s),
            figure(2.0 * c.int16_gmacs_per_s),
            figure(2.0 * c.f32_gmacs_per_s),
            w("reading", "чтение"),
            figure(c.read_gb_per_s),
            w("threads", "потоков"),
            c.threads,
        );
        for (name, phase) in self.phases() {
            let bound = match phase.bound {
                Bound::Arithmetic => w("arithmetic", "арифметика"),
                Bound::Memory => w("memory", "память"),
            };
            line!(
                text,
                "- {name}: {} GFLOP, {} MB, {} FLOP/B, {} GFLOP/s, {} GB/s; {}: {bound}; {} % {}",
                giga(phase.flops, 3),
                figure(phase.bytes / 1e6),
                figure(phase.intensity),
                figure(1e3 * phase.tflops),
                figure(phase.gb_per_s),
                w("held by", "держит"),
                percent(phase.percent_of_ceiling),
                w("of the ceiling", "от потолка"),
            );
        }
    }

    fn decode(&self, text: &mut String) {
        if self.run.decode_tokens == 0 {
            return;
        }
        self.title(text, "Decode", "Генерация (decode)");
        let w = |english, russian| self.word(english, russian);
        let phase = &self.summary.decode;
        line!(
            text,
            "- {}: {} ms ({} {})",
            w("Per token", "На токен"),
            ms(phase.wall_us.median),
            figure(1e6 * ratio(1.0, phase.wall_us.median)),
            w("tokens/s", "токенов/с"),
        );
        line!(
            text,
            "\n| {} | {} | {} | {} | % FLOPs |",
            w("Type", "Тип"),
            w("Count", "Кол-во"),
            w("Own time (ms)", "Собственное время (мс)"),
            w("% of time", "% времени"),
        );
        line!(text, "|---|---|---|---|---|");
        for row in phase.types.iter().filter(|row| row.self_us > 0.0) {
            line!(
                text,
                "| {} | {} | {} | {:.1} | {:.1} |",
                plain(&row.class),
                row.count,
                ms(row.self_us),
                row.time_percent,
                row.flops_percent,
            );
        }
    }

    fn memory(&self, text: &mut String) {
        self.title(text, "Memory", "Память");
        let w = |english, russian| self.word(english, russian);
        let memory = &self.run.memory;
        let mb = |bytes: u64| figure(bytes as f64 / 1e6);
        for (name, value) in [
            (
                w(
                    "Weights, of which shared blocks",
                    "Веса, из них общие блоки",
                ),
                format!(
                    "{} MB, {} MB",
                    mb(memory.weights_bytes),
                    mb(memory.shared_bytes)
                ),
            ),
            (
                w("SSM and convolution states", "Состояния SSM и свёртки"),
                format!(
                    "{} MB, {} MB",
                    mb(memory.ssm_state_bytes),
                    mb(memory.conv_state_bytes)
                ),
            ),
            (
                w("Keys and values, per token", "Ключи и значения, на токен"),
                format!("{} B", grouped(memory.kv_bytes_per_token)),
            ),
        ] {
            line!(text, "- {name}: {value}");
        }
        if let Some(bytes) = memory.process_bytes {
            line!(
                text,
                "- {}: {} MB",
                w("The whole process", "Весь процесс"),
                mb(bytes)
            );
        }
    }

    fn sentences(&self, text: &mut String) {
        for (english, russian, sentences) in [
            ("What to do next", "Что дальше", &self.summary.advice),
            ("Cautions", "Оговорки", &self.summary.cautions),
        ] {
            if sentences.is_empty() {
                continue;
            }
            self.title(text, english, russian);
            for sentence in sentences {
                line!(text, "- {}", plain(sentence));
            }
        }
    }

    fn reference(&self, text: &mut String) {
        self.title(text, "The reference report", "Опорный отчёт");
        let [published, recomputed] = [ReferenceKind::Published, ReferenceKind::Recomputed]
            .map(|kind| reference::report(kind, self.language));
        line!(text, "{}\n", published.explanation);
        let w = |english, russian| self.word(english, russian);
        line!(
            text,
            "| {} | {} | {} |",
            published.model,
            w("published", "опубликовано"),
            w("recomputed", "пересчитано"),
        );
        line!(text, "|---|---|---|");
        line!(
            text,
            "| {} | {} | {} |",
            w("Parameters", "Параметры"),
            grouped(published.parameters),
            grouped(recomputed.parameters),
        );
        line!(
            text,
            "| GFLOPs | {:.2} | {:.3} |",
            published.flops / 1e9,
            recomputed.flops / 1e9
        );
        line!(
            text,
            "| TFLOPs | {:.2} | {:.4} |",
            published.tflops,
            recomputed.tflops
        );
    }
}

/// Bars of text, the longest for the largest value.
fn chart(text: &mut String, caption: &str, bars: Vec<(String, f64)>) {
    let most = bars.iter().map(|(_, us)| *us).fold(0.0, f64::max);
    let width = bars
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    line!(text, "\n{caption}\n\n```text");
    for (name, us) in bars {
        let bar = "█".repeat((BAR * ratio(us, most)).round() as usize);
        let name = name.replace('`', "'");
        line!(text, "{name:<width$} {bar} {}", ms(us));
    }
    line!(text, "```");
}

/// Microseconds as milliseconds, with the reference's three digits or as many as a short time needs.
fn ms(us: f64) -> String {
    fixed(us / 1e3, 3)
}

/// Billions, likewise.
fn giga(number: f64, places: usize) -> String {
    fixed(number / 1e9, places)
}

/// `places` digits after the point; more where they would leave fewer than two significant ones.
fn fixed(value: f64, places: usize) -> String {
    let places = if value == 0.0 {
        places
    } else {
        places.max(digits(value).saturating_sub(1))
    };
    format!("{value:.places$}")
}

fn figure(value: f64) -> String {
    let places = digits(value);
    format!("{value:.places$}")
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "–".into(), |value| format!("{value:.0}"))
}

/// Text from a file or a browser, without what Markdown would take for its own.
fn plain(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if "|<>`*[]\\".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Year, month, day, hours and minutes of a time since 1970, by the Gregorian calendar.
fn date(made_ms: f64) -> String {
    let minutes = (made_ms / 6e4) as i64;
    let (days, minute) = (minutes.div_euclid(1440), minutes.rem_euclid(1440));
    // Years begin in March here, so that the leap day is the last of one.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}",
        minute / 60,
        minute % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (ms, text) in [
            (0.0, "1970-01-01 00:00"),
            (951_782_400_000.0, "2000-02-29 00:00"),
            (1_795_564_740_000.0, "2026-11-24 23:59"),
        ] {
            assert_eq!(date(ms), text);
        }
    }

    #[test]
    fn short_times_keep_two_digits() {
        assert_eq!(ms(7_387_660.0), "7387.660");
        assert_eq!(ms(0.28), "0.00028");
        assert_eq!(ms(0.0), "0.000");
    }
}
