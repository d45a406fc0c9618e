//! Tokens that the device chooses before they are read, and lists that are read in the place of all logits. The oracle is
//! the same backend when it reads all logits of every token and the host chooses: the same tokens, texts, ends and
//! standings. On the processor, which has no use for it but does the same, and on whatever adapter this machine has;
//! without any, each test says that this half was skipped.

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

/// Sums and exponentials of f32 over the vocabulary, where the host has f64.
const PROBABILITY: f64 = 1e-5;
/// Past the second checkpoint, which is kept after 32 tokens.
const TOKENS: usize = 40;
/// The prefill's token is read alone, and then one, two, four and eight at once.
const FIRST_OF_READING: [usize; 8] = [0, 1, 2, 4, 8, 16, 24, 32];
const HOST: Lookahead = Lookahead {
    max_steps: 1,
    max_read_us: 0.0,
};
/// Whatever the speed, so that it is known which tokens come together.
const BURSTS: Lookahead = Lookahead {
    max_steps: 8,
    max_read_us: f64::INFINITY,
};

/// A checkpoint with a context, and the prompt that it goes on from.
struct Net {
    dir: PathBuf,
    prompt: Vec<u32>,
}

/// One with shared blocks, rotation and adapters, and one without. Each run reads its prompt anew, so it is short.
fn nets() -> Vec<Net> {
    let nets = goldens().into_iter().take(2);
    let net = |golden: Golden| Net {
        prompt: golden.ids("input_ids")[..5].to_vec(),
        dir: golden.dir,
    };
    nets.map(net).collect()
}

/// It has a tokenizer.
fn embedded() -> Net {
    Net {
        dir: Path::new(env!("CARGO_MANIFEST_DIR")).join("www/models/rustdoc-5m"),
        prompt: vec![1, 300, 301],
    }
}

fn open<B: Device>(be: B, net: &Net, lookahead: Lookahead, context: usize) -> Session<B> {
    let settings = zamba2::session::LoadSettings {
        weights: WeightFormat::Q8,
        context: Some(context),
        numeric: NumericSettings::default(),
        memory_limit_bytes: None,
    };
    let mut session = folder::open(be, &net.dir, settings).unwrap();
    session.set_lookahead(lookahead);
    session
}

