//! Drafts by lookup. The oracle is the same session without drafts: tokens, text, probabilities, ranks, stop reasons
//! and states must be the same, bit for bit. Most tests draft after every match, right or not, so that drafts are
//! rejected in every place.

use std::path::{Path, PathBuf};

use pollster::block_on;
use zamba2::base::error::Error;
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::device::webgpu::AdapterOptions;
use zamba2::folder;
use zamba2::ops::device::Device;
use zamba2::ops::trace::Level;
use zamba2::session::{
    DraftPolicy, GenerateOptions, LoadSettings, NoDrafts, Session, Step, StopReason,
};
use zamba2::text::sampling::{LOOKUP, SamplingOptions, TokenSet};

use crate::adapter;
use crate::support::{self, F32, Golden, goldens};

/// The most drafts of a pass.
const MOST: usize = Cpu::MAX_EXACT_ROWS - 1;

fn open_dir(dir: &Path, weights: WeightFormat, threads: usize, context: usize) -> Session<Cpu> {
    let settings = LoadSettings {
        weights,
        context: Some(context),
        ..F32
    };
    let mut session = folder::open(Cpu::new(threads), dir, settings).unwrap();
    session.set_draft_policy(DraftPolicy::Always);
    session
}

/// The golden net that repeats itself soonest at a low temperature.
fn golden() -> Golden {
    let mut all = goldens().into_iter();
    all.find(|golden| golden.name() == "f16_mixed").unwrap()
}

/// Two sessions of that net.
fn pair(context: usize) -> [Session<Cpu>; 2] {
    let dir = golden().dir;
    [0, 1].map(|_| open_dir(&dir, WeightFormat::Q8, 1, context))
}

fn embedded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("www/models/rustdoc-5m")
}

/// A prompt that repeats itself, so that there are matches from the first token on.
fn repetitive() -> Vec<u32> {
    [5, 17, 40, 9, 22, 5, 17, 40, 33, 9, 22, 5, 17].into()
}

/// Without drafts: what runs with drafts are compared with.
fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        lookup: 0,
        ..support::greedy(max_tokens)
    }
}

fn drafting(options: &GenerateOptions) -> GenerateOptions {
    GenerateOptions {
        lookup: MOST,
        ..options.clone()
    }
}

fn warm(max_tokens: usize, seed: u64) -> GenerateOptions {
    GenerateOptions {
        sampling: SamplingOptions {
            temperature: 0.1,
            seed,
            ..SamplingOptions::default()
        },
        ..greedy(max_tokens)
    }
}

/// At most `n` steps.
fn steps(session: &mut Session<Cpu>, n: usize) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    while steps.len() < n && steps.last().is_none_or(|step| step.done.is_none()) {
        steps.push(block_on(session.step()).unwrap());
    }
    steps
}

fn run(session: &mut Session<Cpu>, prompt: &[u32], options: GenerateOptions) -> Vec<Step> {
    session.start(prompt, options).unwrap();
    steps(session, usize::MAX)
}

/// Drafts, and how many of them were accepted.
fn drafts(steps: &[Step]) -> (usize, usize) {
    let accepted = steps.iter().filter(|step| step.accepted_draft).count();
    (steps.iter().map(|step| step.drafted).sum(), accepted)
}

/// Everything but times and drafts.
fn assert_same(what: &str, got: &[Step], expected: &[Step]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let without = Step {
            us: expected.us,
            blocks_us: expected.blocks_us.clone(),
            drafted: 0,
            accepted_draft: false,
            ..got.clone()
        };
        assert_eq!(&without, expected, "{what}, token {i}");
    }
}

/// Runs with and without drafts, and asserts that nothing differs.
fn assert_drafts_change_nothing(
    what: &str,
    [with, without]: &mut [Session<Cpu>; 2],
    prompt: &[u32],
    options: &GenerateOptions,
) -> Vec<Step> {
    let got = run(with, prompt, drafting(options));
    let expected = run(without, prompt, options.clone());
    assert_eq!(drafts(&expected), (0, 0), "{what}");
    assert_same(what, &got, &expected);
    got
}

/// The whole state: SSM and conv states, keys and values, tokens.
fn state(session: &mut Session<Cpu>) -> Vec<u8> {
    block_on(session.snapshot("")).unwrap()
}

