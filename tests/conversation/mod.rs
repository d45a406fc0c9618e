//! Prompts that continue the sequence before them. The oracle is the same prompt in a session that has read nothing:
//! the same greedy text, and after a rewind or a restore the same bits.

mod command_line;

use std::path::{Path, PathBuf};

use pollster::block_on;
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::folder;
use zamba2::model::NumericSettings;
use zamba2::session::{GenerateOptions, LoadSettings, Lookahead, Session, Step, StopReason};
use zamba2::text::sampling::SamplingOptions;

use crate::support::{Golden, goldens, greedy, max_difference};

const CONTEXT: usize = 400;
const MESSAGE: usize = 9;
const ANSWER: usize = 12;
/// As many steps in flight at any speed.
const IN_FLIGHT: Lookahead = Lookahead {
    min_steps: 2,
    max_steps: 2,
};

fn open_with(dir: &Path, weights: WeightFormat, numeric: NumericSettings) -> Session<Cpu> {
    let settings = LoadSettings {
        weights,
        context: Some(CONTEXT),
        numeric,
        memory_limit_bytes: None,
    };
    folder::open(Cpu::new(1), dir, settings).unwrap()
}

fn open(dir: &Path) -> Session<Cpu> {
    open_with(dir, WeightFormat::F32, NumericSettings::default())
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn embedded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("www/models/rustdoc-5m")
}

/// As [`greedy`], but each token is drawn, so that a random stream out of step shows.
fn drawn(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        sampling: SamplingOptions {
            temperature: 1.2,
            top_k: 0,
            top_p: 1.0,
            ..SamplingOptions::default()
        },
        ..greedy(max_tokens)
    }
}

/// All steps up to the end, without their times.
fn steps(session: &mut Session<Cpu>) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    while steps.last().is_none_or(|step| step.done.is_none()) {
        steps.push(Step {
            us: 0.0,
            blocks_us: Vec::new(),
            ..block_on(session.step()).unwrap()
        });
    }
    steps
}

fn tokens(steps: &[Step]) -> Vec<u32> {
    steps.iter().map(|step| step.token).collect()
}

/// How many tokens of the prompt were cached, and the answer.
fn ask(session: &mut Session<Cpu>, prompt: &[u32]) -> (usize, Vec<u32>) {
    let n_cached = session.start(prompt, greedy(ANSWER)).unwrap();
    (n_cached, tokens(&steps(session)))
}

/// The answer of a session that has read nothing before.
fn ask_afresh(session: &mut Session<Cpu>, prompt: &[u32]) -> Vec<u32> {
    session.reset();
    let (n_cached, answer) = ask(session, prompt);
    assert_eq!(n_cached, 0);
    answer
}

/// Message number `turn` of a conversation.
fn message(turn: usize, vocab_size: usize) -> Vec<u32> {
    let ids = (0..MESSAGE).map(|i| (3 + 31 * turn + 17 * i) % vocab_size);
    ids.map(|id| id as u32).collect()
}

/// A conversation of `turns` in one session: the last prompt, and where each prompt and each answer ended.
fn converse(session: &mut Session<Cpu>, turns: usize) -> (Vec<u32>, Vec<usize>, Vec<usize>) {
    let vocab_size = session.config().vocab_size;
    let mut history = Vec::new();
    let (mut prompt_ends, mut answer_ends) = (Vec::new(), Vec::new());
    for turn in 0..turns {
        history.extend(message(turn, vocab_size));
        prompt_ends.push(history.len());
        let (_, answer) = ask(session, &history);
        history.extend(answer);
        answer_ends.push(history.len());
    }
    (history, prompt_ends, answer_ends)
}

/// Five turns, each asked once more in a session that has read nothing: how many answers differ. Each turn must have
/// all cached but the message and the last token of the answer before it, which no step has read; with `rereads`, all
/// but the message and the answer.
fn compare(dir: &Path, weights: WeightFormat, numeric: NumericSettings, rereads: bool) -> usize {
    let [mut session, mut fresh] = [0, 1].map(|_| open_with(dir, weights, numeric));
    let vocab_size = session.config().vocab_size;
    let (mut history, mut n_before, mut n_different) = (Vec::new(), 0, 0);
    for turn in 0..5 {
        history.extend(message(turn, vocab_size));
        let options = GenerateOptions {
            reread_answers: rereads,
            ..greedy(ANSWER)
        };
        let n_cached = session.start(&history, options).unwrap();
        let answer = tokens(&steps(&mut session));
        let expected = match (turn, rereads) {
            (0, _) => 0,
            (_, false) => history.len() - MESSAGE - 1,
            (_, true) => n_before,
        };
        assert_eq!(
            n_cached,
            expected,
            "{} {weights:?}, turn {turn}",
            dir.display()
        );
        n_different += usize::from(answer != ask_afresh(&mut fresh, &history));
        n_before = history.len();
        history.extend(answer);
    }
    n_different
}

