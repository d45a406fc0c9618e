//! Steps in flight and top-k readbacks. The oracle is the same backend reading all logits after every token with the
//! host choosing: tokens, text, stop reasons and token ranks must be the same. It runs on the CPU backend, which
//! supports it although it gains nothing, with two steps in flight and with many, and on this machine's graphics
//! adapter with two; without one, each test prints that this half was skipped.

use std::path::{Path, PathBuf};

use pollster::block_on;
use zamba2::base::error::Error;
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::device::webgpu::{AdapterOptions, Counts, WebGpu};
use zamba2::folder;
use zamba2::model::NumericSettings;
use zamba2::ops::device::Device;
use zamba2::ops::trace::Level;
use zamba2::session::{GenerateOptions, Lookahead, Session, Step, StopReason};
use zamba2::text::sampling::SamplingOptions;

use crate::adapter;
use crate::support::{Golden, goldens};

/// Sums and exponentials over the vocabulary are f32 on a device and f64 on the host.
const PROBABILITY: f64 = 1e-5;
/// Past the second state checkpoint, which is taken after 32 tokens.
const TOKENS: usize = 40;
/// Of the embedded model on the CPU with two steps in flight, with one setting of each way to choose a token.
const LONG_TOKENS: usize = 500;
/// With the other settings, and with many steps in flight.
const SHORT_TOKENS: usize = 60;
/// A software adapter is slower; another number is for trials. Mesa's keeps about 5 MB of memory per token.
fn tokens_of_adapter() -> usize {
    let wanted = std::env::var("ZAMBA2_ADAPTER_TOKENS");
    wanted.map_or(12, |n| n.parse().expect("a number of tokens"))
}
const HOST: Lookahead = in_flight(1);
/// What a device has in flight whose readbacks are shorter than its steps.
const TWO: Lookahead = in_flight(2);
const MANY: Lookahead = in_flight(6);

/// That many steps in flight at any speed.
const fn in_flight(steps: usize) -> Lookahead {
    Lookahead {
        min_steps: steps,
        max_steps: steps,
    }
}

/// A checkpoint and a prompt.
struct Net {
    dir: PathBuf,
    prompt: Vec<u32>,
}

/// One net with shared transformers, rotary embedding and LoRA adapters, and one without. Every run prefills its prompt
/// again, so it is short.
fn nets() -> Vec<Net> {
    let nets = goldens().into_iter().take(2);
    let net = |golden: Golden| Net {
        prompt: golden.ids("input_ids")[..5].to_vec(),
        dir: golden.dir,
    };
    nets.map(net).collect()
}

/// The embedded model, which has a tokenizer.
fn embedded() -> Net {
    Net {
        dir: Path::new(env!("CARGO_MANIFEST_DIR")).join("www/models/rustdoc-5m"),
        prompt: vec![1, 300, 301],
    }
}

fn open<B: Device>(device: B, net: &Net, lookahead: Lookahead, context: usize) -> Session<B> {
    let settings = zamba2::session::LoadSettings {
        weights: WeightFormat::Q8,
        context: Some(context),
        numeric: NumericSettings::default(),
        memory_limit_bytes: None,
    };
    let mut session = folder::open(device, &net.dir, settings).unwrap();
    session.set_lookahead(lookahead);
    session
}

/// All cases on the CPU, and every third on an adapter: a software adapter takes a hundred times as long per token.
fn cases_for<B: Device, T>(all: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
    all.into_iter()
        .step_by(if B::USES_HOST_MEMORY { 1 } else { 3 })
}

/// Calls `check` with a constructor of the CPU backend, then with one of the adapter's if there is an adapter.
macro_rules! on_both {
    ($check:ident) => {{
        $check(&|| Cpu::new(1), TWO);
        $check(&|| Cpu::new(1), MANY);
        match adapter::open(AdapterOptions::default()) {
            Ok(_) => $check(&|| adapter::open(AdapterOptions::default()).unwrap(), TWO),
            Err(Error::NoAdapter { fact }) => println!("SKIPPED: {}: {fact}", stringify!($check)),
            Err(error) => panic!("{error}"),
        }
    }};
}

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens,
        sampling: SamplingOptions {
            temperature: 0.0,
            ..SamplingOptions::default()
        },
        ignore_eos: true,
        alternatives: 3,
        checkpoints: true,
        cache_prompt: false,
        ..GenerateOptions::default()
    }
}