#[test]
fn the_range_of_the_option_is_what_the_cpu_can_verify() {
    assert_eq!(LOOKUP.max, MOST as f64);
    let too_many = GenerateOptions {
        lookup: MOST + 1,
        ..greedy(3)
    };
    let [mut session, _] = pair(100);
    let refused = session.start(&repetitive(), too_many).unwrap_err();
    assert_eq!(refused.code(), "bad_option");
}

/// A limit of memory that weights and cache take up: the run must not fail for the sake of drafts.
#[test]
fn without_memory_for_their_buffers_a_run_goes_on_without_drafts() {
    let open = |memory_limit_bytes| {
        let settings = LoadSettings {
            weights: WeightFormat::Q8,
            context: Some(100),
            memory_limit_bytes,
            ..F32
        };
        folder::open(Cpu::new(1), &golden().dir, settings)
    };
    let Err(Error::Memory { needed_bytes, .. }) = open(Some(0)) else {
        panic!("no memory at all is enough");
    };
    let options = drafting(&greedy(60));
    let [got, expected] = [Some(needed_bytes), None].map(|limit| {
        let mut session = open(limit).unwrap();
        session.set_draft_policy(DraftPolicy::Always);
        let steps = run(&mut session, &repetitive(), options.clone());
        assert_eq!(session.no_drafts(), limit.map(|_| NoDrafts::Memory));
        steps
    });
    assert_eq!(drafts(&got).0, 0);
    assert!(drafts(&expected).0 > 0);
    let tokens = |steps: &[Step]| steps.iter().map(|step| step.token).collect::<Vec<_>>();
    assert_eq!(tokens(&got), tokens(&expected));
}

/// Three of the nets for long, since most of them repeat themselves late; the others are in other formats and shapes.
#[test]
fn two_thousand_greedy_tokens_are_those_without_drafts_and_fewer_of_every_golden_net() {
    let (mut drafted, mut accepted) = (0, 0);
    for golden in goldens() {
        let name = golden.name();
        let n = match &name[..] {
            "legacy_config" | "odd_sizes" | "two_blocks_groups2_rope" => 2000,
            _ => 200,
        };
        let prompt = &golden.ids("input_ids")[..5];
        let mut both = [0, 1].map(|_| open_dir(&golden.dir, WeightFormat::F32, 1, 2048));
        let steps = assert_drafts_change_nothing(&name, &mut both, prompt, &greedy(n));
        assert_eq!(steps.len(), n);
        let (made, kept) = drafts(&steps);
        drafted += made;
        accepted += kept;
        let [with, without] = &mut both;
        assert!(state(with) == state(without), "{name}: the states differ");
    }
    assert!(accepted > 1000, "{accepted} of {drafted}");
    assert!(accepted < drafted, "no draft was rejected");
}

#[test]
fn the_same_seed_gives_the_same_text_in_every_weight_format_and_on_several_threads() {
    let golden = golden();
    for weights in WeightFormat::ALL {
        for threads in [1, 3] {
            let mut both = [0, 1].map(|_| open_dir(&golden.dir, weights, threads, 400));
            for seed in 0..3 {
                let what = format!("{weights:?}, {threads} threads, seed {seed}");
                let options = warm(200, seed);
                let steps = assert_drafts_change_nothing(&what, &mut both, &repetitive(), &options);
                let (drafted, accepted) = drafts(&steps);
                assert!(
                    drafted > accepted && accepted > 0,
                    "{what}: {accepted} of {drafted}"
                );
            }
        }
    }
}

