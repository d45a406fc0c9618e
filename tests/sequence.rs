//! Rewinding, continuing and branching a sequence, and snapshots. The oracle is an uninterrupted run: the same tokens,
//! the same text, the same bits of probability.

use pollster::block_on;
use zamba2::base::error::Error;
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::folder;
use zamba2::model::NumericSettings;
use zamba2::session::{GenerateOptions, LoadSettings, Session, Step, StopReason};
use zamba2::text::sampling::SamplingOptions;

use crate::support::{Golden, goldens};

/// Past the second state checkpoint, which is taken after 32 tokens.
const TOKENS: usize = 40;

fn open(golden: &Golden, weights: WeightFormat, context: usize) -> Session<Cpu> {
    let settings = LoadSettings {
        weights,
        context: Some(context),
        numeric: NumericSettings::default(),
        memory_limit_bytes: None,
    };
    folder::open(Cpu::new(1), &golden.dir, settings).unwrap()
}

/// Two nets with shared transformers of different kinds.
fn nets() -> Vec<Golden> {
    goldens().into_iter().take(4).collect()
}

/// Sampling that draws a random number per token, so that a random stream out of step is detected.
fn options(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens,
        sampling: SamplingOptions {
            temperature: 1.5,
            top_k: 0,
            top_p: 1.0,
            repetition_penalty: 1.1,
            ..SamplingOptions::default()
        },
        ignore_eos: true,
        alternatives: 5,
        checkpoints: true,
        cache_prompt: false,
        ..GenerateOptions::default()
    }
}

fn steps(session: &mut Session<Cpu>, n: usize) -> Vec<Step> {
    let steps = (0..n).map(|_| block_on(session.step()).unwrap());
    steps.map(untimed).collect()
}

fn untimed(step: Step) -> Step {
    Step {
        us: 0.0,
        blocks_us: Vec::new(),
        ..step
    }
}

fn run(session: &mut Session<Cpu>, prompt: &[u32]) -> Vec<Step> {
    session.start(prompt, options(TOKENS)).unwrap();
    steps(session, TOKENS)
}

fn tokens(steps: &[Step]) -> Vec<u32> {
    steps.iter().map(|step| step.token).collect()
}

#[test]
fn a_branch_with_the_original_token_gives_bit_identical_steps() {
    for golden in nets() {
        for weights in [WeightFormat::F32, WeightFormat::Q8] {
            let mut session = open(&golden, weights, 200);
            let whole = run(&mut session, &golden.ids("input_ids"));
            // The last token; just after, at and just before a state checkpoint; the first token. Repeated rewinds of
            // one sequence.
            for index in [39, 33, 32, 31, 0] {
                let kept = session
                    .branch(index, whole[index].token, options(TOKENS))
                    .unwrap();
                assert_eq!(kept.tokens, index);
                let again = steps(&mut session, TOKENS - index);
                assert_eq!(
                    tokens(&again),
                    tokens(&whole[index..]),
                    "{} {weights:?} {index}",
                    golden.name()
                );
                // A forced token's probability is the model's, not the sampler's.
                assert_eq!(again[1..], whole[index + 1..]);
                assert_eq!(again[0].token_rank, whole[index].token_rank);
            }
        }
    }
}

#[test]
fn without_state_checkpoints_a_branch_replays_from_the_start_with_the_same_result() {
    let golden = &nets()[0];
    let mut session = open(golden, WeightFormat::Q8, 200);
    let without_checkpoints = GenerateOptions {
        checkpoints: false,
        ..options(TOKENS)
    };
    let prompt = golden.ids("input_ids");
    let whole = run(&mut session, &prompt);
    session.start(&prompt, without_checkpoints.clone()).unwrap();
    assert_eq!(steps(&mut session, TOKENS), whole);
    session
        .branch(35, whole[35].token, without_checkpoints)
        .unwrap();
    assert_eq!(steps(&mut session, TOKENS - 35)[1..], whole[36..]);
}

