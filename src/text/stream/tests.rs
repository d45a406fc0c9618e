use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::{Value, json};

use super::*;
use crate::text::tokenizer::TokenBytes;
use crate::text::tokenizer::fixtures::{
    MODEL_VOCAB_SIZE, byte_alphabet, byte_level, ids, mistral, mistral_json, read, stream,
    with_decoder,
};

/// As [`stream`], after checking that the pieces make the text of `decode`.
fn pieces(tokenizer: &Tokenizer, tokens: &[&str]) -> Vec<String> {
    let ids = ids(tokenizer, tokens);
    let pieces = stream(tokenizer, &ids);
    assert_eq!(pieces.concat(), tokenizer.decode(&ids).unwrap());
    pieces
}

/// One of each kind of decoder.
fn one_of_each_kind() -> [Tokenizer; 5] {
    let metaspace =
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    let no_strip = json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}
    ]});
    [
        byte_level(),
        mistral(),
        read(&with_decoder(mistral_json(), metaspace)).unwrap(),
        read(&with_decoder(mistral_json(), no_strip)).unwrap(),
        read(&with_decoder(mistral_json(), Value::Null)).unwrap(),
    ]
}

/// Where they are not UTF-8, the text has replacement characters.
#[test]
fn the_bytes_of_tokens_are_those_of_the_text_unless_the_first_token_is_one_that_differs_there() {
    let mut rng = Pcg64Mcg::seed_from_u64(2);
    for tokenizer in &one_of_each_kind() {
        let TokenBytes {
            bytes,
            ends,
            not_first,
        } = tokenizer.token_bytes().unwrap();
        assert_eq!(ends.len(), MODEL_VOCAB_SIZE);
        let bytes_of = |id: u32| {
            let start = id.checked_sub(1).map_or(0, |before| ends[before as usize]);
            &bytes[start as usize..ends[id as usize] as usize]
        };
        let (mut n_equal, mut n_different) = (0, 0);
        for _ in 0..4000 {
            let ids = (0..4).map(|_| (rng.next_u64() % MODEL_VOCAB_SIZE as u64) as u32);
            let ids: Vec<u32> = ids.filter(|id| !bytes_of(*id).is_empty()).collect();
            let all = ids.iter().flat_map(|id| bytes_of(*id).to_vec()).collect();
            let (Some(first), Ok(text)) = (ids.first(), String::from_utf8(all)) else {
                continue;
            };
            let is_text = stream(tokenizer, &ids).concat() == text;
            assert_eq!(is_text, !not_first.contains(first), "{ids:?} {text:?}");
            match is_text {
                true => n_equal += 1,
                false => n_different += 1,
            }
        }
        assert!(
            n_equal > 100 || n_different > 1000,
            "{n_equal} {n_different}"
        );
    }
}

#[test]
fn a_streams_pieces_make_the_decoded_text_for_any_tokens_at_all() {
    let mut rng = Pcg64Mcg::seed_from_u64(1);
    let mut n_equal = 0;
    for tokenizer in &one_of_each_kind() {
        for round in 0..4000u32 {
            let n_tokens = rng.next_u64() % 12;
            let sequence: Vec<u32> = (0..n_tokens)
                .map(|_| match rng.next_u64() % 4 {
                    // Bytes of one emoji, so that whole, cut and spoilt characters are frequent.
                    0 | 1 if round % 2 == 0 => {
                        let byte = [0xF0, 0x9F, 0xA6, 0x80, 0x20][(rng.next_u64() % 5) as usize];
                        let offset = if tokenizer.token_id("<0x00>").is_some() {
                            3
                        } else {
                            0
                        };
                        byte + offset
                    }
                    _ => (rng.next_u64() % MODEL_VOCAB_SIZE as u64) as u32,
                })
                .collect();
            let decoded = tokenizer.decode(&sequence).unwrap();
            assert_eq!(
                stream(tokenizer, &sequence).concat(),
                decoded,
                "{sequence:?}"
            );
            let reference = tokenizer.reference_decode(&sequence);
            if decoded == reference {
                n_equal += 1;
            } else {
                // Only a broken character inside a run of byte tokens may make a difference.
                assert!(
                    reference.contains(char::REPLACEMENT_CHARACTER),
                    "{sequence:?}"
                );
                assert!(tokenizer.token_id("<0x00>").is_some(), "{sequence:?}");
            }
        }
    }
    assert!(n_equal > 12_000, "{n_equal}");
}

#[test]
fn an_emoji_split_over_four_tokens_comes_out_whole() {
    let tokenizer = byte_level();
    assert_eq!(
        pieces(&tokenizer, &["ð", "Ł", "¦", "Ģ", "h"]),
        ["", "", "", "🦀", "h", ""]
    );
    let tokenizer = mistral();
    let tokens = ["a", "<0xF0>", "<0x9F>", "<0xA6>", "<0x80>", "h"];
    assert_eq!(
        pieces(&tokenizer, &tokens),
        ["a", "", "", "", "🦀", "h", ""]
    );
}

#[test]
fn words_keep_the_spaces_between_them_and_lose_the_first() {
    let tokenizer = mistral();
    assert_eq!(
        pieces(&tokenizer, &["▁the", "▁the", "▁п", "й"]),
        ["the", " the", " п", "й", ""]
    );
    assert_eq!(
        pieces(&tokenizer, &["<s>", "▁", "▁the"]),
        ["", "", " the", ""]
    );
    assert_eq!(pieces(&tokenizer, &["▁▁", "a"]), [" ", "a", ""]);
    assert_eq!(
        pieces(&tokenizer, &["a", "▁", "</s>", "▁", "a"]),
        ["a", " ", "", " ", "a", ""]
    );
    // A space written as a byte is the first character too.
    assert_eq!(
        pieces(&tokenizer, &["<0x20>", "<0x20>", "a"]),
        ["", " ", "a", ""]
    );
    assert_eq!(pieces(&tokenizer, &["<0x20>"]), ["", ""]);
}

