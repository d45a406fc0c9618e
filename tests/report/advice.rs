//! Advice, cautions and verdicts: each is given for some run, and worded in every language.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use zamba2::model::config::BlockKind;
use zamba2::ops::device::Ceilings;
use zamba2::report::run::{RecordedLevel, Run, Spans};
use zamba2::report::sentence::Sentence;
use zamba2::report::summary::{PhaseSummary, summarise};
use zamba2::report::verdict::Verdict;
use zamba2::report::{Format, export};
use zamba2::words::{self, Language};

use super::{CEILINGS, HYBRID, known_run, measured};

#[test]
fn cautions_are_worded_in_both_languages() {
    let mut run = known_run();
    run.conditions.hidden_ms = 12_000.0;
    run.conditions.threads = 1;
    run.conditions.isolated = Some(false);
    run.runs.truncate(2);
    // Far above what these ceilings allow.
    run.memory.weights_bytes = 1 << 30;
    run.ceilings = Some(Ceilings {
        int16_gmacs_per_s: 1e-4,
        f32_gmacs_per_s: 1e-4,
        read_gb_per_s: 1e-3,
        ..CEILINGS
    });
    for (language, words) in [
        (
            Language::En,
            [
                "background for 12.0 s",
                "Measured runs: 2",
                "ceiling was measured too low",
                "isolation headers",
            ],
        ),
        (
            Language::Ru,
            [
                "12,0 с была в фоне",
                "прогонов: 2",
                "измерен слишком низко",
                "заголовками изоляции",
            ],
        ),
    ] {
        let sentences = advice_and_cautions(&run);
        let texts: Vec<String> = sentences.iter().map(|one| one.text(language)).collect();
        let all = texts.join("\n");
        for word in words {
            assert!(all.contains(word), "{word} in:\n{all}");
        }
    }
}

/// Advice and cautions for `run`.
fn advice_and_cautions(run: &Run) -> Vec<Sentence> {
    let summary = summarise(run);
    [summary.advice, summary.cautions].concat()
}

/// Scales the spans so that those of each pass cover `us`.
fn stretch(spans: &mut Spans, us: f64) {
    let mut covered_us: BTreeMap<usize, f64> = BTreeMap::new();
    for row in (0..spans.len()).filter(|&row| spans.parent[row] == -1) {
        *covered_us.entry(spans.pass[row]).or_default() += spans.duration_us[row];
    }
    for row in 0..spans.len() {
        spans.duration_us[row] *= us / covered_us[&spans.pass[row]];
    }
}

/// A run in which every pass takes one second, with ceilings chosen so that decoding reaches `percent` of its limiting
/// one.
fn decode_at(percent: f64, by_memory: bool) -> Run {
    let run = measured(HYBRID, RecordedLevel::Module, 20, 2, 3);
    with_decode_at(percent, by_memory, run)
}

/// `run` with such times and ceilings.
fn with_decode_at(percent: f64, by_memory: bool, mut run: Run) -> Run {
    for run in &mut run.unprofiled {
        (run.prefill_us, run.step_us) = (1e6, vec![1e6; 2]);
    }
    for run in &mut run.runs {
        (run.prefill_us, run.step_us) = (1e6, vec![1e6; 2]);
        stretch(&mut run.spans, 1e6);
    }
    run.timer.resolution_us = 0.0;
    let ceilings = |arithmetic: f64, memory: f64| {
        Some(Ceilings {
            threads: 1,
            int8_gmacs_per_s: arithmetic,
            int16_gmacs_per_s: arithmetic,
            f32_gmacs_per_s: arithmetic,
            read_gb_per_s: memory,
            copy_gb_per_s: None,
        })
    };
    let (arithmetic, memory) = if by_memory { (1e3, 1.0) } else { (1.0, 1e3) };
    run.ceilings = ceilings(arithmetic, memory);
    let reached = summarise(&run).decode.percent_of_ceiling.unwrap();
    let scale = reached / percent;
    run.ceilings = ceilings(arithmetic * scale, memory * scale);
    run
}

/// The median of the fastest ordinary block in a decode step.
fn shortest_block_us(run: &Run) -> f64 {
    let blocks = summarise(run).decode.blocks;
    let plain = blocks.iter().filter(|row| row.kind == BlockKind::Mamba);
    plain.map(|row| row.us.median).fold(f64::INFINITY, f64::min)
}

