//! Tokens drawn on the adapter from the embedded model's logits, as the host draws them. The CPU computes the logits:
//! on a software adapter a text this long would take half an hour.

use std::path::Path;

use pollster::block_on;
use zamba2::device::cpu::Cpu;
use zamba2::folder;
use zamba2::ops::device::Draw;
use zamba2::session::{GenerateOptions, LoadSettings, Session};
use zamba2::text::sampling::{Sampler, SamplingOptions};

use super::on_device;
use crate::cases::*;
use crate::support::F32;

const PROMPT: [u32; 3] = [1, 300, 301];
const TOKENS: usize = 500;

/// A text that the embedded model draws, and the logits from which its tokens were drawn.
fn text_with_logits() -> (Vec<u32>, Vec<Vec<f32>>) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("www/models/rustdoc-5m");
    let settings = LoadSettings {
        context: Some(PROMPT.len() + TOKENS),
        ..F32
    };
    let mut session: Session<Cpu> = folder::open(Cpu::new(1), &dir, settings).unwrap();
    let options = GenerateOptions {
        sampling: SamplingOptions {
            temperature: 0.9,
            seed: 3,
            ..SamplingOptions::default()
        },
        max_tokens: TOKENS,
        ignore_eos: true,
        ..GenerateOptions::default()
    };
    session.start(&PROMPT, options).unwrap();
    let mut text = PROMPT.to_vec();
    for _ in 0..TOKENS {
        text.push(block_on(session.step()).unwrap().token);
    }
    let logits = block_on(session.logits(&text)).unwrap();
    let rows = logits.chunks(logits.len() / text.len());
    let rows = rows.skip(PROMPT.len() - 1).take(TOKENS);
    let rows = rows.map(<[f32]>::to_vec).collect();
    (text, rows)
}

/// Where the host's f64 and the device's f32 put a random number on different sides of an edge, they draw neighbours;
/// among these numbers there is none.
#[test]
fn five_hundred_tokens_in_turns_of_every_setting_are_drawn_on_the_adapter_as_on_the_host() {
    on_device("draws", |ops| {
        let (text, rows) = text_with_logits();
        let settings = [
            (0.7, 40, 0.95, 0.0, 1.0, 42),
            (1.3, 64, 1.0, 0.0, 1.0, 7),
            (1.0, 20, 0.8, 0.1, 1.0, 1),
            (0.9, 40, 0.95, 0.0, 1.1, 5),
            (0.9, 40, 0.95, 0.05, 1.1, 6),
        ];
        let n_settings = settings.len();
        for (nth, setting) in settings.into_iter().enumerate() {
            let (temperature, top_k, top_p, min_p, repetition_penalty, seed) = setting;
            let options = SamplingOptions {
                temperature,
                top_k,
                top_p,
                min_p,
                seed,
                repetition_penalty,
            };
            let mut sampler = Sampler::new(options.clone()).unwrap();
            for (i, logits) in rows.iter().enumerate().skip(nth).step_by(n_settings) {
                let history = &text[..PROMPT.len() + i];
                let random = sampler.upcoming(0) as f32;
                let expected = sampler.sample(&mut logits.clone(), history).unwrap().token;
                let logits = match repetition_penalty {
                    1.0 => logits.clone(),
                    penalty => penalise(ops, logits, history, penalty),
                };
                let case = DrawCase {
                    what: format!("{options:?}, token {i}"),
                    logits,
                    draw: Draw {
                        top_k,
                        temperature: temperature as f32,
                        top_p: top_p as f32,
                        min_p: min_p as f32,
                        random,
                    },
                    expected,
                };
                assert_eq!(draw(ops, &case), expected, "{}", case.what);
            }
        }
    });
}
