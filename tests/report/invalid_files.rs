//! Run files that are invalid, and valid ones with absurd values.

use serde_json::{Value, json};
use zamba2::model::config::BlockKind;
use zamba2::report::run::{RecordedLevel, Run, Spans};
use zamba2::report::summary::summarise;
use zamba2::report::{Format, export};
use zamba2::words::Language;

use super::{HYBRID, measured};

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn an_invalid_file_is_refused_with_the_field_and_the_allowed_values() {
    let mut good = measured(HYBRID, RecordedLevel::Module, 20, 2, 1);
    let spans = &mut good.runs[0].spans;
    spans.fused_with = vec![-1; spans.len()];
    let good: Value = serde_json::from_str(&good.to_json()).unwrap();
    let rows = good["runs"][0]["spans"]["name"].as_array().unwrap().len();
    for (pointer, value, field, fact) in [
        ("/schema", json!("zamba2-run/2"), "schema", "zamba2-run/1"),
        ("/schema", json!(7), "the file", "schema"),
        ("/prompt_tokens", json!(0), "prompt_tokens", "from 1"),
        (
            "/prompt_tokens",
            json!(1e12),
            "prompt_tokens",
            "expected usize",
        ),
        (
            "/prompt_tokens",
            json!(1u64 << 40),
            "prompt_tokens",
            "from 1",
        ),
        ("/decode_tokens", json!(-1), "decode_tokens", "-1"),
        ("/decode_tokens", json!(3), "runs[0].step_us", "3 entries"),
        ("/label", json!("two\nlines"), "label", "one line"),
        ("/label", json!("x".repeat(1000)), "label", "400 characters"),
        ("/made_ms", json!(-5.0), "made_ms", "at least 0"),
        (
            "/conditions/weights",
            json!("q5"),
            "conditions.weights",
            "not one of",
        ),
        (
            "/conditions/level",
            json!("deep"),
            "conditions.level",
            "unknown variant",
        ),
        (
            "/conditions/threads",
            json!(0),
            "conditions.threads",
            "at least 1",
        ),
        (
            "/timer/resolution_us",
            Value::Null,
            "timer.resolution_us",
            "null",
        ),
        (
            "/ceilings/read_gb_per_s",
            json!(0.0),
            "ceilings.read_gb_per_s",
            "above 0",
        ),
        (
            "/model/config/hidden_size",
            json!(0),
            "model.config",
            "multiple of hidden_size",
        ),
        (
            "/model/config/hidden_size",
            json!(7),
            "model.config.d_inner",
            "multiple of hidden_size",
        ),
        (
            "/model/config/n_groups",
            json!(5),
            "model.config",
            "mamba_ngroups",
        ),
        (
            "/model/config/vocab_size",
            json!(u64::MAX),
            "model.config",
            "vocab_size",
        ),
        (
            "/model/config/kinds",
            json!([]),
            "model.config",
            "num_hidden_layers",
        ),
        (
            "/model/config/kinds/0",
            json!("mlp"),
            "model.config.kinds[0]",
            "unknown variant",
        ),
        ("/model/parameters", json!(-1), "model.parameters", "-1"),
        ("/runs", json!([]), "runs", "from 1 to 1000"),
        ("/unprofiled", json!([]), "unprofiled", "from 1 to 1000"),
        (
            "/unprofiled/0/prefill_us",
            json!(0.0),
            "unprofiled[0].prefill_us",
            "above 0",
        ),
        (
            "/runs/0/step_us/1",
            json!(-1.0),
            "runs[0].step_us[1]",
            "above 0",
        ),
        (
            "/runs/0/spans/parent",
            json!([0]),
            "runs[0].spans.parent",
            "as long as",
        ),
        (
            "/runs/0/spans/name/3",
            json!(9999),
            "runs[0].spans.name[3]",
            "length of `names`",
        ),
        (
            "/runs/0/spans/parent/2",
            json!(2),
            "runs[0].spans.parent[2]",
            "earlier span",
        ),
        (
            "/runs/0/spans/parent/2",
            json!(-2),
            "runs[0].spans.parent[2]",
            "earlier span",
        ),
        (
            "/runs/0/spans/pass/0",
            json!(3),
            "runs[0].spans.pass[0]",
            "at most 2",
        ),
        (
            "/runs/0/spans/pass/4",
            json!(2),
            "runs[0].spans.parent",
            "same pass",
        ),
        (
            "/runs/0/spans/fused_with",
            json!([-1]),
            "runs[0].spans.fused_with",
            "as long as",
        ),
        (
            "/runs/0/spans/fused_with/2",
            json!(3),
            "runs[0].spans.fused_with[2]",
            "up to its own",
        ),
        (
            "/runs/0/spans/duration_us/5",
            json!(-0.5),
            "runs[0].spans.duration_us[5]",
            "at least 0",
        ),
        (
            "/runs/0/spans/bytes/5",
            json!("8"),
            "runs[0].spans.bytes[5]",
            "string",
        ),
        (
            "/runs/0/spans/names/0",
            json!("layers.4000000000"),
            "runs[0].spans.names[0]",
            "blocks",
        ),
    ] {
        assert!(rows > 5);
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect(pointer) = value;
        let error = Run::parse(&bad.to_string()).expect_err(pointer);
        let text = error.to_string();
        assert_eq!(error.code(), "bad_run", "{text}");
        assert!(
            text.contains(field) && text.contains(fact),
            "{pointer}: {text}"
        );
        assert!(text.chars().count() < 700 && !text.contains('\n'), "{text}");
    }
}