/// At most `n` decode steps.
fn steps<B: Device>(session: &mut Session<B>, n: usize) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    while steps.len() < n && steps.last().is_none_or(|step| step.done.is_none()) {
        steps.push(block_on(session.step()).unwrap());
    }
    steps
}

fn run<B: Device>(session: &mut Session<B>, net: &Net, options: &GenerateOptions) -> Vec<Step> {
    session.start(&net.prompt, options.clone()).unwrap();
    steps(session, usize::MAX)
}

fn tokens(steps: &[Step]) -> Vec<u32> {
    steps.iter().map(|step| step.token).collect()
}

fn text(steps: &[Step]) -> String {
    steps.iter().map(|step| &step.text[..]).collect()
}

fn assert_same(what: &str, got: &[Step], expected: &[Step]) {
    let near = |a: f64, b: f64| (a - b).abs() <= PROBABILITY;
    assert_eq!(tokens(got), tokens(expected), "{what}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let what = format!("{what}, token {i}");
        assert_eq!(
            (&got.text, got.done),
            (&expected.text, expected.done),
            "{what}"
        );
        assert!(
            near(got.probability, expected.probability),
            "{what}: {got:?} {expected:?}"
        );
        let (Some(got), Some(expected)) = (&got.token_rank, &expected.token_rank) else {
            assert_eq!(got.token_rank, expected.token_rank, "{what}");
            continue;
        };
        assert_eq!(
            (&got.text, got.rank),
            (&expected.text, expected.rank),
            "{what}"
        );
        assert!(near(got.probability, expected.probability), "{what}");
        assert_eq!(
            got.alternatives.len(),
            expected.alternatives.len(),
            "{what}"
        );
        for (got, expected) in got.alternatives.iter().zip(&expected.alternatives) {
            assert_eq!(
                (got.token, &got.text),
                (expected.token, &expected.text),
                "{what}"
            );
            assert!(near(got.probability, expected.probability), "{what}");
        }
    }
}

/// Two sessions of the same net: with steps in flight, and the oracle.
fn pair<B: Device>(
    make: &dyn Fn() -> B,
    net: &Net,
    lookahead: Lookahead,
    context: usize,
) -> [Session<B>; 2] {
    [lookahead, HOST].map(|lookahead| open(make(), net, lookahead, context))
}

fn options_for_every_read_mode(n_tokens: usize) -> Vec<(&'static str, GenerateOptions)> {
    let drawn = |sampling| GenerateOptions {
        sampling,
        ..greedy(n_tokens)
    };
    let hot = SamplingOptions {
        temperature: 1.5,
        top_p: 0.9,
        min_p: 0.02,
        seed: 3,
        ..SamplingOptions::default()
    };
    let alternatives = |alternatives| GenerateOptions {
        alternatives,
        ..greedy(n_tokens)
    };
    let top_k = |top_k| {
        drawn(SamplingOptions {
            top_k,
            ..hot.clone()
        })
    };
    let unranked = |sampling| GenerateOptions {
        alternatives: 0,
        ..drawn(sampling)
    };
    let penalised = SamplingOptions {
        repetition_penalty: 1.3,
        ..hot.clone()
    };
    let greedy_penalised = SamplingOptions {
        repetition_penalty: 1.3,
        ..greedy(1).sampling
    };
    vec![
        ("greedy", greedy(n_tokens)),
        ("greedy without alternatives", alternatives(0)),
        ("the longest list", alternatives(64)),
        ("more than a top-k list holds", alternatives(65)),
        ("top-k", drawn(hot.clone())),
        ("top-k of one", top_k(1)),
        ("the largest top-k", top_k(64)),
        ("a top-k too large for a list", top_k(65)),
        ("no top-k", top_k(0)),
        ("penalty", drawn(penalised.clone())),
        ("penalty without alternatives", unranked(penalised)),
        ("greedy with a penalty", drawn(greedy_penalised.clone())),
        (
            "greedy with a penalty and without alternatives",
            unranked(greedy_penalised),
        ),
        (
            "tokens of the history are more probable",
            drawn(SamplingOptions {
                repetition_penalty: 0.7,
                ..hot.clone()
            }),
        ),
        (
            "a penalty that f32 does not hold",
            drawn(SamplingOptions {
                repetition_penalty: 1e300,
                ..hot
            }),
        ),
    ]
}

