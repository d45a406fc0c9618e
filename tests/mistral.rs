//! The vocabulary of Mistral-7B-v0.1, which Zamba2 has too, against the reference: hard strings both ways, and
//! sequences of tokens that no text has. `tools/fixtures/make_mistral.py` made the fixture.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use zamba2::text::stream::TextStream;
use zamba2::text::tokenizer::Tokenizer;

use crate::support::sentencepiece_json;

const PIECES: &str = include_str!("fixtures/mistral_v01/pieces.json");
const CASES: &str = include_str!("fixtures/mistral_v01/cases.json");
/// `<unk>`, `<s>`, `</s>` and the 256 bytes come before the pieces that have a score.
const N_UNSCORED: usize = 259;

#[derive(Deserialize)]
struct Cases {
    n_merges: usize,
    merges_sha256: String,
    strings: Vec<StringCase>,
    sequences: Vec<SequenceCase>,
}

/// Text, the reference's ids with its start token, and what it decodes them to where that is another text.
#[derive(Deserialize)]
#[serde(untagged)]
enum StringCase {
    Same(String, Vec<u32>),
    Other(String, Vec<u32>, String),
}

/// Ids, the reference's text, and what ours is where the reference replaces more than the broken character.
#[derive(Deserialize)]
#[serde(untagged)]
enum SequenceCase {
    Same(Vec<u32>, String),
    Better(Vec<u32>, String, String),
}

fn cases() -> Cases {
    serde_json::from_str(CASES).unwrap()
}

/// A merge for every way to split a piece into two others, by the piece's score, then by the lengths of the two. The
/// pieces are in the order of their scores, but for runs of spaces, which come last.
fn merges(pieces: &[String]) -> Vec<[&str; 2]> {
    let ids: HashMap<&str, usize> = pieces
        .iter()
        .zip(0..)
        .map(|(piece, id)| (&piece[..], id))
        .collect();
    let mut merges = Vec::new();
    for (id, piece) in pieces.iter().enumerate() {
        let spaces = piece.chars().all(|c| c == '▁');
        let rank = if spaces {
            usize::MAX
        } else {
            id.saturating_sub(N_UNSCORED)
        };
        let splits = piece
            .char_indices()
            .skip(1)
            .map(|(at, _)| piece.split_at(at));
        let mut splits: Vec<(&str, &str)> = splits
            .filter(|(left, right)| ids.contains_key(left) && ids.contains_key(right))
            .collect();
        splits.sort_by_key(|(left, right)| (ids[left], ids[right]));
        let length = |piece: &str| std::cmp::Reverse(piece.chars().count());
        merges.extend(
            splits
                .into_iter()
                .map(|(left, right)| (rank, length(left), length(right), [left, right])),
        );
    }
    merges.sort_by_key(|(rank, left, right, _)| (*rank, *left, *right));
    merges.into_iter().map(|(_, _, _, pair)| pair).collect()
}

fn tokenizer() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| {
        let pieces: Vec<String> = serde_json::from_str(PIECES).unwrap();
        let vocab: Map<String, Value> = pieces
            .iter()
            .cloned()
            .zip((0..).map(|id: u32| json!(id)))
            .collect();
        let json = sentencepiece_json(Value::Object(vocab), json!(merges(&pieces)));
        Tokenizer::from_bytes("tokenizer.json", json.to_string().as_bytes(), pieces.len()).unwrap()
    })
}

/// The pieces that tokens release one by one, and the rest.
fn streamed(ids: &[u32]) -> String {
    let mut stream = TextStream::new();
    let pieces = ids.iter().map(|&id| stream.push(tokenizer(), id).unwrap());
    let text: String = pieces.collect();
    text + &stream.finish()
}

#[test]
fn the_merges_are_those_of_the_reference_s_converter() {
    let pieces: Vec<String> = serde_json::from_str(PIECES).unwrap();
    let merges = merges(&pieces);
    assert_eq!(merges.len(), cases().n_merges);
    let text: String = merges
        .iter()
        .map(|[left, right]| format!("{left} {right}\n"))
        .collect();
    let hash: String = Sha256::digest(text.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(hash, cases().merges_sha256);
}

#[test]
fn two_thousand_hard_strings_have_the_reference_s_tokens_and_text() {
    let cases = cases();
    assert_eq!(cases.strings.len(), 2000);
    for case in &cases.strings {
        let (text, ids, decoded) = match case {
            StringCase::Same(text, ids) => (text, ids, text),
            StringCase::Other(text, ids, decoded) => (text, ids, decoded),
        };
        assert_eq!(&tokenizer().encode(text, true).unwrap(), ids, "{text:?}");
        assert_eq!(&tokenizer().decode(ids).unwrap(), decoded, "{text:?}");
        assert_eq!(&streamed(ids), decoded, "{text:?}");
    }
}

#[test]
fn tokens_of_no_text_decode_as_in_the_reference_but_for_sound_characters_beside_a_broken_one() {
    let mut n_better = 0;
    for case in &cases().sequences {
        let (ids, text) = match case {
            SequenceCase::Same(ids, text) => (ids, text),
            SequenceCase::Better(ids, reference, better) => {
                n_better += 1;
                let lost = |text: &str| text.matches('\u{FFFD}').count();
                assert!(lost(better) < lost(reference), "{ids:?}");
                (ids, better)
            }
        };
        assert_eq!(&tokenizer().decode(ids).unwrap(), text, "{ids:?}");
        assert_eq!(&streamed(ids), text, "{ids:?}");
    }
    assert!(n_better > 50, "{n_better}");
}