/// A clock whose steps are longer than a pass, as browsers have that resist fingerprinting.
#[test]
fn passes_of_no_time_are_a_run_where_the_clock_is_coarse() {
    let mut run = measured(HYBRID, RecordedLevel::Module, 20, 2, 3);
    run.ceilings = None;
    for run in &mut run.unprofiled {
        (run.prefill_us, run.step_us) = (0.0, vec![0.0; 2]);
    }
    for run in &mut run.runs {
        (run.prefill_us, run.step_us) = (0.0, vec![0.0, 1e5]);
        run.spans.duration_us.fill(0.0);
    }
    run.timer.resolution_us = 1.0;
    assert!(
        run.check().is_err(),
        "a fine clock would have seen the pass"
    );
    run.timer.resolution_us = 1e5;
    assert_eq!(run.check(), Ok(()));
    let summary = summarise(&run);
    let finite = |phase: &PhaseSummary| {
        let rates = [phase.tflops, phase.gb_per_s, phase.recording_percent];
        rates.iter().all(|rate| rate.is_finite())
    };
    assert!(finite(&summary.prefill) && finite(&summary.decode));
    let keys: Vec<_> = summary.cautions.iter().map(|caution| caution.key).collect();
    assert!(keys.contains(&"advice.caution.no_block_times"), "{keys:?}");
    let of_noise = |key: &&str| key.ends_with(".spread") || key.ends_with(".recording");
    assert!(!keys.iter().any(of_noise), "{keys:?}");
}

/// At least one run for every sentence, by the sentence's key.
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn runs_for_all_sentences() -> Vec<(&'static str, Run)> {
    let changed = |change: fn(&mut Run)| {
        let mut run = decode_at(70.0, true);
        change(&mut run);
        run
    };
    let mut in_q4 = measured(HYBRID, RecordedLevel::Module, 20, 2, 3);
    in_q4.conditions.weights = "q4".into();
    let in_q4 = with_decode_at(70.0, true, in_q4);
    let heavy = |mut run: Run| {
        run.memory.weights_bytes = 1 << 30;
        run
    };
    vec![
        ("advice.decode.neither", decode_at(7.0, true)),
        ("advice.decode.neither", decode_at(7.0, false)),
        ("advice.decode.memory_q4", decode_at(70.0, true)),
        ("advice.decode.memory", in_q4),
        ("advice.decode.arithmetic", decode_at(70.0, false)),
        ("advice.farthest.prefill", decode_at(0.01, true)),
        (
            "advice.farthest.decode",
            changed(|run| {
                for run in &mut run.runs {
                    let spans = &mut run.spans;
                    for (pass, us) in spans.pass.iter().zip(&mut spans.duration_us) {
                        *us = if *pass == 0 { 0.0 } else { 1e6 };
                    }
                }
            }),
        ),
        (
            "advice.threads",
            changed(|run| run.conditions.isolated = Some(false)),
        ),
        (
            "advice.caution.hidden",
            changed(|run| run.conditions.hidden_ms = 5.0),
        ),
        ("advice.caution.cached", decode_at(200.0, true)),
        ("advice.caution.above_ceiling", decode_at(200.0, false)),
        (
            "advice.caution.above_ceiling",
            heavy(decode_at(200.0, true)),
        ),
        (
            "advice.caution.few_runs",
            changed(|run| run.runs.truncate(2)),
        ),
        (
            "advice.caution.spread",
            changed(|run| run.unprofiled[0].step_us = vec![2e6; 2]),
        ),
        (
            "advice.caution.recording",
            changed(|run| run.runs.iter_mut().for_each(|run| run.prefill_us *= 1.5)),
        ),
        (
            "advice.caution.coarse_clock",
            changed(|run| run.timer.resolution_us = shortest_block_us(run) / 2.0),
        ),
        (
            "advice.caution.no_block_times",
            changed(|run| run.timer.resolution_us = 1e6),
        ),
        (
            "advice.caution.blocks_only",
            changed(|run| run.conditions.level = RecordedLevel::Block),
        ),
        (
            "advice.caution.fused",
            changed(|run| {
                for run in &mut run.runs {
                    run.spans.fused_with = vec![-1; run.spans.len()];
                    let last = run.spans.len() - 1;
                    run.spans.fused_with[last] = last as i64;
                    run.spans.duration_us[last] = 1.0;
                }
            }),
        ),
        (
            "advice.caution.no_ceilings",
            changed(|run| run.ceilings = None),
        ),
    ]
}

