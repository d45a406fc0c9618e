//! Text of a model or checkpoint on a terminal: control characters are replaced by visible symbols, so that generated
//! text cannot move the cursor, overwrite output or change the window title. Pipes and files get the text unchanged.

use std::borrow::Cow;
use std::io::IsTerminal;

/// `text` in the form that is safe for `output`.
pub fn shown<'a>(text: &'a str, output: &impl IsTerminal) -> Cow<'a, str> {
    if output.is_terminal() {
        visible(text)
    } else {
        Cow::Borrowed(text)
    }
}

/// `text` with control characters other than line feed and tab replaced by a control picture or a code.
fn visible(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match u32::from(c) {
            _ if !obeyed(c) => shown.push(c),
            0x7F => shown.push('\u{2421}'),
            // U+2400 and up are the control pictures of U+0000 and up.
            code @ ..0x20 => shown.extend(char::from_u32(0x2400 + code)),
            code => shown.push_str(&format!("<U+{code:04X}>")),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_text_stays() {
        for (text, shown) in [
            ("\x1b[31mred\x1b]0;title\x07", "␛[31mred␛]0;title␇"),
            ("a\rb\x08\x7f\0", "a␍b␈␡␀"),
            ("\u{9b}2J", "<U+009B>2J"),
            ("line\n\tпривет 🦀\u{301}", "line\n\tпривет 🦀\u{301}"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }
}
