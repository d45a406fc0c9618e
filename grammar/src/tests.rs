use super::*;

const END: u32 = 256;
const OTHER_END: u32 = 257;

/// A token per byte, then two end tokens, then "yes".
fn bytes() -> Vocabulary {
    let mut bytes: Vec<u8> = (0..=255).collect();
    let mut ends: Vec<u32> = (1..=256).collect();
    bytes.extend(b"yesyesyes");
    ends.extend([259, 262, 265]);
    let tokens = TokenBytes {
        bytes: &bytes,
        ends: &ends,
        not_first: &[u32::from(b' ')],
        end_tokens: &[END, OTHER_END],
    };
    Vocabulary::new(tokens).unwrap()
}

fn allowed(constraint: &mut Constraint) -> Vec<u32> {
    let words = constraint.allowed().unwrap();
    let tokens = 0..32 * words.len() as u32;
    let is_allowed = |token: &u32| words[*token as usize / 32] >> (token % 32) & 1 == 1;
    tokens.filter(is_allowed).collect()
}

/// Whether the schema or the grammar allows the text, token by token, and then an end token.
fn follows(form: Form, rule: &str, text: &str) -> bool {
    let mut constraint = Constraint::new(&bytes(), form, rule).unwrap();
    for byte in text.bytes().map(u32::from) {
        if !allowed(&mut constraint).contains(&byte) {
            return false;
        }
        constraint.commit(byte).unwrap();
    }
    allowed(&mut constraint).contains(&END)
}

fn refusal(form: Form, rule: &str) -> String {
    Constraint::new(&bytes(), form, rule).err().unwrap()
}

#[test]
fn a_complete_text_allows_any_end_token_and_nothing_else() {
    let mut constraint = Constraint::new(&bytes(), Form::Grammar, "start: \"yes\"").unwrap();
    assert_eq!(allowed(&mut constraint), [u32::from(b'y'), 258]);
    constraint.commit(258).unwrap();
    for end in [OTHER_END, END] {
        assert_eq!(allowed(&mut constraint), [END, OTHER_END]);
        constraint.commit(end).unwrap();
    }
    constraint.commit(258).unwrap_err();
}

#[test]
fn a_text_that_may_end_or_go_on_allows_both() {
    let mut constraint =
        Constraint::new(&bytes(), Form::JsonSchema, "{\"type\": \"integer\"}").unwrap();
    constraint.commit(u32::from(b'7')).unwrap();
    let may_follow = allowed(&mut constraint);
    assert!(may_follow.contains(&u32::from(b'0')) && may_follow.contains(&END));
    assert!(!may_follow.contains(&u32::from(b'x')));
    constraint.commit(OTHER_END).unwrap();
    assert_eq!(allowed(&mut constraint), [END, OTHER_END]);
}

#[test]
fn a_json_text_has_at_most_one_space_at_a_place_unless_the_schema_says_otherwise() {
    let schema = r#"{"type": "array", "items": {"type": "null"}}"#;
    for (text, expected) in [
        ("[]", true),
        ("[null, null]", true),
        ("[null ,null ]", true),
        ("[null,  null]", false),
        ("[null,\nnull]", false),
    ] {
        assert_eq!(follows(Form::JsonSchema, schema, text), expected, "{text}");
    }
    let own = r#"{"type": "array", "x-guidance": {"whitespace_pattern": "\\n"}}"#;
    assert!(follows(Form::JsonSchema, own, "[\n]"));
    assert!(!follows(Form::JsonSchema, own, "[ ]"));
}

#[test]
fn true_is_any_json() {
    for text in ["null", "-1.5e3", "\"a\\n\"", "{\"a\": [true, {}]}"] {
        assert!(follows(Form::JsonSchema, "true", text), "{text}");
        assert!(follows(Form::JsonSchema, "{}", text), "{text}");
    }
    assert!(!follows(Form::JsonSchema, "true", "nul"));
}

#[test]
fn properties_come_in_the_order_of_the_schema() {
    let schema = r#"{"properties": {"b": {"const": 1}, "a": {"const": 2}}, "required": ["b", "a"],
        "additionalProperties": false, "type": "object"}"#;
    assert!(follows(Form::JsonSchema, schema, r#"{"b": 1, "a": 2}"#));
    assert!(!follows(Form::JsonSchema, schema, r#"{"a": 2, "b": 1}"#));
}

#[test]
fn a_token_that_differs_at_the_beginning_is_not_the_first() {
    let mut constraint = Constraint::new(&bytes(), Form::Grammar, "start: /[ a]{2}/").unwrap();
    assert_eq!(allowed(&mut constraint), [u32::from(b'a')]);
    constraint.commit(u32::from(b'a')).unwrap();
    assert_eq!(allowed(&mut constraint), [u32::from(b' '), u32::from(b'a')]);
}

#[test]
fn what_cannot_be_followed_is_refused_with_a_reason() {
    for (form, rule, reason) in [
        (Form::JsonSchema, "{", "EOF"),
        (Form::JsonSchema, "false", "Unsatisfiable"),
        (Form::JsonSchema, "7", "schema"),
        (Form::JsonSchema, r#"{"type": "fish"}"#, "fish"),
        (Form::JsonSchema, r#"{"not": {}}"#, "not"),
        (
            Form::JsonSchema,
            r#"{"type": "string", "format": "poem"}"#,
            "poem",
        ),
        (
            Form::JsonSchema,
            r##"{"$ref": "https://example.org/a"}"##,
            "$ref",
        ),
        (
            Form::JsonSchema,
            r#"{"type": "string", "pattern": "("}"#,
            "regex",
        ),
        (Form::Grammar, "", "start"),
        (Form::Grammar, "start: nothing", "nothing"),
        (Form::Grammar, "start: /(/", "regex"),
    ] {
        let sentence = refusal(form, rule);
        assert!(sentence.contains(reason), "{rule}: {sentence}");
        assert!(!sentence.contains("backtrace"), "{sentence}");
    }
}

#[test]
fn a_token_that_is_not_allowed_is_refused() {
    let mut constraint = Constraint::new(&bytes(), Form::Grammar, "start: \"a\"").unwrap();
    constraint.commit(u32::from(b'b')).unwrap_err();
}

#[test]
fn a_vocabulary_without_an_end_token_is_refused() {
    for end_tokens in [&[][..], &[7]] {
        let tokens = TokenBytes {
            bytes: b"a",
            ends: &[1],
            not_first: &[],
            end_tokens,
        };
        let sentence = Vocabulary::new(tokens).err().unwrap();
        assert_eq!(sentence, "the model has no end token");
    }
}

/// The engine's limits: a schema is a program, which somebody else may have written.
#[test]
fn a_schema_that_grows_beyond_all_bounds_is_refused() {
    let deep = "[".repeat(100_000);
    refusal(Form::JsonSchema, &deep);
    let both = (0..40).map(|n| json!({"anyOf": [{"minLength": n}, {"maxLength": n}]}));
    let wide = json!({"type": "string", "allOf": both.collect::<Vec<_>>()});
    let sentence = refusal(Form::JsonSchema, &wide.to_string());
    assert!(sentence.contains("too large"), "{sentence}");
}