#[test]
fn a_missing_field_is_reported_by_name() {
    let good = measured(HYBRID, RecordedLevel::Module, 5, 1, 1);
    let good: Value = serde_json::from_str(&good.to_json()).unwrap();
    for pointer in [
        "",
        "/model",
        "/model/config",
        "/conditions",
        "/timer",
        "/ceilings",
        "/memory",
        "/runs/0",
        "/runs/0/spans",
    ] {
        let names: Vec<String> = good
            .pointer(pointer)
            .unwrap()
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        for name in names {
            let mut bad = good.clone();
            bad.pointer_mut(pointer)
                .unwrap()
                .as_object_mut()
                .unwrap()
                .remove(&name);
            let parsed = Run::parse(&bad.to_string());
            // Three are nullable, and null may be omitted; four are newer than the format.
            let optional = [
                "ceilings",
                "chunk_rows",
                "copy_gb_per_s",
                "family",
                "isolated",
                "kernels",
                "process_bytes",
            ];
            if optional.contains(&&name[..]) {
                assert!(parsed.is_ok(), "{name}");
                continue;
            }
            let text = parsed.expect_err(&name).to_string();
            assert!(text.contains(&name[..]), "{pointer}/{name}: {text}");
        }
    }
}

#[test]
fn input_that_is_not_a_run_is_refused() {
    for text in [
        "",
        "null",
        "[]",
        "3",
        "{}",
        "{\"schema\": \"zamba2-run/1\"}",
        "\u{0}",
        "{\"schema\": \"zamba2-run/1\", \"made_ms\": 1e999}",
    ] {
        assert_eq!(Run::parse(text).expect_err(text).code(), "bad_run");
    }
    let deep = "[".repeat(1 << 20);
    assert_eq!(Run::parse(&deep).unwrap_err().code(), "bad_run");
    let large = " ".repeat((64 << 20) + 1);
    let error = Run::parse(&large).unwrap_err();
    assert!(error.to_string().contains("64 MB"), "{error}");
}

#[test]
fn a_valid_run_with_absurd_values_is_summarised_without_a_panic() {
    let good = measured(HYBRID, RecordedLevel::Module, 20, 2, 2);
    let mut bad = good.clone();
    for run in &mut bad.runs {
        let spans = &mut run.spans;
        for row in 0..spans.len() {
            // Children longer than their parents, huge durations, and names at the wrong level.
            spans.duration_us[row] = if row % 2 == 0 { 1e18 } else { 0.0 };
            spans.name[row] = row * 31 % spans.names.len();
            spans.parent[row] = -1;
        }
    }
    bad.prompt_tokens = 1 << 20;
    bad.memory.kv_bytes_per_token = u64::MAX;
    let mut empty = good.clone();
    for run in &mut empty.runs {
        run.spans = Spans::default();
    }
    let mut no_hybrid = good;
    no_hybrid.model.config.kinds.fill(BlockKind::Mamba);
    for run in [bad, empty, no_hybrid] {
        assert_eq!(run.check(), Ok(()));
        for format in [Format::Markdown, Format::Csv, Format::Trace, Format::Json] {
            assert!(!export(&run, format, Language::Ru).is_empty());
        }
        let summary = serde_json::to_value(summarise(&run)).unwrap();
        assert!(summary["prefill"]["wall_us"]["median"].as_f64().unwrap() > 0.0);
    }
}
