//! Recorded spans compared with counted work and with an independent clock.

use std::collections::BTreeMap;
use std::time::Instant;

use zamba2::base::quant::WeightFormat;
use zamba2::family;
use zamba2::model::config::Config;
use zamba2::ops::trace::{Level, Profile};
use zamba2::report::count::{self, Formats};

use super::{fixtures, measure, open};

/// Calls, FLOPs and bytes per module path, without modules that do no work.
type Works = BTreeMap<String, (usize, f64, f64)>;

fn recorded(config: &Config, profile: &Profile, pass: u32) -> Works {
    let tree = family::full_plan(config).tree;
    let mut works = Works::new();
    let mut block = Vec::new();
    for row in 0..profile.len() {
        let name = &profile.names[usize::from(profile.name[row])];
        let around: Option<usize> = match profile.parent[row] {
            -1 => None,
            parent => block[parent as usize],
        };
        block.push(family::block_of_span(name).or(around));
        let work = (profile.flops[row], profile.bytes[row]);
        if profile.pass[row] != pass || work == (0.0, 0.0) {
            continue;
        }
        let module = tree.by_span(around, name);
        let path = tree.get(module.expect(name)).path.clone();
        let sum = works.entry(path).or_default();
        *sum = (sum.0 + 1, sum.1 + work.0, sum.2 + work.1);
    }
    works
}

#[test]
fn recorded_work_of_every_module_equals_the_work_counted_from_the_config() {
    for dir in fixtures() {
        for weights in [WeightFormat::F32, WeightFormat::Q8, WeightFormat::Q4] {
            let mut session = open(&dir, weights);
            let config = session.config().clone();
            // More than one chunk where the context allows it, with a partial chunk at the end.
            let tokens = (session.context() - 3).min(70);
            let profile = measure(&mut session, tokens, 2, Level::Module).1;
            let formats = Formats {
                weights,
                kv_position_bytes: session.kv_format().bytes(&config.attention_shape(), 1) as f64,
                chunk_rows: session.chunk_rows(),
            };
            for (pass, new, past) in [(0, tokens, 0), (1, 1, tokens), (2, 1, tokens + 1)] {
                let counted: Works = count::pass(&config, new, past, formats)
                    .into_iter()
                    .map(|work| (work.path.clone(), (work.calls, work.flops, work.bytes())))
                    .collect();
                let what = format!("{} in {}, pass {pass}", dir.display(), weights.name());
                assert_eq!(recorded(&config, &profile, pass), counted, "{what}");
            }
        }
    }
}

#[test]
fn embedding_final_norm_output_and_sampling_are_recorded_in_every_pass() {
    let dir = &fixtures()[0];
    let profile = measure(&mut open(dir, WeightFormat::F32), 5, 2, Level::Module).1;
    for pass in 0..=2 {
        for name in ["embed_tokens", "final_layernorm", "lm_head", "sampling"] {
            let rows = (0..profile.len()).filter(|&row| profile.pass[row] == pass);
            let found = rows.filter(|&row| profile.names[usize::from(profile.name[row])] == name);
            let parents: Vec<i32> = found.map(|row| profile.parent[row]).collect();
            assert!(
                !parents.is_empty() && parents.iter().all(|&p| p == -1),
                "{name} in {pass}"
            );
        }
    }
}

#[test]
fn top_level_spans_take_no_longer_than_an_independent_clock_measures() {
    let dir = fixtures()[0].clone();
    let mut session = open(&dir, WeightFormat::F32);
    // The best of 20: any single run may be preempted between two clock readings.
    let mut best = 0.0f64;
    for _ in 0..20 {
        let outside = Instant::now();
        let (times, profile) = measure(&mut session, 40, 2, Level::Module);
        let outside_us = outside.elapsed().as_secs_f64() * 1e6;
        let inside_us = times.prefill_us + times.step_us.iter().sum::<f64>();
        let tops = (0..profile.len()).filter(|&row| profile.parent[row] == -1);
        let tracked_us: f64 = tops.map(|row| f64::from(profile.duration_us[row])).sum();
        assert!(tracked_us <= inside_us * (1.0 + 1e-6) && inside_us <= outside_us);
        best = best.max(tracked_us / outside_us);
    }
    assert!(best > 0.5, "{best}");
}