#[test]
fn a_branch_with_another_token_equals_a_run_with_that_token() {
    let golden = &nets()[0];
    let prompt = golden.ids("input_ids");
    let mut session = open(golden, WeightFormat::F32, 200);
    let greedy = GenerateOptions {
        sampling: SamplingOptions {
            temperature: 0.0,
            ..SamplingOptions::default()
        },
        ..options(TOKENS)
    };
    session.start(&prompt, greedy.clone()).unwrap();
    let whole = steps(&mut session, TOKENS);
    let token_rank = whole[35].token_rank.as_ref().unwrap();
    assert_eq!((token_rank.rank, token_rank.alternatives.len()), (1, 5));
    let other = token_rank.alternatives[1].token;
    session.branch(35, other, greedy).unwrap();
    let branched = steps(&mut session, 5);
    assert_eq!(branched[0].token, other);
    assert_eq!(branched[0].token_rank.as_ref().unwrap().rank, 2);

    // The same tokens appended one by one after the prompt, taking the argmax each time.
    let mut naive = open(golden, WeightFormat::F32, 200);
    let mut logits = block_on(naive.logits(&prompt)).unwrap();
    let kept = tokens(&whole[..35]).into_iter().chain([other]);
    for token in kept {
        logits = block_on(naive.append(&[token])).unwrap();
    }
    for step in &branched[1..] {
        let best = zamba2::session::argmax(&logits);
        assert_eq!(step.token, best);
        logits = block_on(naive.append(&[best])).unwrap();
    }
}

#[test]
fn a_run_stopped_by_max_tokens_continues_as_without_the_limit() {
    let golden = &nets()[0];
    let prompt = golden.ids("input_ids");
    let mut session = open(golden, WeightFormat::Q8, 200);
    let whole = run(&mut session, &prompt);
    session.start(&prompt, options(7)).unwrap();
    let first = steps(&mut session, 7);
    assert_eq!(first[6].done, Some(StopReason::Length));
    let kept = session.continue_sequence(options(TOKENS)).unwrap();
    assert_eq!((kept.tokens, kept.prompt_tokens), (7, prompt.len()));
    assert_eq!(steps(&mut session, TOKENS - 7), whole[7..]);
}

#[test]
fn alternatives_are_the_most_probable_tokens_of_the_plain_softmax() {
    let golden = &nets()[0];
    let prompt = golden.ids("input_ids");
    let mut session = open(golden, WeightFormat::F32, 200);
    let vocab_size = session.config().vocab_size;
    let logits = block_on(session.logits(&prompt)).unwrap();
    let last: Vec<f64> = logits[logits.len() - vocab_size..]
        .iter()
        .map(|&logit| f64::from(logit))
        .collect();
    let sum: f64 = last.iter().map(|logit| logit.exp()).sum();
    let mut all: Vec<(u32, f64)> = (0..)
        .zip(last.iter().map(|logit| logit.exp() / sum))
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));

    session.start(&prompt, options(1)).unwrap();
    let step = block_on(session.step()).unwrap();
    let token_rank = step.token_rank.unwrap();
    for (ours, (token, probability)) in token_rank.alternatives.iter().zip(&all) {
        assert_eq!(ours.token, *token);
        // Sums in a different order, and libm's exponential instead of std's.
        assert!((ours.probability - probability).abs() < 1e-12);
    }
    assert_eq!(all[token_rank.rank - 1].0, step.token);

    let unasked = GenerateOptions {
        alternatives: 0,
        ..options(1)
    };
    session.start(&prompt, unasked).unwrap();
    assert_eq!(block_on(session.step()).unwrap().token_rank, None);
}

#[test]
fn a_snapshot_continues_bit_identically_in_a_session_with_other_threads_and_context() {
    for golden in nets() {
        for weights in [WeightFormat::F32, WeightFormat::Q8, WeightFormat::Q4] {
            let prompt = golden.ids("input_ids");
            let mut session = open(&golden, weights, 200);
            let whole = run(&mut session, &prompt);
            session.start(&prompt, options(20)).unwrap();
            let kept = steps(&mut session, 20);
            let bytes = block_on(session.snapshot("a note")).unwrap();
            // A snapshot does not change the session.
            session.continue_sequence(options(TOKENS)).unwrap();
            assert_eq!(steps(&mut session, TOKENS - 20), whole[20..]);

            let settings = LoadSettings {
                weights,
                context: Some(300),
                numeric: NumericSettings::default(),
                memory_limit_bytes: None,
            };
            let mut other = folder::open(Cpu::new(2), &golden.dir, settings).unwrap();
            let restored = block_on(other.restore(&bytes)).unwrap();
            assert_eq!(restored.note, "a note");
            assert_eq!(restored.prompt_tokens, prompt.len());
            assert_eq!(restored.tokens[prompt.len()..], tokens(&kept));
            other.continue_sequence(options(TOKENS)).unwrap();
            assert_eq!(
                steps(&mut other, TOKENS - 20),
                whole[20..],
                "{} {weights:?}",
                golden.name()
            );
            // Without state checkpoints a rewind replays from the start.
            other.branch(3, whole[3].token, options(TOKENS)).unwrap();
            assert_eq!(steps(&mut other, TOKENS - 3)[1..], whole[4..]);
        }
    }
}