/// The contents of a language's file.
fn words_of(language: Language) -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("www/words");
    let file = root.join(format!("{}.json", language.code()));
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn every_advice_sentence_is_given_for_some_run_and_exists_in_every_language() {
    let mut given = BTreeMap::new();
    for (key, run) in runs_for_all_sentences() {
        assert_eq!(run.check(), Ok(()), "{key}");
        let sentences = advice_and_cautions(&run);
        let one = sentences.iter().find(|sentence| sentence.key == key);
        given.insert(key, one.unwrap_or_else(|| panic!("no {key}")).clone());
    }
    for &language in Language::ALL {
        let words = words_of(language);
        for (key, sentence) in &given {
            assert!(words.contains_key(*key), "{key} in {}", language.code());
            // Panics if a placeholder has no value.
            assert!(!sentence.text(language).contains(['{', '}']), "{key}");
            for (name, _) in &sentence.values {
                let placeholder = format!("{{{name}}}");
                assert!(words[*key].contains(&placeholder), "{key}: {placeholder}");
            }
        }
        // Conversely, every text is used by some run. Titles and phase names are parts of the page.
        let is_sentence = |key: &&String| {
            key.starts_with("advice.")
                && *key != "advice.title"
                && !key.starts_with("advice.phase.")
        };
        for key in words.keys().filter(is_sentence) {
            assert!(given.contains_key(&key[..]), "no run leads to {key}");
        }
    }
}

/// A missing key would panic in English and fall back to English in other languages.
#[test]
fn every_key_in_the_report_sources_exists_in_every_language() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report")];
    let mut keys = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let literals = text.split('"').filter(|part| !part.contains(' '));
            let is_key = |part: &&str| part.starts_with("report.") || part.starts_with("advice.");
            keys.extend(literals.filter(is_key).map(str::to_owned));
        }
    }
    // A bare prefix is what code builds keys from.
    keys.retain(|key| !key.ends_with('.') && !key.contains('{'));
    assert!(keys.len() > 100, "{}", keys.len());
    for &language in Language::ALL {
        let words = words_of(language);
        for key in &keys {
            assert!(words.contains_key(key), "{key} in {}", language.code());
        }
    }
}

#[test]
fn a_summary_contains_no_text_in_any_language() {
    for (_, run) in runs_for_all_sentences() {
        let json = serde_json::to_string(&summarise(&run)).unwrap();
        for &language in Language::ALL {
            for (key, text) in words_of(language) {
                // Text between placeholders. Shorter parts also occur in keys and paths.
                let parts = text.split(['{', '}']).filter(|part| part.len() >= 12);
                for part in parts.filter(|_| key.starts_with("advice.")) {
                    assert!(!json.contains(part), "{part}");
                }
            }
        }
        let cyrillic = |c: char| ('а'..='я').contains(&c);
        assert!(!json.contains(cyrillic));
    }
}

#[test]
fn summary_advice_and_ceilings_state_the_same_verdict() {
    for (percent, by_memory, verdict) in [
        (7.0, true, Verdict::NearestMemory),
        (7.0, false, Verdict::NearestArithmetic),
        (70.0, true, Verdict::HeldByMemory),
        (70.0, false, Verdict::HeldByArithmetic),
        (200.0, true, Verdict::AboveCeiling),
    ] {
        let mut run = decode_at(percent, by_memory);
        assert_eq!(summarise(&run).decode.verdict, verdict);
        // The prefill has its own verdict, which is not checked here.
        for run in &mut run.unprofiled {
            run.prefill_us = 1e9;
        }
        for &language in Language::ALL {
            let text = export(&run, Format::Markdown, language);
            assert!(text.contains(words::get(language, verdict.key())), "{text}");
            let held = [Verdict::HeldByMemory, Verdict::HeldByArithmetic];
            for other in held.into_iter().filter(|other| *other != verdict) {
                let other = words::get(language, other.key());
                assert!(!text.contains(other), "{other} in {text}");
            }
        }
    }
}
