//! A chat template's source, before it is compiled: the length of its tags, and a tag that jinja does not have.

/// Longest tag that is compiled. The engine's parser recurses once per operator, without a bound of its own; tags of
/// published templates have a few hundred bytes, strings aside.
pub(super) const TAG_LIMIT_BYTES: usize = 1500;

/// Bytes of the longest tag, string literals excluded.
pub(super) fn longest_tag(source: &str) -> usize {
    let (mut longest, mut rest) = (0, source);
    while let Some(at) = rest.find('{') {
        let tag = rest[at..].split_at_checked(2);
        let Some((open, body)) = tag.filter(|(open, _)| ["{%", "{{", "{#"].contains(open)) else {
            rest = &rest[at + 1..];
            continue;
        };
        let word = body.trim_start_matches(|c: char| c.is_whitespace() || "+-".contains(c));
        let verbatim = match open {
            "{#" => Some("#}"),
            "{%" if word.starts_with("raw") => Some("endraw"),
            _ => None,
        };
        if let Some(end) = verbatim {
            rest = body.split_once(end).map_or("", |(_, rest)| rest);
            continue;
        }
        let close = if open == "{{" { "}}" } else { "%}" };
        let (mut quote, mut escaped, mut length, mut end) = (None, false, 0, body.len());
        for (i, c) in body.char_indices() {
            match quote {
                Some(_) if escaped => escaped = false,
                Some(_) if c == '\\' => escaped = true,
                Some(open) if c == open => quote = None,
                Some(_) => {}
                None if body[i..].starts_with(close) => {
                    end = i;
                    break;
                }
                None => {
                    quote = Some(c).filter(|c| "'\"".contains(*c));
                    length += c.len_utf8();
                }
            }
        }
        longest = longest.max(length);
        rest = &body[end..];
    }
    longest
}

/// Replaces `{% generation %}`, an extension of the reference that marks the assistant's text for training and prints
/// its body, by a condition that always holds.
pub(super) fn without_generation_tags(source: &str) -> String {
    let mut parts = source.split("{%");
    let mut rewritten = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        rewritten.push_str("{%");
        let tag = part.split_once("%}").and_then(|(tag, rest)| {
            let word = tag.trim_matches(|c: char| c.is_whitespace() || "+-".contains(c));
            let replacement = match word {
                "generation" => "if true",
                "endgeneration" => "endif",
                _ => return None,
            };
            Some(format!("{}%}}{rest}", tag.replace(word, replacement)))
        });
        rewritten.push_str(tag.as_deref().unwrap_or(part));
    }
    rewritten
}