#[test]
fn every_sampling_option_and_the_ranks_are_those_without_drafts() {
    let mut both = pair(400);
    let sampling = |sampling: SamplingOptions| GenerateOptions {
        sampling,
        alternatives: 3,
        ..greedy(120)
    };
    let base = SamplingOptions {
        temperature: 0.9,
        ..SamplingOptions::default()
    };
    for (what, options) in [
        (
            "penalty",
            SamplingOptions {
                repetition_penalty: 1.2,
                ..base.clone()
            },
        ),
        (
            "tokens of the history are more probable",
            SamplingOptions {
                repetition_penalty: 0.8,
                ..base.clone()
            },
        ),
        (
            "greedy with a penalty",
            SamplingOptions {
                temperature: 0.0,
                repetition_penalty: 1.1,
                ..base.clone()
            },
        ),
        (
            "no top-k",
            SamplingOptions {
                top_k: 0,
                top_p: 0.9,
                ..base.clone()
            },
        ),
        ("min-p", SamplingOptions { min_p: 0.1, ..base }),
    ] {
        let options = sampling(options);
        let steps = assert_drafts_change_nothing(what, &mut both, &repetitive(), &options);
        assert!(drafts(&steps).0 > 0, "{what}");
    }
}

/// Wherever a run pauses, with drafts left or not, its state and the logits after it are those without drafts.
#[test]
fn rejected_drafts_leave_the_states_of_plain_decode_steps_bit_for_bit() {
    let [mut with, mut without] = pair(200);
    let options = warm(60, 4);
    let mut ahead = 0;
    for n in 1..40 {
        let pause = |session: &mut Session<Cpu>, options: GenerateOptions| {
            session.start(&repetitive(), options).unwrap();
            let steps = steps(session, n);
            assert_eq!(session.len(), repetitive().len() + n - 1);
            steps
        };
        let got = pause(&mut with, drafting(&options));
        assert_same("before", &got, &pause(&mut without, options.clone()));
        ahead += usize::from(got[n - 1].accepted_draft);
        assert!(state(&mut with) == state(&mut without), "after {n} tokens");
        // The run continues from there.
        let rest = [&mut with, &mut without].map(|session| steps(session, 5));
        assert_same("after", &rest[0], &rest[1]);
        pause(&mut with, drafting(&options));
        pause(&mut without, options.clone());
        let token = got[n - 1].token;
        let logits =
            [&mut with, &mut without].map(|session| block_on(session.append(&[token, 3])).unwrap());
        assert_eq!(logits[0], logits[1], "after {n} tokens");
    }
    assert!(ahead > 3, "{ahead} pauses were within an accepted draft");
}

/// dt is bounded in prefill only, in this net by a bound that changes the text.
#[test]
fn rows_of_drafts_have_the_dt_of_decode_steps() {
    let all = goldens();
    let clamped = all.iter().find(|golden| golden.name() == "dt_clamp");
    let dir = &clamped.unwrap().dir;
    let mut both = [0, 1].map(|_| open_dir(dir, WeightFormat::F32, 1, 300));
    let steps = assert_drafts_change_nothing("", &mut both, &repetitive(), &greedy(200));
    assert!(drafts(&steps).1 > 0);
}