#[test]
fn with_the_same_bound_of_dt_in_steps_and_prefills_every_net_says_what_a_fresh_read_says() {
    for golden in goldens() {
        let config = folder::read_config(&golden.dir).unwrap();
        let numeric = NumericSettings {
            dt_min_step: Some(config.time_step_min),
            ..NumericSettings::default()
        };
        let n_different = compare(&golden.dir, WeightFormat::F32, numeric, false);
        assert_eq!(n_different, 0, "{}", golden.name());
    }
}

#[test]
fn with_answers_read_again_every_net_says_what_a_fresh_read_says() {
    let numeric = NumericSettings::default();
    for golden in goldens() {
        let n_different = compare(&golden.dir, WeightFormat::F32, numeric, true);
        assert_eq!(n_different, 0, "{}", golden.name());
    }
    let n_different = compare(&embedded(), WeightFormat::Q8, numeric, true);
    assert_eq!(n_different, 0);
}

#[test]
fn with_the_reference_s_bounds_the_embedded_model_says_what_a_fresh_read_says() {
    for weights in [WeightFormat::F32, WeightFormat::Q8] {
        let n_different = compare(&embedded(), weights, NumericSettings::default(), false);
        assert_eq!(n_different, 0, "{weights:?}");
    }
}

#[test]
fn where_the_bounds_of_dt_are_far_apart_answers_are_read_again_without_being_asked_for() {
    let dir = fixture("dt_clamp");
    let mut session = open(&dir);
    let prompt = message(0, session.config().vocab_size);
    let (_, answer) = ask(&mut session, &prompt);
    let next = [&prompt[..], &answer, &[5, 6]].concat();
    assert_eq!(session.start(&next, greedy(1)).unwrap(), prompt.len());
}

#[test]
fn with_the_reference_s_bounds_few_answers_of_random_nets_differ_from_a_fresh_read() {
    let near = goldens()
        .into_iter()
        .filter(|golden| golden.name() != "dt_clamp");
    let near: Vec<Golden> = near.collect();
    let numeric = NumericSettings::default();
    for weights in [WeightFormat::F32, WeightFormat::Q8] {
        let counts = near
            .iter()
            .map(|golden| compare(&golden.dir, weights, numeric, false));
        let n_different: usize = counts.sum();
        let n_answers = 5 * near.len();
        println!("{weights:?}: {n_different} of {n_answers} answers differ");
        // Their logits lie as near together as random ones do.
        assert!(3 * n_different < n_answers, "{n_different} of {n_answers}");
    }
}

#[test]
fn twenty_turns_read_each_token_once() {
    let mut session = open(&embedded());
    let vocab_size = session.config().vocab_size;
    let mut history = Vec::new();
    let mut n_read = 0;
    for turn in 0..20 {
        history.extend(message(turn, vocab_size));
        let n_cached = session.start(&history, greedy(8)).unwrap();
        n_read += history.len() - n_cached;
        history.extend(tokens(&steps(&mut session)));
    }
    // Every message, and one token of each answer but the last; decode steps have read the others.
    assert_eq!(n_read, 20 * MESSAGE + 19);
}

#[test]
fn a_prompt_is_read_as_a_whole_unless_the_option_is_on() {
    let mut session = open(&fixture("one_block_adapters_rope"));
    let (history, ..) = converse(&mut session, 2);
    let uncached = GenerateOptions {
        cache_prompt: false,
        ..greedy(ANSWER)
    };
    assert_eq!(session.start(&history, uncached).unwrap(), 0);
    let whole = steps(&mut session);
    session.reset();
    session.start(&history, greedy(ANSWER)).unwrap();
    assert_eq!(steps(&mut session), whole);
}