fn check_every_read_mode<B: Device>(make: &dyn Fn() -> B, lookahead: Lookahead) {
    let n_tokens = if B::USES_HOST_MEMORY {
        TOKENS
    } else {
        tokens_of_adapter()
    };
    for net in nets() {
        let [mut ahead, mut host] = pair(make, &net, lookahead, 200);
        for (what, options) in options_for_every_read_mode(n_tokens) {
            let expected = run(&mut host, &net, &options);
            assert_eq!(expected.len(), n_tokens);
            assert_same(what, &run(&mut ahead, &net, &options), &expected);
        }
    }
}

#[test]
fn every_read_mode_gives_the_tokens_and_ranks_of_full_logits() {
    on_both!(check_every_read_mode);
}

/// The device has drawn with the numbers of a seed, and the sampler goes on with those of another one.
fn check_other_draws<B: Device>(make: &dyn Fn() -> B, lookahead: Lookahead) {
    let net = &nets()[0];
    let [mut ahead, mut host] = pair(make, net, lookahead, 200);
    let drawn = |seed| GenerateOptions {
        sampling: SamplingOptions {
            temperature: 1.5,
            seed,
            ..SamplingOptions::default()
        },
        ..greedy(TOKENS)
    };
    // After every number of steps.
    for n in cases_for::<B, _>(1..20) {
        let both = [&mut ahead, &mut host].map(|session| {
            session.start(&net.prompt, drawn(1)).unwrap();
            let first = steps(session, n);
            session.continue_sequence(drawn(2)).unwrap();
            [first, steps(session, usize::MAX)].concat()
        });
        assert_same(&format!("after {n}"), &both[0], &both[1]);
    }
}

#[test]
fn where_the_device_drew_another_token_than_the_sampler_it_goes_back() {
    on_both!(check_other_draws);
}

/// The embedded model's text, drawn with several settings by the device and by the host.
fn check_long_draws<B: Device>(make: &dyn Fn() -> B, lookahead: Lookahead) {
    let net = embedded();
    let [mut ahead, mut host] = pair(make, &net, lookahead, 600);
    for (n, temperature, top_k, top_p, min_p, repetition_penalty, seed, alternatives) in
        cases_for::<B, _>([
            (LONG_TOKENS, 0.7, 40, 0.95, 0.0, 1.0, 42, 0),
            (SHORT_TOKENS, 1.3, 64, 1.0, 0.0, 1.0, 7, 0),
            (SHORT_TOKENS, 1.0, 20, 0.8, 0.1, 1.0, 1, 0),
            (LONG_TOKENS, 0.9, 40, 0.95, 0.0, 1.1, 5, 0),
            (SHORT_TOKENS, 0.0, 0, 1.0, 0.0, 1.2, 0, 0),
            (LONG_TOKENS, 0.9, 40, 0.95, 0.05, 1.1, 6, 5),
        ])
    {
        let n = match lookahead {
            _ if !B::USES_HOST_MEMORY => tokens_of_adapter(),
            TWO => n,
            _ => SHORT_TOKENS,
        };
        let options = GenerateOptions {
            sampling: SamplingOptions {
                temperature,
                top_k,
                top_p,
                min_p,
                seed,
                repetition_penalty,
            },
            alternatives,
            checkpoints: false,
            ..greedy(n)
        };
        let what = format!("{:?}", options.sampling);
        let expected = run(&mut host, &net, &options);
        assert_eq!(expected.len(), n);
        assert_same(&what, &run(&mut ahead, &net, &options), &expected);
    }
}

#[test]
fn a_long_text_drawn_on_the_device_is_that_of_the_host() {
    on_both!(check_long_draws);
}

/// Whatever follows a stop equals what the oracle gives, and continuing equals a run without the stop.
fn check_continues<B: Device>(
    what: &str,
    [ahead, host]: &mut [Session<B>; 2],
    net: &Net,
    ended: &GenerateOptions,
    whole: &[Step],
) {
    let mut both = |then: &dyn Fn(&mut Session<B>)| {
        [&mut *ahead, &mut *host].map(|session| {
            let first = run(session, net, ended);
            let n_read = session.len();
            then(session);
            (first, n_read, steps(session, usize::MAX))
        })
    };
    let n = whole.len();
    let hot = GenerateOptions {
        sampling: SamplingOptions {
            temperature: 1.5,
            ..SamplingOptions::default()
        },
        ..greedy(n)
    };
    let wide = GenerateOptions {
        alternatives: 7,
        ..greedy(n)
    };
    for (then, options) in [("as before", greedy(n)), ("drawn", hot), ("wider", wide)] {
        let what = format!("{what}, then {then}");
        let [got, expected] =
            both(&|session| drop(session.continue_sequence(options.clone()).unwrap()));
        assert_same(&what, &got.0, &expected.0);
        assert_eq!(got.1, expected.1, "{what}");
        assert_same(&what, &got.2, &expected.2);
        if then == "as before" {
            assert_eq!(tokens(&got.2), tokens(&whole[got.0.len()..]), "{what}");
        }
    }
    let other = |session: &mut Session<B>| {
        let index = session.len() - net.prompt.len();
        drop(session.branch(index, 7, greedy(n)).unwrap());
    };
    let [got, expected] = both(&other);
    assert_same(&format!("{what}, then another token"), &got.2, &expected.2);
    let saved = |session: &mut Session<B>| {
        let bytes = block_on(session.snapshot("")).unwrap();
        block_on(session.restore(&bytes)).unwrap();
        drop(session.continue_sequence(greedy(n)).unwrap());
    };
    let [got, expected] = both(&saved);
    assert_same(&format!("{what}, then restored"), &got.2, &expected.2);
}

