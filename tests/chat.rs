//! Chat templates against the reference's rendering, byte for byte, and errors for broken, hostile and missing
//! templates.

use serde::Deserialize;
use serde_json::json;
use zamba2::base::error::Error;
use zamba2::text::chat::{ChatTemplate, Message, SpecialTokens};

/// Written by `tools/fixtures/make_chat.py`.
const REFERENCE: &str = include_str!("fixtures/chat.json");

#[derive(Deserialize)]
struct Reference {
    checkpoints: Vec<Checkpoint>,
}

#[derive(Deserialize)]
struct Checkpoint {
    name: String,
    tokenizer_config: String,
    jinja: Option<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    messages: Vec<Message>,
    add_generation_prompt: bool,
    expect: Expected,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Text(String),
    Refused(String),
    Fails(bool),
}

fn rendered(
    template: &ChatTemplate,
    messages: &[Message],
    add_generation_prompt: bool,
) -> Expected {
    match template.render(messages, add_generation_prompt) {
        Ok(text) => Expected::Text(text),
        Err(Error::ChatRefused { words, .. }) => Expected::Refused(words),
        Err(_) => Expected::Fails(true),
    }
}

fn user(content: &str) -> [Message; 1] {
    [Message {
        role: "user".into(),
        content: content.into(),
    }]
}

fn jinja(source: &str) -> ChatTemplate {
    ChatTemplate::from_jinja(source, SpecialTokens::default())
        .unwrap_or_else(|error| panic!("{source}: {error}"))
}

/// The error of rendering a template.
fn failure(source: &str) -> Error {
    let failed = jinja(source).render(&user("Hello"), true);
    failed.expect_err(source)
}