#[test]
fn an_edited_turn_goes_on_from_the_end_of_the_turn_before_it() {
    let dir = fixture("two_blocks_groups2_rope");
    let [mut session, mut fresh] = [0, 1].map(|_| open(&dir));
    let (history, prompt_ends, answer_ends) = converse(&mut session, 4);
    let vocab_size = session.config().vocab_size;

    // The third message becomes another one. The state before it lacks the last token of the second answer.
    let mut edited = history[..answer_ends[1]].to_vec();
    edited.extend(message(9, vocab_size));
    let (n_cached, answer) = ask(&mut session, &edited);
    assert_eq!(n_cached, answer_ends[1] - 1);
    assert_eq!(answer, ask_afresh(&mut fresh, &edited));

    // The first answer is tokenised otherwise from its fourth token on.
    let mut other = history[..answer_ends[0]].to_vec();
    other[prompt_ends[0] + 3] ^= 1;
    other.extend(message(8, vocab_size));
    let (n_cached, answer) = ask(&mut session, &other);
    assert_eq!(n_cached, prompt_ends[0]);
    assert_eq!(answer, ask_afresh(&mut fresh, &other));

    // Another first message has nothing in common with it.
    let mut new = history;
    new[0] ^= 1;
    assert_eq!(ask(&mut session, &new).0, 0);
}

#[test]
fn the_same_prompt_again_reads_nothing_and_gives_the_same_bits() {
    let mut session = open(&fixture("one_block_adapters_rope"));
    let (history, prompt_ends, _) = converse(&mut session, 3);
    let prompt = &history[..prompt_ends[2]];
    let with_ranks = |options: GenerateOptions| GenerateOptions {
        alternatives: 5,
        ..options
    };
    session.start(prompt, with_ranks(drawn(20))).unwrap();
    let first = steps(&mut session);
    let n_cached = session.start(prompt, with_ranks(drawn(20))).unwrap();
    assert_eq!(n_cached, prompt.len());
    assert_eq!(steps(&mut session), first);
}

#[test]
fn a_prompt_that_was_stopped_between_blocks_goes_on_from_the_turn_before() {
    let dir = fixture("one_block_adapters_rope");
    let [mut session, mut fresh] = [0, 1].map(|_| open(&dir));
    let (mut history, _, answer_ends) = converse(&mut session, 2);
    history.extend(message(2, session.config().vocab_size));
    session.start(&history, greedy(ANSWER)).unwrap();
    session.advance(1).unwrap();
    // The first block's states have changed by now, those of the others have not.
    let (n_cached, answer) = ask(&mut session, &history);
    assert_eq!(n_cached, answer_ends[1] - 1);
    assert_eq!(answer, ask_afresh(&mut fresh, &history));
}

#[test]
fn the_rest_of_a_prompt_has_the_bound_of_a_prefill_even_if_it_is_one_token() {
    // Decode steps of this net, whose dt has no bound there, differ by whole logits.
    let dir = fixture("dt_clamp");
    let [mut session, mut fresh] = [0, 1].map(|_| open(&dir));
    let prompt = Golden::open(&dir).ids("input_ids");
    let probabilities = |session: &mut Session<Cpu>, prompt: &[u32]| -> Vec<f32> {
        let options = GenerateOptions {
            alternatives: 20,
            ..greedy(1)
        };
        session.start(prompt, options).unwrap();
        let rank = block_on(session.step()).unwrap().token_rank.unwrap();
        rank.alternatives
            .iter()
            .map(|one| one.probability as f32)
            .collect()
    };
    session.start(&prompt[..12], greedy(1)).unwrap();
    steps(&mut session);
    let continued = probabilities(&mut session, &prompt[..13]);
    let whole = probabilities(&mut fresh, &prompt[..13]);
    // Other orders of sums in f32.
    assert!(max_difference(&continued, &whole) < 1e-4);
}

#[test]
fn what_the_bounds_of_dt_do_to_a_continued_conversation_is_within_what_the_docs_say() {
    for golden in goldens() {
        let prompt = golden.ids("input_ids");
        let answer = golden.ids("greedy_ids");
        let rest = &prompt[..7];
        // The largest difference of the logits after a prompt whose answer was read by steps, and by a prefill.
        let difference = |dt_min_step| {
            let numeric = NumericSettings {
                dt_min_step,
                ..NumericSettings::default()
            };
            let mut session = open_with(&golden.dir, WeightFormat::F32, numeric);
            let vocab_size = session.config().vocab_size;
            block_on(session.logits(&prompt)).unwrap();
            for &token in &answer {
                block_on(session.append(&[token])).unwrap();
            }
            let continued = block_on(session.append(rest)).unwrap();
            let whole = [&prompt[..], &answer[..], rest].concat();
            let whole = block_on(session.logits(&whole)).unwrap();
            max_difference(&continued, &whole[whole.len() - vocab_size..])
        };
        let config = folder::read_config(&golden.dir).unwrap();
        let unbounded = difference(None);
        let bounded = difference(Some(config.time_step_min));
        println!(
            "{}: time_step_min {}, logits differ by {unbounded:.6}, with one bound by {bounded:.6}",
            golden.name(),
            config.time_step_min
        );
        assert!(bounded < 2e-3, "{}: {bounded}", golden.name());
        if config.time_step_min > 0.001 {
            assert!(unbounded > 0.5, "{}: {unbounded}", golden.name());
        } else {
            assert!(unbounded < 0.5, "{}: {unbounded}", golden.name());
        }
    }
}

