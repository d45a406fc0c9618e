//! The export formats: Markdown, CSV, trace and JSON.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use zamba2::ops::device::KernelChoice;
use zamba2::report::run::{RecordedLevel, Run};
use zamba2::report::summary::summarise;
use zamba2::report::{Format, export};
use zamba2::words::Language;

use super::{HYBRID, measured};

#[test]
fn a_russian_report_has_no_english_units_and_headings() {
    let run = measured(HYBRID, RecordedLevel::Module, 20, 2, 2);
    let text = export(&run, Format::Markdown, Language::Ru);
    for line in text.lines() {
        // Names and paths are the checkpoint's.
        let words = line.split([' ', '(', ')', ',']);
        let english = [
            "ms", "s", "µs", "B", "MB", "GB", "GB/s", "True", "False", "None",
        ];
        let found: Vec<&str> = words.filter(|word| english.contains(word)).collect();
        assert!(found.is_empty(), "{found:?} in {line}");
        if let Some(heading) = line.strip_prefix("## ") {
            assert!(
                heading.contains(|c: char| ('а'..='я').contains(&c)),
                "{line}"
            );
        }
    }
}

/// Names have a capital letter, a digit or an underscore, or stand alone.
#[test]
fn a_russian_report_has_no_two_english_words_in_a_row() {
    let mut run = measured(HYBRID, RecordedLevel::Module, 20, 2, 2);
    for source in [
        "clock",
        "clock_after_blocks",
        "clock_after_spans",
        "timestamp_query",
    ] {
        run.timer.source = source.into();
        let text = export(&run, Format::Markdown, Language::Ru);
        // Every second piece is code: names of modules.
        let pieces = text.split('`').step_by(2);
        let is_english =
            |word: &str| word.len() > 1 && word.bytes().all(|b| b.is_ascii_lowercase());
        for piece in pieces {
            let words: Vec<&str> = piece.split(|c: char| " ,.;:()\n|".contains(c)).collect();
            for pair in words.windows(2) {
                let is_text = pair.iter().all(|word| is_english(word));
                assert!(!is_text, "{source}: {pair:?}");
            }
        }
        assert!(!text.contains(source), "{source}");
    }
}

#[test]
fn markdown_gives_no_profiling_overhead_within_the_spread_of_the_runs() {
    let mut run = measured(HYBRID, RecordedLevel::Module, 20, 2, 3);
    let overhead_of = |run: &Run| {
        let text = export(run, Format::Markdown, Language::En);
        let table = text.split("## Spread").nth(1).unwrap();
        let row = table.lines().find(|line| line.starts_with("| prefill |"));
        row.unwrap().rsplit('|').nth(1).unwrap().trim().to_owned()
    };
    for (times_us, profiled_us, overhead) in [
        ([900.0, 1000.0, 1100.0], 850.0, "–"),
        ([900.0, 1000.0, 1100.0], 1050.0, "–"),
        ([1000.0, 1000.0, 1000.0], 1250.0, "25.0"),
    ] {
        for (run, time_us) in run.unprofiled.iter_mut().zip(times_us) {
            run.prefill_us = time_us;
        }
        for run in &mut run.runs {
            run.prefill_us = profiled_us;
        }
        assert_eq!(overhead_of(&run), overhead, "{profiled_us}");
    }
}

