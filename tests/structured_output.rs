//! Texts that follow a JSON schema or a grammar: those of the embedded model, for schemas of public suites
//! (`tests/schemas/README.md`), judged by a validator that shares nothing with the engine of grammars.

use std::fs;
use std::path::{Path, PathBuf};

use pollster::block_on;
use serde_json::{Value, json};
use zamba2::base::error::Error;
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::folder;
use zamba2::session::{GenerateOptions, LoadSettings, Lookahead, Session, StopReason};
use zamba2::text::sampling::{SamplingOptions, TokenSet};
use zamba2_grammar::{Constraint, Form, TokenBytes, Vocabulary};

use crate::support::F32;

fn path_of(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn embedded_model() -> Session<Cpu> {
    let settings = LoadSettings {
        weights: WeightFormat::Q8,
        ..F32
    };
    folder::open(Cpu::new(1), &path_of("www/models/rustdoc-5m"), settings).unwrap()
}

fn vocabulary(session: &Session<Cpu>) -> Vocabulary {
    let tokens = session.tokenizer().unwrap().token_bytes().unwrap();
    let vocabulary = Vocabulary::new(TokenBytes {
        bytes: &tokens.bytes,
        ends: &tokens.ends,
        not_first: &tokens.not_first,
        end_tokens: &session.config().eos_token_ids,
    });
    vocabulary.unwrap()
}

fn start(session: &mut Session<Cpu>, options: GenerateOptions) {
    let tokenizer = session.tokenizer().unwrap();
    let prompt = tokenizer.encode("For example:\n\n```json\n", true).unwrap();
    session.start(&prompt, options).unwrap();
}

/// Steps until the end: the text, the tokens, and why it ended.
fn follow(
    session: &mut Session<Cpu>,
    constraint: &mut Constraint,
) -> (String, Vec<u32>, StopReason) {
    let (mut text, mut tokens) = (String::new(), Vec::new());
    loop {
        let allowed = TokenSet::from_words(constraint.allowed().unwrap().to_vec());
        let step = block_on(session.step_among(Some(&allowed))).unwrap();
        assert!(allowed.contains(step.token));
        constraint.commit(step.token).unwrap();
        text.push_str(&step.text);
        tokens.push(step.token);
        if let Some(reason) = step.done {
            return (text, tokens, reason);
        }
    }
}

fn with_grammar(grammar: &str, max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        grammar: Some(grammar.to_owned()),
        max_tokens,
        ..GenerateOptions::default()
    }
}

/// What became of the schemas of a suite.
#[derive(Debug, Default)]
struct Outcome {
    validated: usize,
    /// At `max_tokens`.
    cut: usize,
    /// JSON with a number beyond f64, which the validator's parser does not take.
    beyond_f64: usize,
    refused: Vec<String>,
}

/// Generates a text for every schema, with the bounds of `narrow`, and asserts that each text that ended is
/// valid by the schema as the suite has it.
fn write_texts(suite: &str, narrow: fn(&mut Value), max_tokens: usize) -> Outcome {
    let mut session = embedded_model();
    let vocabulary = vocabulary(&session);
    let file = path_of("tests/schemas").join(suite);
    let schemas: Vec<Value> = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let mut outcome = Outcome::default();
    for (seed, schema) in (0..).zip(&schemas) {
        let mut narrowed = schema.clone();
        narrow(&mut narrowed);
        let constraint = Constraint::new(&vocabulary, Form::JsonSchema, &narrowed.to_string());
        let mut constraint = match constraint {
            Ok(constraint) => constraint,
            Err(sentence) => {
                assert!(
                    !sentence.is_empty() && !sentence.contains("panic"),
                    "{sentence}"
                );
                outcome.refused.push(sentence);
                continue;
            }
        };
        let options = GenerateOptions {
            json_schema: Some(narrowed),
            max_tokens,
            sampling: SamplingOptions {
                seed,
                ..SamplingOptions::default()
            },
            ..GenerateOptions::default()
        };
        start(&mut session, options);
        let (text, _, reason) = follow(&mut session, &mut constraint);
        if reason == StopReason::Length {
            outcome.cut += 1;
            continue;
        }
        assert_eq!(reason, StopReason::Eos);
        match serde_json::from_str::<Value>(&text) {
            Ok(value) => {
                let valid = jsonschema::validate(schema, &value);
                valid.unwrap_or_else(|error| panic!("{error}\n{text}\n{schema}"));
                outcome.validated += 1;
            }
            Err(error) if error.to_string().starts_with("number out of range") => {
                outcome.beyond_f64 += 1;
            }
            Err(error) => panic!("{error}\n{text}\n{schema}"),
        }
    }
    println!("{suite}: {} schemas, {outcome:?}", schemas.len());
    outcome
}