/// χ² of what is sampled after an accepted draft, over 4,000 seeds. The probabilities are those of the logits of a
/// decode step, computed here.
#[test]
fn the_token_after_an_accepted_draft_has_the_distribution_of_the_model() {
    const SEEDS: u64 = 4000;
    // A net that is less certain than the other one.
    let mut session = open_dir(&goldens()[0].dir, WeightFormat::Q8, 1, 100);
    let sampling = |seed| SamplingOptions {
        temperature: 0.7,
        top_p: 1.0,
        top_k: 0,
        seed,
        ..SamplingOptions::default()
    };
    let mut distribution = |tokens: &[u32]| -> Vec<f64> {
        let (last, prompt) = tokens.split_last().unwrap();
        session.start(prompt, greedy(1)).unwrap();
        block_on(session.step()).unwrap();
        let logits = block_on(session.append(&[*last])).unwrap();
        let weights: Vec<f64> = logits.iter().map(|l| (f64::from(*l) / 0.7).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|weight| weight / sum).collect()
    };
    // A prompt with a draft that is often accepted: the token after the pair 8, 9, and then the drafted one.
    let prompt_of = |draft: u32| vec![5, 8, 9, draft, 7, 11, 8];
    let with = |draft: u32| [prompt_of(draft), vec![9]].concat();
    let often = |draft: &u32| (distribution(&with(*draft))[*draft as usize] * 1e9) as u64;
    let draft = (12..96).max_by_key(often).unwrap();
    let after_draft = distribution(&[with(draft), vec![draft]].concat());

    let mut counts = vec![0u64; after_draft.len()];
    for seed in 0..SEEDS {
        let options = GenerateOptions {
            sampling: sampling(seed),
            ..greedy(3)
        };
        // The last token of the prompt is forced, so that it is read by a decode step.
        session
            .adopt(&prompt_of(draft), &[9], drafting(&options))
            .unwrap();
        assert_eq!(block_on(session.replay(usize::MAX)).unwrap(), 0);
        let first = block_on(session.step()).unwrap();
        assert!(first.drafted > 0);
        if first.accepted_draft {
            let second = block_on(session.step()).unwrap();
            assert_eq!(second.drafted, 0, "its logits are those of the first pass");
            counts[second.token as usize] += 1;
        }
    }
    let n: u64 = counts.iter().sum();
    assert!(n > 500, "{n} drafts were accepted");
    // Tokens that are expected fewer than five times are one class, as usual.
    let (mut chi2, mut n_classes) = (0.0, 0.0);
    let (mut rare_expected, mut rare_count) = (0.0, 0.0);
    for (probability, count) in after_draft.iter().zip(counts) {
        let expected = probability * n as f64;
        if expected < 5.0 {
            rare_expected += expected;
            rare_count += count as f64;
        } else {
            chi2 += (count as f64 - expected).powi(2) / expected;
            n_classes += 1.0;
        }
    }
    if rare_expected > 0.0 {
        chi2 += (rare_count - rare_expected).powi(2) / rare_expected;
        n_classes += 1.0;
    }
    // Mean and standard deviation of χ² are the degrees of freedom f and √2f.
    let freedom: f64 = n_classes - 1.0;
    assert!(freedom > 5.0, "{n_classes} classes");
    let limit = freedom + 3.5 * (2.0 * freedom).sqrt();
    assert!(chi2 < limit, "χ² {chi2}, {freedom} degrees of freedom");
}

/// Stops where the text without drafts has each of its characters, also in the middle of an accepted draft.
#[test]
fn stop_strings_end_the_text_where_they_do_without_drafts() {
    let mut both = [0, 1].map(|_| open_dir(&embedded(), WeightFormat::Q8, 1, 300));
    let tokenizer = both[0].tokenizer().unwrap();
    let text = "let a = b.len(); let c = b.len(); let d = b.len(); let";
    let prompt = tokenizer.encode(text, true).unwrap();
    let whole = assert_drafts_change_nothing("whole", &mut both, &prompt, &greedy(60));
    assert!(drafts(&whole).1 > 0);
    let said: String = whole.iter().map(|step| &step.text[..]).collect();
    let ends: Vec<usize> = said.char_indices().map(|(at, _)| at).collect();
    for end in ends.into_iter().skip(3).step_by(5) {
        let start = said[..end].char_indices().rev().nth(2);
        let stop = &said[start.map_or(0, |(at, _)| at)..end];
        let options = GenerateOptions {
            stop: vec![stop.into()],
            ..greedy(60)
        };
        let steps = assert_drafts_change_nothing(stop, &mut both, &prompt, &options);
        assert_eq!(
            steps.last().unwrap().done,
            Some(StopReason::Stop),
            "{stop:?}"
        );
        // And the text can be continued.
        let more = both.each_mut().map(|session| {
            session.continue_sequence(greedy(70)).unwrap();
            self::steps(session, 5)
        });
        assert_same(stop, &more[0], &more[1]);
    }
}

/// Does `act`, which gets the value of `lookup`, with and without drafts, and asserts that no step differs.
fn assert_both(
    what: &str,
    [with, without]: &mut [Session<Cpu>; 2],
    act: &dyn Fn(&mut Session<Cpu>, usize) -> Vec<Step>,
) -> Vec<Step> {
    let (got, expected) = (act(with, MOST), act(without, 0));
    assert_same(what, &got, &expected);
    got
}