#[test]
fn markdown_has_the_headings_of_the_reference_report_in_its_order() {
    let run = measured(HYBRID, RecordedLevel::Module, 20, 2, 2);
    let text = export(&run, Format::Markdown, Language::Ru);
    let headings: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
    assert_eq!(
        headings[..8],
        [
            "# one_block_adapters_rope",
            "## Общие параметры",
            "## FLOPs (оценка по трейсу)",
            "## Графики",
            "## Пример информации по одному блоку",
            "### Эффективность по блокам",
            "## Сводная таблица времени по типам модулей",
            "## Самые медленные модули (20)",
        ]
    );
    for line in [
        "- Время forward-pass: ",
        "- Размер скрытого пространства: ",
        "- Размер словаря: ",
        "- Длина входной последовательности: 20",
        "- Количество блоков: ",
        "- Количество параметров: ",
        "- Linear + Conv1d: ",
        "- Attention kernel (QK^T + AV): ",
        "- Mamba SSM: ",
        "- Итого: ",
        "- Эффективная производительность: ",
        "- Номер блока: ",
        "- Есть Mamba-блок: да",
        "- Есть Mamba decoder: да",
        "- Есть shared Transformer: да",
        "- Размер внутреннего пространства FFN (если есть): ",
        "- FLOPs Attention: ",
        "- FLOPs FFN: ",
        "- FLOPs Mamba: ",
        "| Номер блока | Mamba (GF) | Attention (GF) | FFN (GF) | Эффективность (TFLOPs) |",
        "| Тип | Кол-во | Суммарное время (мс) | Среднее (мс) |",
    ] {
        assert!(text.lines().any(|own| own.starts_with(line)), "{line}");
    }
    let english = export(&run, Format::Markdown, Language::En);
    let count = |text: &str| text.lines().filter(|line| line.starts_with('#')).count();
    assert_eq!(count(&english), count(&text));
    let cyrillic = |c: char| ('а'..='я').contains(&c.to_lowercase().next().unwrap_or(c));
    assert!(!english.contains(cyrillic));
    // Every table row has as many cells as its header.
    for text in [&english, &text] {
        let mut cells = 0;
        for line in text.lines() {
            let own = line.replace("\\|", "").matches('|').count();
            if own > 0 && cells > 0 {
                assert_eq!(own, cells, "{line}");
            }
            cells = own;
        }
    }
}

/// `UPDATE_EXAMPLES=1 cargo test` rewrites the files after a change of wording.
#[test]
fn markdown_names_the_kernels_that_a_trial_has_chosen() {
    let mut run = measured(HYBRID, RecordedLevel::Module, 20, 2, 2);
    let choice = KernelChoice {
        op: "linear_one".into(),
        variant: "8 rows, magic".into(),
        of: 6,
    };
    run.conditions.kernels = vec![choice];
    for (language, expected) in [
        (Language::En, "linear_one: 8 rows, magic, chosen from 6"),
        (Language::Ru, "linear_one: 8 rows, magic, выбран из 6"),
    ] {
        let text = export(&run, Format::Markdown, language).replace('\\', "");
        let line = format!("- {expected}");
        assert_eq!(
            text.lines().filter(|found| *found == line).count(),
            1,
            "{text}"
        );
    }
}

#[test]
fn the_example_reports_are_exports_of_their_run() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/example");
    let run = Run::parse(&fs::read_to_string(dir.join("run.json")).unwrap()).unwrap();
    for (file, format, language) in [
        ("report.md", Format::Markdown, Language::En),
        ("report.ru.md", Format::Markdown, Language::Ru),
        ("tables.csv", Format::Csv, Language::En),
    ] {
        let text = export(&run, format, language);
        if std::env::var_os("UPDATE_EXAMPLES").is_some() {
            fs::write(dir.join(file), &text).unwrap();
        }
        let kept = fs::read_to_string(dir.join(file)).unwrap();
        let differs = text.lines().zip(kept.lines()).find(|(a, b)| a != b);
        assert!(text == kept, "{file}: (now, kept) = {differs:?}");
    }
}