/// Stops at each token that the net produces for the first time.
fn check_end_tokens<B: Device>(make: &dyn Fn() -> B, lookahead: Lookahead) {
    let net = &nets()[0];
    let mut both = pair(make, net, lookahead, 200);
    let whole = run(&mut both[1], net, &greedy(20));
    let said = tokens(&whole);
    let is_new = |n: &usize| !said[..*n].contains(&said[*n]);
    let places: Vec<usize> = (0..19).filter(is_new).collect();
    assert!(places.len() > 5, "{said:?}");
    for n in cases_for::<B, _>(places) {
        let ended = GenerateOptions {
            end_tokens: vec![said[n]],
            ignore_eos: false,
            ..greedy(20)
        };
        let steps = run(&mut both[0], net, &ended);
        assert_eq!((steps.len(), steps[n].done), (n + 1, Some(StopReason::Eos)));
        check_continues(
            &format!("ended by token {n}"),
            &mut both,
            net,
            &ended,
            &whole,
        );
    }
}

#[test]
fn an_end_token_stops_with_steps_in_flight_and_the_run_can_continue() {
    on_both!(check_end_tokens);
}

fn check_limits<B: Device>(make: &dyn Fn() -> B, lookahead: Lookahead) {
    let net = &nets()[0];
    let mut both = pair(make, net, lookahead, 200);
    let whole = run(&mut both[1], net, &greedy(12));
    for n in cases_for::<B, _>([1, 2, 3, 4, 5, 7, 8, 9, 11]) {
        let what = format!("ended after {n}");
        check_continues(&what, &mut both, net, &greedy(n), &whole);
    }
}

#[test]
fn max_tokens_stops_with_steps_in_flight_and_the_run_can_continue() {
    on_both!(check_limits);
}

fn check_contexts<B: Device>(make: &dyn Fn() -> B, lookahead: Lookahead) {
    let net = &nets()[0];
    for room in cases_for::<B, _>([0, 1, 2, 3, 5, 8, 9]) {
        let both = pair(make, net, lookahead, net.prompt.len() + room);
        let [got, expected] = both.map(|mut session| {
            let steps = run(&mut session, net, &greedy(TOKENS));
            session.continue_sequence(greedy(TOKENS)).unwrap();
            let more = block_on(session.step()).unwrap_err();
            (steps, more.code())
        });
        assert_same(&format!("room for {room}"), &got.0, &expected.0);
        assert_eq!(got.0.len(), room + 1);
        assert_eq!(got.0[room].done, Some(StopReason::Context));
        assert_eq!(got.1, expected.1);
    }
}

#[test]
fn a_full_context_stops_with_steps_in_flight() {
    on_both!(check_contexts);
}

fn check_stop_strings<B: Device>(make: &dyn Fn() -> B, lookahead: Lookahead) {
    let net = embedded();
    let mut both = pair(make, &net, lookahead, 200);
    let whole = run(&mut both[1], &net, &greedy(12));
    let said = text(&whole);
    let ends: Vec<usize> = said
        .char_indices()
        .map(|(at, _)| at)
        .skip(2)
        .step_by(11)
        .collect();
    assert!(ends.len() > 2, "{said:?}");
    for end in cases_for::<B, _>(ends) {
        // Text that has usually not occurred before.
        let start = said[..end]
            .char_indices()
            .rev()
            .nth(3)
            .map_or(0, |(at, _)| at);
        let ended = GenerateOptions {
            stop: vec![said[start..end].into()],
            ..greedy(12)
        };
        let [got, expected] = [0, 1].map(|i| {
            let session = &mut both[i];
            let first = run(session, &net, &ended);
            session.continue_sequence(greedy(12)).unwrap();
            (first, steps(session, 3))
        });
        assert_eq!(got.0.last().unwrap().done, Some(StopReason::Stop));
        let what = format!("ended by {:?}", ended.stop);
        assert_same(&what, &got.0, &expected.0);
        assert_same(&what, &got.1, &expected.1);
    }
}