#[test]
fn cyrillic_and_combining_marks_come_out_at_once() {
    let tokenizer = byte_level();
    assert_eq!(pieces(&tokenizer, &["Ð¿", "Ð", "¹"]), ["п", "", "й", ""]);
    // A combining mark is a character of its own: its base does not wait for it.
    assert_eq!(
        pieces(&tokenizer, &["e", "Ì", "ģ"]),
        ["e", "", "\u{301}", ""]
    );
    let tokenizer = mistral();
    assert_eq!(
        pieces(&tokenizer, &["▁п", "й", "e\u{301}"]),
        ["п", "й", "e\u{301}", ""]
    );
    assert_eq!(
        pieces(&tokenizer, &["e", "<0xCC>", "<0x81>", "a"]),
        ["e", "", "\u{301}", "a", ""]
    );
}

#[test]
fn special_tokens_are_skipped_even_inside_a_character() {
    assert_eq!(
        pieces(&byte_level(), &["Ð", "</s>", "¹"]),
        ["", "", "й", ""]
    );
    let tokens = ["<s>", "<0xD0>", "</s>", "<0xB9>", "a"];
    assert_eq!(pieces(&mistral(), &tokens), ["", "", "", "й", "a", ""]);
}

#[test]
fn a_stop_after_half_a_character_shows_it_as_broken() {
    assert_eq!(
        pieces(&byte_level(), &["a", "ð", "Ł"]),
        ["a", "", "", "\u{FFFD}"]
    );
    assert_eq!(
        pieces(&mistral(), &["a", "<0xF0>", "<0x9F>"]),
        ["a", "", "", "\u{FFFD}\u{FFFD}"]
    );
}

#[test]
fn broken_bytes_flow_as_soon_as_they_are_broken() {
    // ÿ is 0xFF, which begins no character; Ģ is 0x80, which only continues one.
    let tokens = ["ÿ", "Ģ", "ð", "a", "ð", "ð"];
    let expected = [
        "\u{FFFD}",
        "\u{FFFD}",
        "",
        "\u{FFFD}a",
        "",
        "\u{FFFD}",
        "\u{FFFD}",
    ];
    assert_eq!(pieces(&byte_level(), &tokens), expected);

    let tokens = ["<0xC3>", "<0x28>", "<0xA9>", "<0x41>", "a", "<0x41>", "a"];
    let expected = ["", "\u{FFFD}(", "\u{FFFD}", "A", "a", "A", "a", ""];
    assert_eq!(pieces(&mistral(), &tokens), expected);
}

#[test]
fn a_bad_byte_is_replaced_and_the_sound_characters_beside_it_stay() {
    let tokens = [
        "<0xC3>", "<0xA9>", "<0xFF>", "<0xC3>", "<0xA9>", "<0xF0>", "<0x9F>", "a",
    ];
    let expected = [
        "",
        "é",
        "\u{FFFD}",
        "",
        "é",
        "",
        "",
        "\u{FFFD}\u{FFFD}a",
        "",
    ];
    assert_eq!(pieces(&mistral(), &tokens), expected);
    // A byte that does not continue a character may begin another one.
    let tokens = ["<0xF0>", "<0x9F>", "<0xC3>", "<0xA9>"];
    assert_eq!(
        pieces(&mistral(), &tokens),
        ["", "", "\u{FFFD}\u{FFFD}", "é", ""]
    );
}

#[test]
fn a_line_feed_written_as_a_byte_is_there_at_once() {
    assert_eq!(
        pieces(&mistral(), &["a", "<0x0A>", "<0x0A>"]),
        ["a", "\n", "\n", ""]
    );
}

#[test]
fn a_long_text_holds_no_more_than_a_short_one() {
    for (tokenizer, cycle) in [
        (byte_level(), vec!["Ġthe", "ð", "Ł", "¦", "Ģ", "ÿ", "ð"]),
        (
            mistral(),
            vec!["▁the", "<0xF0>", "<0x9F>", "<0xA6>", "<0x80>"],
        ),
        (mistral(), vec!["<0xFF>"]),
    ] {
        let mut stream = TextStream::new();
        for &id in ids(&tokenizer, &cycle).iter().cycle().take(20_000) {
            stream.push(&tokenizer, id).unwrap();
            let n_held = match &stream.held {
                Held::Nothing => 0,
                Held::ByteLevel(bytes) | Held::Fallback(bytes) => bytes.len(),
            };
            assert!(n_held <= 3, "{n_held}");
        }
    }
}

#[test]
fn a_finished_stream_begins_a_new_text() {
    let tokenizer = mistral();
    let mut stream = TextStream::new();
    for _ in 0..2 {
        assert_eq!(
            stream
                .push(&tokenizer, tokenizer.token_id("▁the").unwrap())
                .unwrap(),
            "the"
        );
        assert_eq!(
            stream
                .push(&tokenizer, tokenizer.token_id("<0xFF>").unwrap())
                .unwrap(),
            "\u{FFFD}"
        );
        assert_eq!(stream.finish(), "");
    }
}

#[test]
fn the_byte_alphabet_is_the_published_one() {
    for (character, byte) in byte_alphabet().iter().zip(0..=255) {
        assert_eq!(byte_of_char(character.chars().next().unwrap()), Some(byte));
    }
    for outside in [' ', '\u{7F}', '\u{A0}', '\u{AD}', '\u{144}', '日'] {
        assert_eq!(byte_of_char(outside), None);
    }
}
