//! Byte tokens: text is released as soon as a character is whole.

use zamba2::text::stop_strings::StopStrings;
use zamba2::text::stream::TextStream;
use zamba2::text::tokenizer::Tokenizer;

use super::{fallback, read};

/// The pieces of text until a stop string, as a session releases them.
fn released(tokenizer: &Tokenizer, ids: &[u32], stop: &str) -> (Vec<String>, bool) {
    let mut stream = TextStream::new();
    let mut stops = StopStrings::new(vec![stop.to_owned()]).unwrap();
    let mut pieces = Vec::new();
    for &id in ids {
        let (piece, stopped) = stops.push(&stream.push(tokenizer, id).unwrap());
        pieces.push(piece);
        if stopped {
            return (pieces, true);
        }
    }
    (pieces, false)
}

#[test]
fn a_line_feed_as_a_stop_string_stops_with_the_token_that_is_one() {
    let tokenizer = read(&fallback()).unwrap();
    let ids = tokenizer.encode("he\nhe\n", false).unwrap();
    let line_feed = ids
        .iter()
        .position(|id| *id == 3 + u32::from(b'\n'))
        .unwrap();
    let (pieces, stopped) = released(&tokenizer, &ids, "\n");
    assert!(stopped);
    assert_eq!(pieces.len(), line_feed + 1);
    assert_eq!(pieces.concat(), "he");
}

#[test]
fn a_cut_inside_an_emoji_loses_that_emoji_only() {
    let tokenizer = read(&fallback()).unwrap();
    let ids = tokenizer.encode("🦀\n🦀", false).unwrap();
    for n_cut in 1..4 {
        let cut = &ids[..ids.len() - n_cut];
        let broken = "\u{FFFD}".repeat(4 - n_cut);
        assert_eq!(tokenizer.decode(cut).unwrap(), format!("🦀\n{broken}"));
    }
}
