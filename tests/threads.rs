//! The thread trial on a loaded model: later work runs on the chosen number of threads, and a sequence in progress is
//! unaffected.

use std::path::Path;

use pollster::block_on;
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::folder;
use zamba2::model::NumericSettings;
use zamba2::ops::trace::Level;
use zamba2::session::{GenerateOptions, LoadSettings, Session};

fn open(threads: usize) -> Session<Cpu> {
    let folder = Path::new("tests/fixtures/two_blocks_groups2_rope");
    let settings = LoadSettings {
        weights: WeightFormat::Q8,
        context: None,
        numeric: NumericSettings::default(),
        memory_limit_bytes: None,
    };
    folder::open(Cpu::new(threads), folder, settings).unwrap()
}

/// Token and bits of its probability per step.
fn generate(session: &mut Session<Cpu>, steps: usize) -> Vec<(u32, u64)> {
    let step = |_| {
        let step = block_on(session.step()).unwrap();
        (step.token, step.probability.to_bits())
    };
    (0..steps).map(step).collect()
}

#[test]
fn the_session_computes_on_the_chosen_number_of_threads() {
    let mut session = open(4);
    let chosen = session.choose_threads();
    assert!([1, 2, 4].contains(&chosen), "{chosen}");
    assert_eq!(session.backend().threads(), chosen);
}

#[test]
fn a_session_on_one_thread_stays_on_one() {
    assert_eq!(open(1).choose_threads(), 1);
}

#[test]
fn a_trial_during_a_run_changes_no_token_and_records_no_span() {
    let options = || GenerateOptions {
        max_tokens: 12,
        ignore_eos: true,
        ..GenerateOptions::default()
    };
    let mut whole = open(3);
    whole.start(&[3, 1, 4], options()).unwrap();
    let expected = generate(&mut whole, 12);

    let mut tried = open(3);
    tried.start(&[3, 1, 4], options()).unwrap();
    // During the prompt, then during decoding.
    tried.advance(1).unwrap();
    tried.choose_threads();
    let mut tokens = generate(&mut tried, 6);
    tried.set_recording(Level::Module);
    tried.choose_threads();
    assert!(tried.take_profile().is_empty());
    tokens.extend(generate(&mut tried, 1));
    assert!(!tried.take_profile().is_empty());
    tokens.extend(generate(&mut tried, 5));
    assert_eq!(tokens, expected);
}
