//! End tokens from every file that names one, and tokenizers with more tokens than the embedding has rows (W09, W10).

use super::*;
use zamba2::session::{GenerateOptions, StopReason};
use zamba2::text::sampling::SamplingOptions;

const GENERATION: &str = "generation_config.json";

/// Greedy tokens and text after the prompt `S`, and why the generation ended.
fn generate(dir: &Path, ignore_eos: bool, max_tokens: usize) -> (Vec<u32>, String, StopReason) {
    let mut session = opened(dir, WeightFormat::F32);
    let prompt = session.tokenizer().unwrap().encode("S", true).unwrap();
    let options = GenerateOptions {
        max_tokens,
        ignore_eos,
        sampling: SamplingOptions {
            temperature: 0.0,
            ..SamplingOptions::default()
        },
        ..GenerateOptions::default()
    };
    session.start(&prompt, options).unwrap();
    let (mut ids, mut text) = (Vec::new(), String::new());
    loop {
        let step = block_on(session.step()).unwrap();
        ids.push(step.token);
        text += &step.text;
        if let Some(reason) = step.done {
            return (ids, text, reason);
        }
    }
}

/// A copy of a folder of fixtures that may be changed.
fn copy(name: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    for entry in fs::read_dir(wild(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    dir
}

#[test]
fn generation_ends_at_the_end_token_of_generation_config() {
    let name = "end_token_in_generation_config";
    let expected = json_file(&wild(name).join("expect.json"));
    let all = ids(&expected["ids"]);
    let (tokens, text, reason) = generate(&wild(name), false, 32);
    assert_eq!((&tokens[..], reason), (&all[..5], StopReason::Eos));
    assert_eq!(tokens[4], 303);
    let (tokens, whole, reason) = generate(&wild(name), true, all.len());
    assert_eq!((tokens, reason), (all, StopReason::Length));
    assert!(
        expected["text"] == whole.trim() && whole.starts_with(&text),
        "{whole}"
    );
}

#[test]
fn a_packed_folder_takes_its_end_tokens_along() {
    let out = TempDir::new().unwrap();
    let dir = wild("end_token_in_generation_config");
    let settings = settings(WeightFormat::F32);
    folder::pack(Cpu::new(1), &dir, out.path(), settings, |_, _| {}).unwrap();
    fs::remove_file(out.path().join("tokenizer_config.json")).unwrap();
    let (tokens, _, reason) = generate(out.path(), false, 32);
    assert_eq!((tokens.len(), reason), (5, StopReason::Eos));
}

#[test]
fn end_tokens_are_those_of_all_files_together() {
    let dir = copy("end_token_in_generation_config");
    let end_tokens = || open(dir.path()).unwrap().config().eos_token_ids.clone();
    assert_eq!(end_tokens(), [2, 303]);
    fs::write(
        dir.path().join(GENERATION),
        r#"{"eos_token_id": [7, 2, -1], "temperature": NaN}"#,
    )
    .unwrap();
    assert_eq!(end_tokens(), [2, 7]);
    fs::write(
        dir.path().join(GENERATION),
        "<!doctype html><title>Not found</title>",
    )
    .unwrap();
    assert_eq!(
        end_tokens(),
        [2],
        "a page that a server sent for a missing file counts as missing"
    );
    fs::write(dir.path().join(GENERATION), "{").unwrap();
    assert_eq!(refused(dir.path()), ("bad_config", GENERATION.into()));
    fs::remove_file(dir.path().join(GENERATION)).unwrap();
    let tokenizer = opened(dir.path(), WeightFormat::F32);
    let token = tokenizer.tokenizer().unwrap().token_id("<unk>").unwrap();
    let config = r#"{"eos_token": {"content": "<unk>"}}"#;
    fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    assert_eq!(end_tokens(), [2, token]);
    fs::write(dir.path().join("tokenizer_config.json"), "{").unwrap();
    assert_eq!(
        end_tokens(),
        [2],
        "a damaged file keeps chats from running, not the model"
    );
}

#[test]
fn a_tokenizer_with_more_tokens_than_rows_runs() {
    let name = "two_tokens_too_many";
    let expected = json_file(&wild(name).join("expect.json"));
    let (tokens, text, reason) = generate(&wild(name), false, 32);
    assert_eq!((tokens, reason), (ids(&expected["ids"]), StopReason::Eos));
    assert_eq!(expected["text"], text.trim());
}

#[test]
fn a_prompt_with_a_token_beyond_the_rows_is_refused_by_its_id() {
    let session = opened(&wild("two_tokens_too_many"), WeightFormat::F32);
    let tokenizer = session.tokenizer().unwrap();
    let beyond = Error::PromptToken {
        token: 303,
        text: "<image>".into(),
        vocab_size: 303,
    };
    assert_eq!(tokenizer.encode("S <image>", true), Err(beyond));
    assert!(tokenizer.encode("S", true).is_ok());
}