/// Each token that the text takes from a draft ends it once; then comes everything that can follow.
#[test]
fn an_end_token_inside_a_draft_ends_the_text_and_what_follows_is_as_without_drafts() {
    let mut both = pair(300);
    let options = |lookup| GenerateOptions {
        lookup,
        ..warm(60, 4)
    };
    let whole = assert_drafts_change_nothing("whole", &mut both, &repetitive(), &options(0));
    let mut n_inside = 0;
    for n in (0..50).filter(|&n| whole[n].accepted_draft) {
        let end = whole[n].token;
        // A draft has only tokens that were there before, so the run goes on after the last of them.
        let before = whole[..n].iter().rposition(|step| step.token == end);
        let ended = |session: &mut Session<Cpu>, lookup| {
            session.start(&repetitive(), options(lookup)).unwrap();
            let first = steps(session, before.map_or(0, |before| before + 1));
            let ended = GenerateOptions {
                end_tokens: vec![end],
                ignore_eos: false,
                ..options(lookup)
            };
            session.continue_sequence(ended).unwrap();
            [first, steps(session, usize::MAX)].concat()
        };
        let what = |then: &str| format!("ended by token {n}, {then}");
        let got = assert_both(&what(""), &mut both, &ended);
        let last = got.last().unwrap();
        assert_eq!(last.done, Some(StopReason::Eos));
        n_inside += usize::from(last.accepted_draft);

        assert_both(&what("continued"), &mut both, &|session, lookup| {
            session.continue_sequence(options(lookup)).unwrap();
            steps(session, 10)
        });
        assert_both(&what("branched"), &mut both, &|session, lookup| {
            ended(session, lookup);
            session.branch(n / 2, 7, options(lookup)).unwrap();
            steps(session, 10)
        });
        assert_both(&what("restored"), &mut both, &|session, lookup| {
            ended(session, lookup);
            let bytes = state(session);
            block_on(session.restore(&bytes)).unwrap();
            session.continue_sequence(options(lookup)).unwrap();
            steps(session, 10)
        });
        // The next prompt continues from the state, without the end token.
        let said = got[..got.len() - 1].iter().map(|step| step.token);
        let next: Vec<u32> = repetitive().into_iter().chain(said).chain([3, 4]).collect();
        assert_both(&what("next prompt"), &mut both, &|session, lookup| {
            ended(session, lookup);
            let n_cached = session.start(&next, options(lookup)).unwrap();
            assert_eq!(n_cached, next.len() - 2);
            steps(session, 10)
        });
    }
    assert!(n_inside > 0, "no end token was drafted");
}

#[test]
fn lengths_and_a_full_context_end_the_text_where_they_do_without_drafts() {
    for n in 1..16 {
        let mut both = pair(repetitive().len() + 20);
        let what = format!("at most {n}");
        let steps = assert_drafts_change_nothing(&what, &mut both, &repetitive(), &greedy(n));
        assert_eq!(
            (steps.len(), steps[n - 1].done),
            (n, Some(StopReason::Length))
        );
        let mut both = pair(repetitive().len() + n);
        let what = format!("room for {n}");
        let steps = assert_drafts_change_nothing(&what, &mut both, &repetitive(), &greedy(99));
        assert_eq!(
            (steps.len(), steps[n].done),
            (n + 1, Some(StopReason::Context))
        );
        let full = block_on(both[0].step()).unwrap_err();
        assert_eq!(full.code(), "out_of_order");
        let refused = [MOST, 0].map(|lookup| {
            let session = &mut both[usize::from(lookup == 0)];
            let options = GenerateOptions {
                lookup,
                ..greedy(99)
            };
            session.continue_sequence(options).unwrap();
            block_on(session.step()).unwrap_err()
        });
        assert_eq!(refused[0], refused[1]);
    }
}

/// The sets of a grammar change with each token, here by the number of tokens, so that some drafts are not allowed.
#[test]
fn allowed_tokens_are_those_of_each_token_also_within_a_draft() {
    let mut both = pair(300);
    let options = GenerateOptions {
        grammar: Some(String::new()),
        ..greedy(100)
    };
    let [got, expected] = [MOST, 0].map(|lookup| {
        let session = &mut both[usize::from(lookup == 0)];
        let options = GenerateOptions {
            lookup,
            ..options.clone()
        };
        session.start(&repetitive(), options).unwrap();
        let steps = (0..100).map(|i| {
            // Mostly all tokens; sometimes the even or the odd ones. Never the end token.
            let words = match i % 13 {
                5 => [0x5555_5551; 4],
                11 => [0xaaaa_aaaa; 4],
                _ => [0xffff_fff0, !0, !0, !0],
            };
            let allowed = TokenSet::from_words(words.into());
            block_on(session.step_among(Some(&allowed))).unwrap()
        });
        steps.collect::<Vec<Step>>()
    });
    assert_same("allowed", &got, &expected);
    let (drafted, accepted) = drafts(&got);
    assert!(
        drafted > accepted && accepted > 0,
        "{accepted} of {drafted}"
    );
}