#[test]
fn a_stop_string_stops_with_steps_in_flight_and_the_run_can_continue() {
    on_both!(check_stop_strings);
}

/// The caller stops calling `step` after some tokens and then does everything else a session can do.
fn check_pauses<B: Device>(make: &dyn Fn() -> B, lookahead: Lookahead) {
    let net = &nets()[0];
    let [mut ahead, mut host] = pair(make, net, lookahead, 200);
    let whole = run(&mut host, net, &greedy(TOKENS));
    let mut other = open(make(), net, lookahead, 200);
    for n in cases_for::<B, _>([1, 2, 3, 5, 8, 9, 33, 37, 40]) {
        let what = format!("paused after {n}");
        let pause = |session: &mut Session<B>| {
            session.start(&net.prompt, greedy(TOKENS)).unwrap();
            assert_same(&what, &steps(session, n), &whole[..n]);
            assert_eq!(session.len(), net.prompt.len() + n - 1, "{what}");
        };
        // Save a snapshot, then continue in this session and in another one.
        pause(&mut ahead);
        let bytes = block_on(ahead.snapshot("")).unwrap();
        assert_same(&what, &steps(&mut ahead, TOKENS - n), &whole[n..]);
        block_on(other.restore(&bytes)).unwrap();
        if n < TOKENS {
            other.continue_sequence(greedy(TOKENS)).unwrap();
            assert_same(&what, &steps(&mut other, TOKENS - n), &whole[n..]);
        }
        // Rewind by some tokens, around a state checkpoint where there is one.
        for index in [n - 1, n / 2, 0] {
            pause(&mut ahead);
            ahead
                .branch(index, whole[index].token, greedy(TOKENS))
                .unwrap();
            while block_on(ahead.replay(3)).unwrap() > 0 {}
            let again = steps(&mut ahead, TOKENS);
            assert_same(&what, &again[1..], &whole[index + 1..]);
            assert_eq!(again[0].token_rank.as_ref().unwrap().rank, 1);
        }
        // Append the caller's own tokens.
        let logits = [&mut ahead, &mut host].map(|session| {
            pause(session);
            block_on(session.append(&[whole[n - 1].token, 5, 6])).unwrap()
        });
        assert_eq!(logits[0], logits[1], "{what}");
    }
}

#[test]
fn a_run_paused_with_steps_in_flight_can_be_saved_branched_appended_to_and_continued() {
    on_both!(check_pauses);
}

/// Each token has the times of its own pass, if they are measured for it, and the profile has every block of every pass
/// once.
fn check_block_times<B: Device>(make: &dyn Fn() -> B, lookahead: Lookahead) {
    let net = embedded();
    let mut session = open(make(), &net, lookahead, 200);
    let n_blocks = session.config().n_blocks();
    for (recording, every) in [(Level::Off, 1), (Level::Off, 5), (Level::Block, 0)] {
        session.set_recording(recording);
        session.set_block_times(every);
        let steps = run(&mut session, &net, &greedy(12));
        assert!(steps[0].blocks_us.is_empty());
        let profile = session.take_profile();
        for (pass, step) in steps.iter().enumerate().skip(1) {
            if every == 5 && pass % 5 != 1 {
                assert!(step.blocks_us.is_empty(), "{step:?}");
                continue;
            }
            assert_eq!(step.blocks_us.len(), n_blocks);
            assert!(step.blocks_us.iter().all(|us| *us > 0.0), "{step:?}");
            let spans = (0..profile.len()).filter(|i| {
                profile.pass[*i] == pass as u32
                    && profile.names[profile.name[*i] as usize].starts_with("layers.")
            });
            let spans_us: Vec<f32> = spans.map(|i| profile.duration_us[i]).collect();
            if recording == Level::Block {
                assert_eq!(spans_us, step.blocks_us);
            }
        }
    }
}

#[test]
fn each_token_has_its_own_block_times() {
    on_both!(check_block_times);
}

