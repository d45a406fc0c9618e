//! Stop strings, found across the pieces of streamed text.

use std::mem;

use crate::base::error::{Error, Fact, Result};

/// Ends generated text before the first stop string. Text that may be the start of one is held back until that is
/// decided, so no part of a stop string is ever released.
///
/// The stop string that is completed first wins, and of several completed at once the longest: the result does not
/// depend on how the text is split into pieces.
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

impl StopStrings {
    /// # Errors
    /// [`Error::Setting`] for an empty stop string, which would match everywhere.
    pub fn new(stops: Vec<String>) -> Result<StopStrings> {
        if stops.iter().any(String::is_empty) {
            return Err(Error::Setting {
                name: "stop".to_owned(),
                fact: Fact::new("empty_stop"),
            });
        }
        Ok(StopStrings {
            stops,
            held: String::new(),
            stopped: false,
        })
    }

    /// Adds a piece of text. Returns the text released by it, and whether a stop string was found, now or earlier. The
    /// stop string and everything after it is dropped.
    pub fn push(&mut self, piece: &str) -> (String, bool) {
        if self.stopped {
            return (String::new(), true);
        }
        self.held.push_str(piece);
        if let Some(start) = self.first_stop() {
            self.stopped = true;
            let mut text = mem::take(&mut self.held);
            text.truncate(start);
            return (text, true);
        }
        let undecided = self
            .held
            .split_off(self.held.len() - self.undecided_bytes());
        (mem::replace(&mut self.held, undecided), false)
    }

    /// Ends the text: releases what was held.
    pub fn finish(&mut self) -> String {
        mem::take(&mut self.held)
    }

    /// Byte offset in the held text of the stop string that is completed first.
    fn first_stop(&self) -> Option<usize> {
        self.stops
            .iter()
            .filter_map(|stop| {
                let start = self.held.find(stop.as_str())?;
                Some((start + stop.len(), start))
            })
            .min()
            .map(|(_, start)| start)
    }

    /// Length of the longest suffix of the held text that is a prefix of a stop string.
    fn undecided_bytes(&self) -> usize {
        self.stops
            .iter()
            .flat_map(|stop| stop.char_indices().map(|(end, _)| &stop[..end]))
            .filter(|prefix| self.held.ends_with(prefix))
            .map(str::len)
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use rand_core::{Rng, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    use super::*;

    fn stops(stops: &[&str]) -> StopStrings {
        StopStrings::new(stops.iter().map(|stop| (*stop).to_owned()).collect()).unwrap()
    }

    #[test]
    fn a_possible_beginning_is_held_until_it_is_decided() {
        let mut stop = stops(&["\n\nUser:"]);
        assert_eq!(stop.push("Hi.\n"), ("Hi.".to_owned(), false));
        assert_eq!(stop.push("\nUs"), (String::new(), false));
        assert_eq!(stop.push("ing\n"), ("\n\nUsing".to_owned(), false));
        assert_eq!(stop.push("\nUser: no"), (String::new(), true));
        assert_eq!(stop.push("more"), (String::new(), true));
        assert_eq!(stop.finish(), "");
    }

    #[test]
    fn the_end_releases_what_was_held() {
        let mut stop = stops(&["END"]);
        assert_eq!(stop.push("the EN"), ("the ".to_owned(), false));
        assert_eq!(stop.finish(), "EN");
        assert_eq!(stop.finish(), "");
    }

    #[test]
    fn without_stop_strings_nothing_is_held() {
        let mut stop = stops(&[]);
        assert_eq!(stop.push("anything"), ("anything".to_owned(), false));
        assert_eq!(stop.finish(), "");
    }

    #[test]
    fn an_empty_stop_string_is_refused() {
        let refused = StopStrings::new(vec!["a".to_owned(), String::new()]);
        assert!(matches!(refused, Err(Error::Setting { name, .. }) if name == "stop"));
    }

    /// Reference: add one character at a time, and cut as soon as the text ends with a stop string.
    fn cut(text: &str, stops: &[&str]) -> String {
        let mut seen = String::new();
        for c in text.chars() {
            seen.push(c);
            let ended = stops.iter().filter(|stop| seen.ends_with(**stop));
            if let Some(stop) = ended.max_by_key(|stop| stop.len()) {
                seen.truncate(seen.len() - stop.len());
                return seen;
            }
        }
        seen
    }

    #[test]
    fn the_cut_is_the_same_however_the_text_falls_into_pieces() {
        let alphabet = ["a", "b", "é", "🦀"];
        let lists: [&[&str]; 5] = [
            &["aab"],
            &["abéa", "bé"],
            &["éé", "é🦀"],
            &["aaa", "aa🦀"],
            &["🦀", "ab🦀"],
        ];
        let mut rng = Pcg64Mcg::seed_from_u64(2);
        for round in 0..5000 {
            let list = lists[round % lists.len()];
            let characters: Vec<&str> = (0..rng.next_u64() % 10)
                .map(|_| alphabet[(rng.next_u64() % 4) as usize])
                .collect();
            let mut stop = stops(list);
            let mut shown = String::new();
            let mut rest = characters.as_slice();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(1 + rng.next_u64() as usize % rest.len());
                shown += &stop.push(&piece.concat()).0;
                rest = after;
            }
            shown += &stop.finish();
            let text = characters.concat();
            assert_eq!(shown, cut(&text, list), "{text} with {list:?}");
        }
    }
}