#[test]
fn every_template_renders_or_refuses_as_the_reference_does() {
    let reference: Reference = serde_json::from_str(REFERENCE).unwrap();
    let mut wrong = Vec::new();
    for checkpoint in &reference.checkpoints {
        let template = ChatTemplate::of_checkpoint(
            Some(&checkpoint.tokenizer_config),
            checkpoint.jinja.as_deref(),
        );
        let template = template.unwrap_or_else(|error| panic!("{}: {error}", checkpoint.name));
        let template = template.expect("every checkpoint of the fixture has a template");
        for (i, case) in checkpoint.cases.iter().enumerate() {
            let ours = rendered(&template, &case.messages, case.add_generation_prompt);
            if ours != case.expect {
                wrong.push(format!(
                    "{} case {i}:\n  {ours:?}\n  {:?}",
                    checkpoint.name, case.expect
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn a_checkpoint_without_a_template_has_none() {
    for config in [
        "{}",
        r#"{"chat_template": null}"#,
        r#"{"chat_template": []}"#,
    ] {
        let template = ChatTemplate::from_tokenizer_config(config).unwrap();
        assert!(template.is_none(), "{config}");
    }
    assert!(ChatTemplate::of_checkpoint(None, None).unwrap().is_none());
}

#[test]
fn of_several_templates_the_one_named_default_is_used_else_the_first() {
    let entry = |name: &str| json!({"name": name, "template": name});
    for (names, chosen) in [
        (["rag", "default"], "default"),
        (["rag", "tool_use"], "rag"),
    ] {
        let config = json!({"chat_template": names.map(entry)}).to_string();
        let template = ChatTemplate::from_tokenizer_config(&config)
            .unwrap()
            .unwrap();
        assert_eq!(template.render(&user("Hello"), true).unwrap(), chosen);
    }
}

#[test]
fn a_jinja_file_needs_no_tokenizer_config() {
    let template =
        ChatTemplate::of_checkpoint(None, Some("{{ bos_token }}{{ messages[0].content }}"));
    let text = template.unwrap().unwrap().render(&user("Hello"), true);
    assert_eq!(text.unwrap(), "Hello");
}

#[test]
fn special_tokens_are_read_as_strings_and_as_objects() {
    let config = r#"{"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": null}"#;
    let tokens = SpecialTokens::from_tokenizer_config(config).unwrap();
    assert_eq!(tokens.get("bos_token"), Some("<s>"));
    assert_eq!(tokens.get("eos_token"), Some("</s>"));
    assert_eq!(tokens.get("pad_token"), None);
}

#[test]
fn an_invalid_tokenizer_config_is_an_error_that_names_the_file() {
    for config in [
        "",
        "{",
        "[]",
        r#"{"chat_template": 1}"#,
        r#"{"chat_template": ["x"]}"#,
        r#"{"chat_template": "", "bos_token": 1}"#,
        r#"{"chat_template": "", "bos_token": {"id": 1}}"#,
    ] {
        let error = ChatTemplate::from_tokenizer_config(config).expect_err(config);
        assert_eq!(error.code(), "bad_chat_template", "{config}");
        assert_eq!(
            error.file().as_deref(),
            Some("tokenizer_config.json"),
            "{config}"
        );
    }
}

#[test]
fn a_broken_template_is_reported_with_its_line() {
    let error = ChatTemplate::from_jinja("fine\n{% for %}", SpecialTokens::default());
    let error = error.expect_err("the loop is incomplete");
    assert_eq!(error.file().as_deref(), Some("chat_template.jinja"));
    assert!(error.to_string().contains("in line 2: "), "{error}");
    for source in [
        "\n{{ nobody.knows.this }}",
        "\n{{ messages.append(1) }}",
        "\n{{ strftime_now('%Y' * 1000) }}",
        "\n{{ messages | nonsense }}",
        "\n{{ missing | tojson }}",
        "\n{% include 'other' %}",
        "\n{{ 1 / 0 }}",
    ] {
        let compiled = ChatTemplate::from_jinja(source, SpecialTokens::default());
        let error = match compiled {
            Ok(template) => template.render(&user("Hello"), true).expect_err(source),
            Err(error) => error,
        };
        assert_eq!(error.code(), "bad_chat_template", "{source}: {error}");
        assert!(
            error.to_string().contains("in line 2: "),
            "{source}: {error}"
        );
    }
}

#[test]
fn an_exception_raised_in_a_macro_keeps_the_templates_message() {
    let source =
        "{% macro no() %}{{ raise_exception('Only \"system\" first.') }}{% endmacro %}{{ no() }}";
    assert_eq!(
        failure(source),
        Error::ChatRefused {
            file: "chat_template.jinja".into(),
            words: "Only \"system\" first.".into(),
        }
    );
}

#[test]
fn a_hostile_template_terminates_with_an_error() {
    let doubled = "{% set ns = namespace(x=['ab']) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}";
    let deep = "{% set ns = namespace(x=[]) %}{% for i in range(9000) %}{% set ns.x = [ns.x] %}{% endfor %}";
    for source in [
        "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
        "{{ 'x' * 10 ** 12 }}",
        "{{ range(10 ** 12) | list }}",
        "{{ [1] | tojson(indent=10 ** 12) }}",
        &format!("{doubled}{{{{ ns.x }}}}"),
        &format!("{doubled}{{% set text %}}{{{{ ns.x }}}}{{% endset %}}"),
        &format!("{doubled}{{% macro m(x) %}}{{{{ x }}}}{{% endmacro %}}{{{{ m(ns.x) }}}}"),
        &format!("{deep}{{{{ ns.x }}}}"),
        &format!("{doubled}{{{{ ns.x | tojson }}}}"),
        &format!("{deep}{{{{ ns.x | tojson }}}}"),
    ] {
        let error = failure(source);
        assert_eq!(error.code(), "bad_chat_template", "{source}: {error}");
    }
    for operator in [
        "(",
        "[",
        "not ",
        "-",
        "x.",
        "x ~ ",
        "x and ",
        "x if x else ",
    ] {
        let nested = |times: usize| {
            let source = format!("{{{{ {}x }}}}", operator.repeat(times));
            ChatTemplate::from_jinja(&source, SpecialTokens::default())
        };
        assert!(nested(100_000).is_err(), "{operator}");
        // As many as one tag may hold: whether it compiles or not, the process survives.
        let _ = nested(1490 / operator.len());
    }
    for block in ["{% if x %}", "{% for x in y %}", "{% macro m() %}"] {
        let source = block.repeat(100_000);
        assert!(
            ChatTemplate::from_jinja(&source, SpecialTokens::default()).is_err(),
            "{block}"
        );
    }
}

#[test]
fn the_reason_why_a_value_cannot_be_printed_is_a_sentence_of_the_words() {
    let deep = "{% set ns = namespace(x=[]) %}{% for i in range(200) %}{% set ns.x = [ns.x] %}{% endfor %}";
    for (source, id) in [
        (format!("{deep}{{{{ ns.x }}}}"), "chat_nested"),
        (format!("{deep}{{{{ ns.x | tojson }}}}"), "chat_nested"),
        (
            "{{ 1 | tojson(separators=[1, 2]) }}".to_owned(),
            "chat_separators",
        ),
        ("{{ {1: 2} | tojson }}".to_owned(), "chat_json_key"),
        ("{{ range | tojson }}".to_owned(), "chat_no_json"),
        (
            "{{ [1] | tojson(indent=10 ** 12) }}".to_owned(),
            "chat_json_long",
        ),
        (
            format!("{{{{ strftime_now('{}') }}}}", "%Y".repeat(1000)),
            "chat_date_format",
        ),
    ] {
        let values = failure(&source).values();
        assert_eq!(values["fact"]["detail"]["id"], id, "{source}: {values:?}");
    }
}

#[test]
fn a_template_reads_no_file_and_no_other_template() {
    for source in [
        "{% include 'Cargo.toml' %}",
        "{% include '/etc/passwd' %}",
        "{% import 'Cargo.toml' as x %}{{ x }}",
        "{% from 'Cargo.toml' import x %}{{ x }}",
        "{% extends 'Cargo.toml' %}",
        "{{ open('Cargo.toml') }}",
        "{{ messages.__class__.__mro__ }}{{ messages.__class__.__mro__[1] }}",
        "{{ cycler.__init__.__globals__.os.environ }}",
    ] {
        let read = ChatTemplate::from_jinja(source, SpecialTokens::default())
            .and_then(|template| template.render(&user("Hello"), true));
        let error = read.expect_err(source);
        assert_eq!(error.code(), "bad_chat_template", "{source}: {error}");
    }
}

#[test]
fn a_long_string_in_a_tag_is_allowed() {
    let words = "Be kind. It's { not } hard. ".repeat(1000);
    let source = format!("{{# {words} #}}{{% raw %}}{words}{{% endraw %}}{{{{ \"{words}\" }}}}");
    let text = jinja(&source).render(&user("Hello"), true);
    assert_eq!(text.unwrap(), format!("{words}{words}"));
}

#[test]
fn a_conversation_of_thousands_of_messages_is_allowed() {
    let template = jinja(
        "{% for m in messages %}\
         {{ '<|im_start|>' + m['role'] + '\n' + m['content'].strip() + '<|im_end|>\n' }}{% endfor %}",
    );
    let message = user(&"word ".repeat(200))[0].clone();
    let messages = vec![message; 5000];
    let text = template.render(&messages, true).unwrap();
    assert_eq!(text.matches("<|im_start|>user\nword word").count(), 5000);
}