/// Bounds a schema of a function's arguments, so that the texts of a small model end: short strings and lists, no other
/// properties, small integers for numbers.
fn narrow_arguments(schema: &mut Value) {
    if let Value::Array(list) = schema {
        return list.iter_mut().for_each(narrow_arguments);
    }
    let Value::Object(fields) = schema else {
        return;
    };
    fields.values_mut().for_each(narrow_arguments);
    let bounds = match fields.get("type").and_then(Value::as_str) {
        Some("string") if fields.contains_key("enum") || fields.contains_key("format") => return,
        Some("string") => json!({"maxLength": 6}),
        Some("array") => json!({"maxItems": 2, "items": {"type": "null"}}),
        Some("number" | "integer") => json!({"minimum": 0, "maximum": 99}),
        Some("object") => json!({"additionalProperties": false}),
        _ => return,
    };
    for (name, bound) in bounds.as_object().unwrap() {
        fields.entry(name).or_insert(bound.clone());
    }
    if fields["type"] == "number" {
        fields["type"] = json!("integer");
    }
}

#[test]
fn texts_for_random_schemas_of_function_calls_validate() {
    let outcome = write_texts("function_calls.json", narrow_arguments, 200);
    assert!(outcome.validated >= 140, "{outcome:?}");
    assert!(outcome.cut <= 5, "{outcome:?}");
    assert_eq!(outcome.beyond_f64, 0);
}

/// Most of this suite's schemas allow anything of the types that a keyword is not about, so some texts do not end.
#[test]
fn texts_for_a_schema_of_every_keyword_validate_or_the_schema_is_refused() {
    let outcome = write_texts("keywords.json", |_| (), 64);
    assert!(outcome.validated >= 170, "{outcome:?}");
    assert!(outcome.cut <= 45, "{outcome:?}");
    assert!(outcome.beyond_f64 <= 2, "{outcome:?}");
    let reasons = [
        "Unimplemented keys",
        "$ref",
        "Unsatisfiable",
        "oneOf",
        "Unknown format",
    ];
    for reason in reasons {
        let n = outcome
            .refused
            .iter()
            .filter(|sentence| sentence.contains(reason))
            .count();
        assert!(n > 0, "{reason}");
    }
}

#[test]
fn a_text_ends_with_its_grammar_even_past_end_tokens() {
    let mut session = embedded_model();
    let vocabulary = vocabulary(&session);
    let grammar = "start: \"Yes, \" WORD \".\"\nWORD: /[a-z]{2,5}/";
    let options = GenerateOptions {
        ignore_eos: true,
        ..with_grammar(grammar, 100)
    };
    let mut constraint = Constraint::new(&vocabulary, Form::Grammar, grammar).unwrap();
    start(&mut session, options);
    let (text, tokens, reason) = follow(&mut session, &mut constraint);
    let word = text
        .strip_prefix("Yes, ")
        .and_then(|rest| rest.strip_suffix('.'))
        .unwrap();
    assert!((2..=5).contains(&word.len()), "{text}");
    assert!(word.bytes().all(|byte| byte.is_ascii_lowercase()), "{text}");
    assert_eq!(reason, StopReason::Eos);
    let end_token = tokens.last().unwrap();
    assert!(session.config().eos_token_ids.contains(end_token));
}