#[test]
fn checkpoints_stay_within_their_limit_and_the_first_and_the_newest_turn_are_kept() {
    let dir = fixture("one_block_adapters_rope");
    let [mut session, mut fresh] = [0, 1].map(|_| open(&dir));
    let checkpoint_bytes = session.checkpoint_bytes();
    let vocab_size = session.config().vocab_size;
    // Enough for two, and not quite for three.
    let limit = 3 * checkpoint_bytes - 1;
    session.set_checkpoints_limit(limit);
    let (history, prompt_ends, answer_ends) = converse(&mut session, 6);
    assert_eq!(session.checkpoints_bytes(), 2 * checkpoint_bytes);

    // The newest prompt, whose answer comes back otherwise.
    let mut retold = history[..prompt_ends[5]].to_vec();
    retold.push(history[prompt_ends[5]] ^ 1);
    let (n_cached, answer) = ask(&mut session, &retold);
    assert_eq!(n_cached, prompt_ends[5]);
    assert_eq!(answer, ask_afresh(&mut fresh, &retold));
    // A turn in the middle, whose checkpoint is gone: from the first prompt on.
    let mut edited = history[..answer_ends[2]].to_vec();
    edited.extend(message(9, vocab_size));
    let (n_cached, answer) = ask(&mut session, &edited);
    assert_eq!(n_cached, prompt_ends[0]);
    assert_eq!(answer, ask_afresh(&mut fresh, &edited));
    assert!(session.checkpoints_bytes() <= limit);
}

#[test]
fn without_room_for_checkpoints_a_prompt_that_continues_is_still_cached() {
    let mut session = open(&fixture("one_block_adapters_rope"));
    session.set_checkpoints_limit(0);
    let (mut history, ..) = converse(&mut session, 3);
    assert_eq!(session.checkpoints_bytes(), 0);
    let n_held = history.len() - 1;
    history.extend(message(3, session.config().vocab_size));
    assert_eq!(ask(&mut session, &history).0, n_held);
    // Not one that differs.
    history[n_held] ^= 1;
    assert_eq!(ask(&mut session, &history).0, 0);
}

#[test]
fn steps_in_flight_beyond_the_answer_cost_the_tokens_since_the_last_checkpoint() {
    let dir = fixture("one_block_adapters_rope");
    for lookahead in [
        IN_FLIGHT,
        Lookahead {
            min_steps: 6,
            max_steps: 6,
        },
    ] {
        let [mut session, mut fresh] = [0, 1].map(|_| open(&dir));
        session.set_lookahead(lookahead);
        let vocab_size = session.config().vocab_size;
        let mut history = Vec::new();
        for turn in 0..4 {
            history.extend(message(turn, vocab_size));
            let answer = ask_afresh(&mut fresh, &history);
            // A token that the answer has said for the first time ends it, in the middle of a readback or not.
            let is_new = |n: &usize| *n > 4 && !answer[..*n].contains(&answer[*n]);
            let end = (0..ANSWER).find(is_new).unwrap_or(ANSWER - 1);
            let ended = GenerateOptions {
                end_tokens: vec![answer[end]],
                ignore_eos: false,
                ..greedy(ANSWER)
            };
            let n_cached = session.start(&history, ended).unwrap();
            // The device may have read the last token of the answer, too, or some that are not in it.
            let n_most = if turn == 0 {
                0
            } else {
                history.len() - MESSAGE
            };
            assert!(n_cached <= n_most, "{n_cached} of {n_most}");
            // With two steps in flight the device has read no more than the answer.
            let n_lost = n_most - n_cached;
            assert!(
                n_lost <= if lookahead == IN_FLIGHT { 1 } else { 16 },
                "{n_cached} of {n_most}"
            );
            let said = tokens(&steps(&mut session));
            assert_eq!(said, answer[..said.len()], "turn {turn}");
            history.extend(said);
        }
    }
}

