//! Finds the control tokens of a rendered conversation that are spelled by the text of a message, as opposed to those
//! printed by the template: the template is rendered a second time with a marker inside each of them, and the markers
//! show their positions.

use crate::base::error::Result;
use crate::text::chat::Message;

/// Roles whose messages are untrusted. A model's own answer may contain control tokens on purpose, and a system message
/// comes from the application.
const FOREIGN_ROLES: [&str; 2] = ["user", "tool"];

/// Byte offsets in `text` at which the content of a message spells one of `control_tokens`, in ascending order. `text`
/// is the result of `render` for `messages`.
///
/// Empty if the two cannot be told apart, because a marker changes the rendered text elsewhere: for example if the
/// template prints the length of a message, or its JSON in ASCII.
pub(super) fn starts(
    messages: &[Message],
    control_tokens: &[String],
    text: &str,
    render: impl FnOnce(&[Message]) -> Result<String>,
) -> Vec<usize> {
    let foreign = |message: &Message| FOREIGN_ROLES.contains(&message.role.as_str());
    let found: Vec<Vec<usize>> = messages
        .iter()
        .map(|message| match foreign(message) {
            true => occurrences(&message.content, control_tokens),
            false => Vec::new(),
        })
        .collect();
    if found.iter().all(Vec::is_empty) {
        return Vec::new();
    }
    let Some(marker) = unused_character(messages, text) else {
        return Vec::new();
    };
    let marked: Vec<Message> = messages
        .iter()
        .zip(&found)
        .map(|(message, starts)| Message {
            role: message.role.clone(),
            content: with_markers(&message.content, starts, marker),
        })
        .collect();
    let rendered = render(&marked).unwrap_or_default();
    let (unmarked, ends) = without_markers(&rendered, marker);
    if unmarked != text {
        return Vec::new();
    }
    // A marker is placed after the first character of a token.
    ends.into_iter()
        .filter_map(|end| text[..end].char_indices().next_back())
        .map(|(start, _)| start)
        .collect()
}

/// The offsets at which any of the tokens begins in `content`, in ascending order; they may overlap. Tokens of one
/// character are left out, because a marker cannot split them.
fn occurrences(content: &str, control_tokens: &[String]) -> Vec<usize> {
    let tokens = || {
        control_tokens
            .iter()
            .filter(|token| token.chars().nth(1).is_some())
    };
    content
        .char_indices()
        .filter(|(start, _)| tokens().any(|token| content[*start..].starts_with(token.as_str())))
        .map(|(start, _)| start)
        .collect()
}

/// A private-use character that occurs nowhere in the conversation.
fn unused_character(messages: &[Message], text: &str) -> Option<char> {
    let used =
        |c: char| text.contains(c) || messages.iter().any(|message| message.content.contains(c));
    ('\u{F0000}'..='\u{F00FF}').find(|c| !used(*c))
}

fn with_markers(content: &str, starts: &[usize], marker: char) -> String {
    let mut marked = String::with_capacity(content.len() + starts.len() * marker.len_utf8());
    for (start, c) in content.char_indices() {
        marked.push(c);
        if starts.binary_search(&start).is_ok() {
            marked.push(marker);
        }
    }
    marked
}

/// The text without its markers, and the offsets in it at which they were.
fn without_markers(marked: &str, marker: char) -> (String, Vec<usize>) {
    let mut text = String::with_capacity(marked.len());
    let mut offsets = Vec::new();
    for c in marked.chars() {
        if c == marker {
            offsets.push(text.len());
        } else {
            text.push(c);
        }
    }
    (text, offsets)
}