/// `check` with what makes the processor's backend, and then with what makes an adapter's, if there is one.
macro_rules! on_both {
    ($check:ident) => {{
        $check(&|| Cpu::new(1));
        match adapter::open(AdapterOptions::default()) {
            Ok(_) => $check(&|| adapter::open(AdapterOptions::default()).unwrap()),
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
        ..GenerateOptions::default()
    }
}

/// At most `n` steps.
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

/// Two sessions of the same net: what is asked, and the oracle.
fn pair<B: Device>(make: &dyn Fn() -> B, net: &Net, context: usize) -> [Session<B>; 2] {
    [BURSTS, HOST].map(|lookahead| open(make(), net, lookahead, context))
}

fn options_of_every_reading() -> Vec<(&'static str, GenerateOptions)> {
    let drawn = |sampling| GenerateOptions {
        sampling,
        ..greedy(TOKENS)
    };
    let hot = SamplingOptions {
        temperature: 1.5,
        top_k: 40,
        top_p: 0.9,
        min_p: 0.02,
        repetition_penalty: 1.0,
        seed: 3,
    };
    let alternatives = |alternatives| GenerateOptions {
        alternatives,
        ..greedy(TOKENS)
    };
    vec![
        ("greedy", greedy(TOKENS)),
        ("greedy without alternatives", alternatives(0)),
        ("the longest list", alternatives(64)),
        ("more than a list", alternatives(65)),
        ("top-k", drawn(hot.clone())),
        (
            "one of one",
            drawn(SamplingOptions {
                top_k: 1,
                ..hot.clone()
            }),
        ),
        (
            "the largest top-k",
            drawn(SamplingOptions {
                top_k: 64,
                ..hot.clone()
            }),
        ),
        (
            "a larger one",
            drawn(SamplingOptions {
                top_k: 65,
                ..hot.clone()
            }),
        ),
        (
            "no top-k",
            drawn(SamplingOptions {
                top_k: 0,
                ..hot.clone()
            }),
        ),
        (
            "penalty",
            drawn(SamplingOptions {
                repetition_penalty: 1.3,
                ..hot
            }),
        ),
        (
            "greedy with a penalty",
            drawn(SamplingOptions {
                repetition_penalty: 1.3,
                ..greedy(1).sampling
            }),
        ),
    ]
}

fn check_every_reading<B: Device>(make: &dyn Fn() -> B) {
    for net in nets() {
        let [mut bursts, mut host] = pair(make, &net, 200);
        for (what, options) in options_of_every_reading() {
            let expected = run(&mut host, &net, &options);
            assert_eq!(expected.len(), TOKENS);
            assert_same(what, &run(&mut bursts, &net, &options), &expected);
        }
    }
}

#[test]
fn every_way_of_reading_gives_the_tokens_and_standings_of_all_logits() {
    on_both!(check_every_reading);
}

/// What can come after an end is the same as after the oracle's, and as if there had been no end.
fn check_goes_on<B: Device>(
    what: &str,
    [bursts, host]: &mut [Session<B>; 2],
    net: &Net,
    ended: &GenerateOptions,
    whole: &[Step],
) {
    let mut both = |then: &dyn Fn(&mut Session<B>)| {
        [&mut *bursts, &mut *host].map(|session| {
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

/// A token that comes for the first time at each place of a reading, as far as the net says new ones.
fn check_end_tokens<B: Device>(make: &dyn Fn() -> B) {
    let net = &nets()[0];
    let mut both = pair(make, net, 200);
    let whole = run(&mut both[1], net, &greedy(20));
    let said = tokens(&whole);
    let is_new = |n: &usize| !said[..*n].contains(&said[*n]);
    let places: Vec<usize> = (0..19).filter(is_new).collect();
    assert!(
        places.len() > 5 && places.iter().any(|n| !FIRST_OF_READING.contains(n)),
        "{said:?}"
    );
    for n in places {
        let ended = GenerateOptions {
            end_tokens: vec![said[n]],
            ignore_eos: false,
            ..greedy(20)
        };
        let steps = run(&mut both[0], net, &ended);
        assert_eq!((steps.len(), steps[n].done), (n + 1, Some(StopReason::Eos)));
        check_goes_on(
            &format!("ended by token {n}"),
            &mut both,
            net,
            &ended,
            &whole,
        );
    }
}

#[test]
fn an_end_token_ends_at_every_place_of_a_burst_and_the_run_can_go_on() {
    on_both!(check_end_tokens);
}

fn check_limits<B: Device>(make: &dyn Fn() -> B) {
    let net = &nets()[0];
    let mut both = pair(make, net, 200);
    let whole = run(&mut both[1], net, &greedy(12));
    for n in [1, 2, 3, 4, 5, 7, 8, 9, 11] {
        let what = format!("ended after {n}");
        check_goes_on(&what, &mut both, net, &greedy(n), &whole);
    }
}

#[test]
fn max_tokens_ends_at_every_place_of_a_burst_and_the_run_can_go_on() {
    on_both!(check_limits);
}

fn check_contexts<B: Device>(make: &dyn Fn() -> B) {
    let net = &nets()[0];
    for room in [0, 1, 2, 3, 5, 8, 9] {
        let both = pair(make, net, net.prompt.len() + room);
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
fn a_full_context_ends_at_every_place_of_a_burst() {
    on_both!(check_contexts);
}

fn check_stop_strings<B: Device>(make: &dyn Fn() -> B) {
    let net = embedded();
    let mut both = pair(make, &net, 200);
    let whole = run(&mut both[1], &net, &greedy(12));
    let said = text(&whole);
    let ends: Vec<usize> = said
        .char_indices()
        .map(|(at, _)| at)
        .skip(2)
        .step_by(11)
        .collect();
    assert!(ends.len() > 2, "{said:?}");
    for end in ends {
        // Up to here it has not been said before, as a rule.
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
fn a_stop_string_ends_within_a_burst_and_the_run_can_go_on() {
    on_both!(check_stop_strings);
}

/// The caller stops calling, and then does each thing that it can do, at every place of a burst.
fn check_pauses<B: Device>(make: &dyn Fn() -> B) {
    let net = &nets()[0];
    let [mut bursts, mut host] = pair(make, net, 200);
    let whole = run(&mut host, net, &greedy(TOKENS));
    let mut other = open(make(), net, BURSTS, 200);
    for n in [1, 2, 3, 5, 8, 9, 33, 37, 40] {
        let what = format!("paused after {n}");
        let pause = |session: &mut Session<B>| {
            session.start(&net.prompt, greedy(TOKENS)).unwrap();
            assert_same(&what, &steps(session, n), &whole[..n]);
            assert_eq!(session.len(), net.prompt.len() + n - 1, "{what}");
        };
        // Saved, and gone on here and there.
        pause(&mut bursts);
        let bytes = block_on(bursts.snapshot("")).unwrap();
        assert_same(&what, &steps(&mut bursts, TOKENS - n), &whole[n..]);
        block_on(other.restore(&bytes)).unwrap();
        if n < TOKENS {
            other.continue_sequence(greedy(TOKENS)).unwrap();
            assert_same(&what, &steps(&mut other, TOKENS - n), &whole[n..]);
        }
        // Back to some tokens before, around a checkpoint where there is one.
        for index in [n - 1, n / 2, 0] {
            pause(&mut bursts);
            bursts
                .branch(index, whole[index].token, greedy(TOKENS))
                .unwrap();
            while block_on(bursts.replay(3)).unwrap() > 0 {}
            let again = steps(&mut bursts, TOKENS);
            assert_same(&what, &again[1..], &whole[index + 1..]);
            assert_eq!(again[0].token_rank.as_ref().unwrap().rank, 1);
        }
        // The sequence goes on with tokens from elsewhere.
        let logits = [&mut bursts, &mut host].map(|session| {
            pause(session);
            block_on(session.append(&[whole[n - 1].token, 5, 6])).unwrap()
        });
        assert_eq!(logits[0], logits[1], "{what}");
    }
}

#[test]
fn a_run_that_is_left_in_a_burst_is_saved_branched_extended_and_gone_on_with() {
    on_both!(check_pauses);
}

/// Each token has the times of its own pass, and the record has every block of every pass once.
fn check_block_times<B: Device>(make: &dyn Fn() -> B) {
    let net = embedded();
    let mut session = open(make(), &net, BURSTS, 200);
    let n_blocks = session.config().n_blocks();
    for recording in [Level::Off, Level::Block] {
        session.set_recording(recording);
        let steps = run(&mut session, &net, &greedy(12));
        assert!(steps[0].blocks_us.is_empty());
        let profile = session.take_profile();
        for (pass, step) in steps.iter().enumerate().skip(1) {
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
fn each_token_of_a_burst_has_its_own_block_times() {
    on_both!(check_block_times);
}

/// What the adapter did for a run of `n` tokens.
fn counts(session: &mut Session<WebGpu>, net: &Net, options: &GenerateOptions) -> Counts {
    let before = session.backend().counts();
    assert_eq!(run(session, net, options).len(), options.max_tokens);
    let after = session.backend().counts();
    Counts {
        dispatches: after.dispatches - before.dispatches,
        submissions: after.submissions - before.submissions,
        bind_groups_made: after.bind_groups_made - before.bind_groups_made,
        readbacks: after.readbacks - before.readbacks,
    }
}

#[test]
fn a_burst_is_one_submission_for_each_token_and_one_reading() {
    let be = match adapter::open(AdapterOptions::default()) {
        Ok(be) => be,
        Err(Error::NoAdapter { fact }) => return println!("SKIPPED: bursts: {fact}"),
        Err(error) => panic!("{error}"),
    };
    let net = &nets()[0];
    let mut session = open(be, net, BURSTS, 200);
    let without_checkpoints = |options: GenerateOptions| GenerateOptions {
        checkpoints: false,
        ..options
    };
    let options = without_checkpoints(greedy(24));
    run(&mut session, net, &options);
    // 1 + 1 + 2 + 4 + 8 + 8 tokens; the head and the list after the last of them go with the reading.
    let bursts = counts(&mut session, net, &options);
    assert_eq!((bursts.readbacks, bursts.submissions), (6, 24 + 6));
    // A prompt has new memory; a token finds the bind groups of the token before.
    let fewer = counts(&mut session, net, &without_checkpoints(greedy(8)));
    assert_eq!(fewer.bind_groups_made, bursts.bind_groups_made);

    // One by one where the host draws, where a recording is to have each token alone, and where a token takes too long.
    let drawn = without_checkpoints(GenerateOptions {
        sampling: SamplingOptions::default(),
        ..greedy(24)
    });
    let one_by_one = (24, 2 * 24);
    let lists = counts(&mut session, net, &drawn);
    assert_eq!((lists.readbacks, lists.submissions), one_by_one);
    assert_eq!(lists.dispatches, bursts.dispatches);
    session.set_recording(Level::Module);
    let recorded = counts(&mut session, net, &options);
    assert_eq!((recorded.readbacks, recorded.submissions), one_by_one);
    session.set_recording(Level::Off);
    session.set_lookahead(Lookahead {
        max_read_us: 0.0,
        ..BURSTS
    });
    let slow = counts(&mut session, net, &options);
    assert_eq!((slow.readbacks, slow.submissions), one_by_one);

    // The host's own way has two kernels less for each token.
    session.set_lookahead(HOST);
    let host = counts(&mut session, net, &options);
    assert_eq!((host.readbacks, host.submissions), one_by_one);
    assert_eq!(host.dispatches + 2 * 24, bursts.dispatches);
}