#[test]
fn a_branch_in_a_later_turn_gives_the_same_bits_without_any_checkpoint() {
    for limit in [0, u64::MAX] {
        let mut session = open(&fixture("two_blocks_no_rope"));
        session.set_checkpoints_limit(limit);
        let (mut history, ..) = converse(&mut session, 2);
        history.extend(message(2, session.config().vocab_size));
        session.start(&history, drawn(20)).unwrap();
        let whole = steps(&mut session);
        for index in [19, 7, 0] {
            session
                .branch(index, whole[index].token, drawn(20))
                .unwrap();
            // In parts: the blocks of the first part of the prompt, then tokens.
            while session.advance(1).unwrap() != zamba2::model::forward::Progress::Done {}
            while block_on(session.replay(3)).unwrap() > 0 {}
            assert_eq!(
                steps(&mut session)[1..],
                whole[index + 1..],
                "{index}, limit {limit}"
            );
        }
    }
}

#[test]
fn a_conversation_goes_on_from_a_snapshot_in_another_session() {
    let dir = fixture("one_block_adapters_rope");
    let [mut session, mut other, mut fresh] = [0, 1, 2].map(|_| open(&dir));
    let (mut history, ..) = converse(&mut session, 2);
    history.extend(message(2, session.config().vocab_size));
    session.start(&history, drawn(20)).unwrap();
    let whole = steps(&mut session);
    let bytes = block_on(session.snapshot("")).unwrap();
    block_on(other.restore(&bytes)).unwrap();
    // Back to before the last answer: the parts of the prompt are those of the first session.
    other.branch(3, whole[3].token, drawn(20)).unwrap();
    assert_eq!(steps(&mut other)[1..], whole[4..]);

    block_on(other.restore(&bytes)).unwrap();
    history.extend(tokens(&whole));
    let n_held = history.len() - 1;
    history.extend(message(3, session.config().vocab_size));
    let (n_cached, answer) = ask(&mut other, &history);
    assert_eq!(n_cached, n_held);
    assert_eq!(answer, ask_afresh(&mut fresh, &history));
}

#[test]
fn a_conversation_in_text_says_what_a_fresh_read_of_its_text_says() {
    let dir = embedded();
    for weights in [WeightFormat::F32, WeightFormat::Q8, WeightFormat::Q4] {
        let [mut session, mut fresh] =
            [0, 1].map(|_| open_with(&dir, weights, NumericSettings::default()));
        let mut text = String::new();
        let mut n_held = 0;
        for said in [
            "What is ownership?",
            "And a trait object?",
            "How does a vector grow?",
            "Thanks.",
        ] {
            text.push_str(&format!("## user\n{said}\n## assistant\n"));
            let prompt = session.tokenizer().unwrap().encode(&text, true).unwrap();
            let answer = |session: &mut Session<Cpu>| {
                let n_cached = session.start(&prompt, greedy(24)).unwrap();
                let answer: String = steps(session).iter().map(|step| &step.text[..]).collect();
                (n_cached, answer)
            };
            let (n_cached, said) = answer(&mut session);
            // The text of an answer need not be tokenised as it was generated; its prompt is.
            assert!(n_cached >= n_held, "{n_cached} of {n_held}");
            fresh.reset();
            assert_eq!(answer(&mut fresh), (0, said.clone()), "{weights:?}");
            n_held = prompt.len();
            text.push_str(&said);
            text.push('\n');
        }
    }
}

#[test]
fn an_answer_that_fills_the_context_leaves_a_conversation_that_can_be_shortened() {
    let dir = fixture("one_block_adapters_rope");
    let settings = LoadSettings {
        weights: WeightFormat::F32,
        context: Some(40),
        numeric: NumericSettings::default(),
        memory_limit_bytes: None,
    };
    let mut session = folder::open(Cpu::new(1), &dir, settings).unwrap();
    let prompt = message(0, session.config().vocab_size);
    session.start(&prompt, greedy(100)).unwrap();
    let answer = steps(&mut session);
    assert_eq!(answer.last().unwrap().done, Some(StopReason::Context));
    let too_long = [&prompt[..], &tokens(&answer)].concat();
    let error = session.start(&too_long, greedy(4)).unwrap_err();
    assert_eq!(error.code(), "prompt_too_long");
    let shorter = [&prompt[..], &[1, 2]].concat();
    assert_eq!(session.start(&shorter, greedy(4)).unwrap(), prompt.len());
}