#[test]
fn a_replay_in_parts_equals_a_replay_at_once() {
    let golden = &nets()[0];
    let mut session = open(golden, WeightFormat::Q8, 200);
    let whole = run(&mut session, &golden.ids("input_ids"));
    session
        .branch(30, whole[30].token, options(TOKENS))
        .unwrap();
    let mut left = usize::MAX;
    while left > 0 {
        session.advance(1).unwrap();
        let now = block_on(session.replay(4)).unwrap();
        assert!(now < left);
        left = now;
    }
    assert_eq!(steps(&mut session, TOKENS - 30)[1..], whole[31..]);
}

#[test]
fn invalid_and_foreign_snapshots_are_refused_and_the_sequence_is_unchanged() {
    let nets = nets();
    let prompt = nets[0].ids("input_ids");
    let mut session = open(&nets[0], WeightFormat::F32, 200);
    let early = block_on(session.snapshot("")).unwrap_err();
    assert_eq!(early.code(), "out_of_order");
    let whole = run(&mut session, &prompt);
    session.start(&prompt, options(20)).unwrap();
    steps(&mut session, 20);
    let bytes = block_on(session.snapshot("")).unwrap();

    for n in [0, 4, 11, 23, 24, 100, bytes.len() - 1] {
        let error = block_on(session.restore(&bytes[..n])).unwrap_err();
        assert_eq!(error.code(), "bad_snapshot", "{n} bytes: {error}");
    }
    for at in [0, 9, 14, bytes.len() / 2, bytes.len() - 1] {
        let mut spoiled = bytes.clone();
        spoiled[at] ^= 1;
        let error = block_on(session.restore(&spoiled)).unwrap_err();
        assert_eq!(error.code(), "bad_snapshot", "byte {at}: {error}");
    }
    let longer = [&bytes[..], &[0]].concat();
    let error = block_on(session.restore(&longer)).unwrap_err();
    assert_eq!(error.code(), "bad_snapshot");

    // Another net, and the same net in other weight formats.
    for (golden, weights) in [
        (&nets[1], WeightFormat::F32),
        (&nets[0], WeightFormat::Q8),
        (&nets[0], WeightFormat::Q4),
    ] {
        let mut other = open(golden, weights, 200);
        let error = block_on(other.restore(&bytes)).unwrap_err();
        assert!(matches!(error, Error::OtherModel { .. }), "{error}");
    }
    let mut short = open(&nets[0], WeightFormat::F32, prompt.len() + 5);
    let error = block_on(short.restore(&bytes)).unwrap_err();
    assert_eq!(error.code(), "prompt_too_long");

    session.continue_sequence(options(TOKENS)).unwrap();
    assert_eq!(steps(&mut session, TOKENS - 20), whole[20..]);
}

#[test]
fn an_invalid_branch_is_refused_and_the_sequence_is_unchanged() {
    let golden = &nets()[0];
    let prompt = golden.ids("input_ids");
    let mut session = open(golden, WeightFormat::F32, 200);
    assert_eq!(
        session.branch(0, 1, options(5)).unwrap_err().code(),
        "out_of_order"
    );
    assert_eq!(
        session.continue_sequence(options(5)).unwrap_err().code(),
        "out_of_order"
    );
    let whole = run(&mut session, &prompt);
    session.start(&prompt, options(20)).unwrap();
    steps(&mut session, 20);
    let vocab_size = session.config().vocab_size as u32;
    let hot = GenerateOptions {
        sampling: SamplingOptions {
            temperature: -1.0,
            ..SamplingOptions::default()
        },
        ..options(5)
    };
    for (index, token, options, code) in [
        (20, 1, options(5), "bad_option"),
        (3, vocab_size, options(5), "bad_token"),
        (3, 1, hot, "bad_option"),
    ] {
        let error = session.branch(index, token, options).unwrap_err();
        assert_eq!(error.code(), code);
    }
    session.continue_sequence(options(TOKENS)).unwrap();
    assert_eq!(steps(&mut session, TOKENS - 20), whole[20..]);
}