#[test]
fn a_text_that_max_tokens_cuts_goes_on_where_it_was() {
    let mut session = embedded_model();
    let vocabulary = vocabulary(&session);
    let grammar = "start: \"[\" N (\", \" N){9} \"]\"\nN: /[1-9][0-9]{0,2}/";
    let mut constraint = Constraint::new(&vocabulary, Form::Grammar, grammar).unwrap();
    start(&mut session, with_grammar(grammar, 4));
    let (mut text, tokens, reason) = follow(&mut session, &mut constraint);
    assert_eq!((tokens.len(), reason), (4, StopReason::Length));
    session
        .continue_sequence(with_grammar(grammar, 200))
        .unwrap();
    let (rest, _, reason) = follow(&mut session, &mut constraint);
    text.push_str(&rest);
    assert_eq!(reason, StopReason::Eos);
    assert_eq!(
        serde_json::from_str::<Vec<u32>>(&text).unwrap().len(),
        10,
        "{text}"
    );
}

/// With a grammar the host chooses, one step at a time, also where steps were in flight before.
#[test]
fn the_tokens_do_not_depend_on_steps_in_flight() {
    let grammar = "start: /[a-z ]{40}/";
    let free = GenerateOptions {
        max_tokens: 5,
        ..GenerateOptions::default()
    };
    let texts = [1, 2].map(|n_steps| {
        let mut session = embedded_model();
        session.set_lookahead(Lookahead {
            min_steps: n_steps,
            max_steps: n_steps,
        });
        let vocabulary = vocabulary(&session);
        let mut constraint = Constraint::new(&vocabulary, Form::Grammar, grammar).unwrap();
        start(&mut session, free.clone());
        for _ in 0..3 {
            block_on(session.step()).unwrap();
        }
        session
            .continue_sequence(with_grammar(grammar, 100))
            .unwrap();
        follow(&mut session, &mut constraint)
    });
    assert_eq!(texts[0], texts[1]);
    assert_eq!(texts[0].0.len(), 40);
}

#[test]
fn steps_without_their_allowed_tokens_are_refused_and_change_nothing() {
    let mut session = embedded_model();
    let vocabulary = vocabulary(&session);
    let grammar = "start: /[a-z]{9}/";
    let constraint = || Constraint::new(&vocabulary, Form::Grammar, grammar).unwrap();
    start(&mut session, with_grammar(grammar, 100));
    let expected = follow(&mut session, &mut constraint());

    start(&mut session, with_grammar(grammar, 100));
    let refused = block_on(session.step()).unwrap_err();
    assert_eq!(refused.code(), "out_of_order");
    let none = TokenSet::from_words(vec![0; 200]);
    let refused = block_on(session.step_among(Some(&none))).unwrap_err();
    assert_eq!(refused.code(), "bad_grammar");
    assert_eq!(follow(&mut session, &mut constraint()), expected);

    start(&mut session, GenerateOptions::default());
    let refused = block_on(session.step_among(Some(&none))).unwrap_err();
    assert!(matches!(refused, Error::Sequence { .. }), "{refused}");
    block_on(session.step()).unwrap();
}

/// The list of the most probable tokens is the model's own; the probability of the token is that among the allowed.
#[test]
fn ranks_are_before_the_grammar_and_the_probability_is_after_it() {
    let mut session = embedded_model();
    let vocabulary = vocabulary(&session);
    let grammar = "start: \"zq\"";
    let options = GenerateOptions {
        alternatives: 3,
        ..with_grammar(grammar, 100)
    };
    let mut constraint = Constraint::new(&vocabulary, Form::Grammar, grammar).unwrap();
    let allowed = TokenSet::from_words(constraint.allowed().unwrap().to_vec());
    start(&mut session, options);
    let step = block_on(session.step_among(Some(&allowed))).unwrap();
    assert_eq!((&step.text[..], step.probability), ("z", 1.0));
    let rank = step.token_rank.unwrap();
    assert!(rank.rank > 3 && rank.probability < 0.1, "{rank:?}");
    assert!(
        rank.alternatives
            .iter()
            .all(|other| !allowed.contains(other.token))
    );
}