/// The adapter's counters over one run.
fn counts(session: &mut Session<WebGpu>, net: &Net, options: &GenerateOptions) -> Counts {
    let before = session.backend().counts();
    assert_eq!(run(session, net, options).len(), options.max_tokens);
    let after = session.backend().counts();
    Counts {
        dispatches: after.dispatches - before.dispatches,
        passes: after.passes - before.passes,
        submissions: after.submissions - before.submissions,
        bind_groups_made: after.bind_groups_made - before.bind_groups_made,
        readbacks: after.readbacks - before.readbacks,
        uploaded_bytes: after.uploaded_bytes - before.uploaded_bytes,
    }
}

#[test]
fn a_token_takes_one_submission_with_one_readback_in_it() {
    let device = match adapter::open(AdapterOptions::default()) {
        Ok(device) => device,
        Err(Error::NoAdapter { fact }) => return println!("SKIPPED: submissions: {fact}"),
        Err(error) => panic!("{error}"),
    };
    let net = &nets()[0];
    let mut session = open(device, net, TWO, 200);
    let n_blocks = session.config().n_blocks() as u64;
    let without_checkpoints = |options: GenerateOptions| GenerateOptions {
        checkpoints: false,
        ..options
    };
    let options = without_checkpoints(greedy(24));
    run(&mut session, net, &options);
    // The blocks of a prompt are submitted one by one.
    let one_by_one = (24, 24 + n_blocks - 1);
    let ahead = counts(&mut session, net, &options);
    assert_eq!((ahead.readbacks, ahead.submissions), one_by_one);
    // Clearing the state of the sequence before is not part of a pass.
    assert_eq!(ahead.passes, ahead.submissions);
    // A prompt's buffers are new; a token reuses the bind groups of the token before.
    let fewer = counts(&mut session, net, &without_checkpoints(greedy(8)));
    assert_eq!(fewer.bind_groups_made, ahead.bind_groups_made);

    // A drawn token takes one dispatch more.
    let drawn = without_checkpoints(GenerateOptions {
        sampling: SamplingOptions::default(),
        ..greedy(24)
    });
    let lists = counts(&mut session, net, &drawn);
    assert_eq!((lists.readbacks, lists.submissions), one_by_one);
    assert_eq!(lists.dispatches, ahead.dispatches + 24);

    session.set_recording(Level::Module);
    let recorded = counts(&mut session, net, &options);
    assert_eq!((recorded.readbacks, recorded.submissions), one_by_one);
    session.set_recording(Level::Off);

    // Reading full logits takes two dispatches less per token.
    session.set_lookahead(HOST);
    let host = counts(&mut session, net, &options);
    assert_eq!((host.readbacks, host.submissions), one_by_one);
    assert_eq!(host.dispatches + 2 * 24, ahead.dispatches);
}

/// How many passes a run has made that none of its tokens needed.
fn n_wasted<B: Device>(session: &mut Session<B>, n_tokens: usize) -> usize {
    let passes = session.take_profile().pass;
    *passes.iter().max().unwrap() as usize - (n_tokens - 1)
}

fn check_waste<B: Device>(make: &dyn Fn() -> B, lookahead: Lookahead) {
    let net = &nets()[0];
    let mut session = open(make(), net, lookahead, 200);
    // The spans of blocks show which passes were made.
    session.set_recording(Level::Block);
    let whole = run(&mut session, net, &greedy(24));
    assert_eq!(
        n_wasted(&mut session, 24),
        0,
        "no step beyond the last token"
    );
    let most = lookahead.max_steps - 1;
    for (n, step) in cases_for::<B, _>(whole.iter().enumerate().take(20).skip(1)) {
        session.start(&net.prompt, greedy(24)).unwrap();
        steps(&mut session, n);
        let n_wasted_by_user = n_wasted(&mut session, n);
        assert!(n_wasted_by_user <= most, "stopped after {n} tokens");
        let ended = GenerateOptions {
            end_tokens: vec![step.token],
            ignore_eos: false,
            ..greedy(24)
        };
        let n_tokens = run(&mut session, net, &ended).len();
        let n_wasted = n_wasted(&mut session, n_tokens);
        assert!(n_wasted <= most, "ended by token {n}");
        assert_eq!(
            n_wasted.min(1),
            usize::from(n_tokens < 24),
            "the device is busy"
        );
    }
}

#[test]
fn a_stop_wastes_the_steps_in_flight_but_one_which_is_one_at_usual_speeds() {
    on_both!(check_waste);
}