#[test]
fn names_from_a_run_file_are_escaped_in_markdown_and_csv() {
    let mut run = measured(HYBRID, RecordedLevel::Module, 20, 1, 1);
    run.model.name = "<b>|`x`".into();
    run.runs[0].spans.names[0] = "=1+1".into();
    let name = run.runs[0].spans.names[0].clone();
    let text = export(&run, Format::Markdown, Language::En);
    assert!(text.starts_with("# \\<b\\>\\|\\`x\\`\n"));
    run.runs[0].spans.names.push("a,\"b".into());
    let last = run.runs[0].spans.names.len() - 1;
    run.runs[0].spans.name[0] = last;
    run.runs[0].spans.name[1] = 0;
    run.runs[0].spans.parent[1] = -1;
    let csv = export(&run, Format::Csv, Language::En);
    assert!(
        csv.contains("\"a,\"\"b\"") && csv.contains(&format!(",'{name},")),
        "{csv}"
    );
}

#[test]
fn csv_has_a_row_for_every_block_type_module_and_token() {
    let run = measured(HYBRID, RecordedLevel::Module, 20, 3, 2);
    let summary = summarise(&run);
    let text = export(&run, Format::Csv, Language::En);
    let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
    let columns: Vec<&str> = lines.next().unwrap().split(',').collect();
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut total_us = 0.0;
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!(fields.len(), columns.len(), "{line}");
        let field = |name: &str| fields[columns.iter().position(|own| *own == name).unwrap()];
        let us: f64 = field("us").parse().unwrap();
        assert!(us.is_finite());
        if (field("table"), field("phase")) == ("modules", "decode") {
            total_us += field("self_us").parse::<f64>().unwrap();
        }
        let key = (field("table").to_owned(), field("phase").to_owned());
        *counts.entry(key).or_default() += 1;
    }
    let of = |table: &str, phase: &str| counts[&(table.to_owned(), phase.to_owned())];
    for (phase, own) in [("prefill", &summary.prefill), ("decode", &summary.decode)] {
        assert_eq!(of("blocks", phase), own.blocks.len());
        assert_eq!(of("types", phase), own.types.len());
        assert_eq!(of("modules", phase), own.modules.len());
    }
    assert_eq!((of("tokens", "prefill"), of("tokens", "decode")), (4, 12));
    let expected = summary.decode.profiled_us.median - summary.decode.untracked_us;
    assert!((total_us - expected).abs() < 1e-6 * expected);
}

#[test]
fn trace_events_are_in_time_order_and_spans_of_a_track_nest() {
    let run = measured(HYBRID, RecordedLevel::Module, 20, 2, 2);
    let trace: Value = serde_json::from_str(&export(&run, Format::Trace, Language::En)).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let mut last_us = 0.0;
    // The ends of the open spans of each track.
    let mut open: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for event in events {
        let phase = event["ph"].as_str().unwrap();
        *counts.entry(phase).or_default() += 1;
        let ts = event["ts"].as_f64().unwrap();
        if phase != "M" {
            assert!(ts >= last_us, "{event}");
            last_us = ts;
        }
        if phase != "X" {
            continue;
        }
        // Starts are rounded to nanoseconds, durations to f32.
        let slack = 0.1;
        let end = ts + event["dur"].as_f64().unwrap();
        let ends = open.entry(event["tid"].as_u64().unwrap()).or_default();
        while ends.last().is_some_and(|&outer| outer <= ts + slack) {
            ends.pop();
        }
        assert!(
            ends.last().is_none_or(|&outer| end <= outer + slack),
            "{event}"
        );
        ends.push(end);
    }
    let spans: usize = run.runs.iter().map(|run| run.spans.len()).sum();
    let passes = run.runs.len() * (1 + run.decode_tokens);
    assert_eq!((counts["X"], counts["C"]), (spans + passes, passes));
    let named = events.iter().filter(|event| event["name"] == "thread_name");
    let tracks: Vec<u64> = named.map(|event| event["tid"].as_u64().unwrap()).collect();
    assert!(open.keys().all(|track| tracks.contains(track)));
}

#[test]
fn an_exported_run_parses_to_the_same_run() {
    let run = measured(HYBRID, RecordedLevel::Module, 20, 2, 2);
    let text = export(&run, Format::Json, Language::En);
    assert_eq!(Run::parse(&text), Ok(run));
}