/// A branch goes back to a checkpoint, which is kept at the same places as without drafts.
#[test]
fn state_checkpoints_within_an_answer_are_kept_with_drafts() {
    let mut both = pair(300);
    let options = GenerateOptions {
        checkpoints: true,
        ..greedy(150)
    };
    assert_drafts_change_nothing("", &mut both, &repetitive(), &options);
    let bytes = both.each_ref().map(|session| session.checkpoints_bytes());
    assert_eq!(bytes[0], bytes[1]);
    assert!(bytes[0] >= 5 * both[0].checkpoint_bytes());
    for index in [140, 70, 40] {
        let [with, without] = &mut both;
        let branched = [(with, drafting(&options)), (without, options.clone())];
        let branched = branched.map(|(session, options)| {
            session.branch(index, 7, options).unwrap();
            let n_left = block_on(session.replay(0)).unwrap();
            (n_left, steps(session, 20))
        });
        assert!(branched[0].0 < 32, "{}", branched[0].0);
        assert_same("branched", &branched[0].1, &branched[1].1);
    }
}

#[test]
fn a_pass_has_block_times_and_its_accepted_drafts_have_none() {
    let [mut session, _] = pair(300);
    let n_blocks = session.config().n_blocks();
    let steps = run(&mut session, &repetitive(), drafting(&warm(100, 4)));
    assert!(steps[0].blocks_us.is_empty());
    for two in steps.windows(2) {
        let has_pass = !two[0].accepted_draft;
        assert_eq!(two[1].blocks_us.len(), if has_pass { n_blocks } else { 0 });
        assert!(has_pass || two[1].drafted == 0);
    }
    assert!(drafts(&steps).1 > 10);
}

#[test]
fn nothing_is_drafted_while_a_profile_is_recorded() {
    let [mut session, _] = pair(300);
    session.set_recording(Level::Module);
    let steps = run(&mut session, &repetitive(), drafting(&greedy(60)));
    assert_eq!(drafts(&steps), (0, 0));
    let passes = session.take_profile().pass;
    assert_eq!(
        passes.last(),
        Some(&59),
        "one pass per token after the first"
    );
}

/// Before the first pass over drafts no time is known, so where it is made does not depend on the machine; how many
/// follow does.
#[test]
fn by_default_the_first_draft_is_made_where_more_than_two_tokens_repeat_themselves() {
    let mut both = pair(300);
    both[0].set_draft_policy(DraftPolicy::default());
    let steps = assert_drafts_change_nothing("", &mut both, &repetitive(), &warm(200, 4));
    let first = steps.iter().position(|step| step.drafted > 0).unwrap();
    let mut before = repetitive();
    before.extend(steps[..first].iter().map(|step| step.token));
    let last = &before[before.len() - 3..];
    let earlier = &before[..before.len() - 1];
    assert!(
        earlier.windows(3).any(|three| three == last),
        "{first}: {last:?}"
    );
}

#[test]
fn a_graphics_adapter_drafts_nothing() {
    let device = match adapter::open(AdapterOptions::default()) {
        Ok(device) => device,
        Err(Error::NoAdapter { fact }) => return println!("SKIPPED: {fact}"),
        Err(error) => panic!("{error}"),
    };
    let settings = LoadSettings {
        context: Some(100),
        ..F32
    };
    let mut session = folder::open(device, &golden().dir, settings).unwrap();
    session.set_draft_policy(DraftPolicy::Always);
    session.start(&repetitive(), drafting(&greedy(30))).unwrap();
    for _ in 0..30 {
        let step = block_on(session.step()).unwrap();
        assert_eq!((step.drafted, step.accepted_draft), (0, false));
    }
    assert_eq!(session.no_drafts(), Some(NoDrafts::Device));
}
