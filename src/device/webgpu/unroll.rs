//! Unrolls loops in shader text. A loop after a line `// unroll` is replaced by copies of its body with the index as a
//! literal, so that arrays of a function are indexed by constants only. Drivers' compilers keep such an array in
//! registers. With the loop some do not (2.7 times slower on an M2, gpu.cpp #11), and FXC rejects it (wgpu #6521).
//! Shader files stay valid WGSL. Other loops are left to the compiler.

use std::collections::HashMap;
use std::iter::Peekable;

const MARK: &str = "// unroll";

type Constants<'a> = HashMap<&'a str, u32>;

/// Expands every marked loop. It must count from zero in steps of one to an expression of constants, have its closing
/// brace indented like its first line, and contain neither `break` nor `continue`.
pub fn unroll(source: &str) -> String {
    let constants = constants_of(source);
    let lines: Vec<String> = source.lines().map(str::to_owned).collect();
    let mut text = expand(&lines, &constants).join("\n");
    text.push('\n');
    text
}

/// The values of all `const NAME = …;` of unsigned integers.
fn constants_of(source: &str) -> Constants<'_> {
    let mut constants = Constants::new();
    for line in source.lines() {
        let declaration = line.strip_prefix("const ");
        let Some((name, rest)) = declaration.and_then(|rest| rest.split_once(" = ")) else {
            continue;
        };
        let expression = rest
            .split_once(';')
            .map_or(rest, |(expression, _)| expression);
        if let Some(value) = evaluate(expression, &constants) {
            constants.insert(name.trim_end_matches(": u32"), value);
        }
    }
    constants
}

fn expand(lines: &[String], constants: &Constants) -> Vec<String> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        if lines[at].trim() != MARK {
            out.push(lines[at].clone());
            at += 1;
            continue;
        }
        let head = &lines[at + 1];
        let (index, limit) =
            loop_of(head, constants).unwrap_or_else(|| panic!("cannot unroll `{head}`"));
        let indent = &head[..head.len() - head.trim_start().len()];
        let closing = format!("{indent}}}");
        let end = lines[at + 2..].iter().position(|line| *line == closing);
        let end = at + 2 + end.unwrap_or_else(|| panic!("`{head}` has no end"));
        let is_comment = |line: &String| line.trim() != MARK && line.trim().starts_with("//");
        let body = lines[at + 2..end].iter().filter(|line| !is_comment(line));
        let body = expand(&body.cloned().collect::<Vec<_>>(), constants);
        for i in 0..limit {
            out.push(format!("{indent}{{"));
            out.extend(
                body.iter()
                    .map(|line| replace_word(line, index, &format!("{i}u"))),
            );
            out.push(closing.clone());
        }
        at = end + 1;
    }
    out
}

/// Index and limit of `for (var i = 0u; i < LIMIT; i++) {`.
fn loop_of<'a>(head: &'a str, constants: &Constants) -> Option<(&'a str, u32)> {
    let (index, rest) = head
        .trim()
        .strip_prefix("for (var ")?
        .split_once(" = 0u; ")?;
    let limit = rest.strip_prefix(index)?.strip_prefix(" < ")?;
    let limit = limit.strip_suffix(&format!("; {index}++) {{"))?;
    Some((index, evaluate(limit, constants)?))
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn replace_word(line: &str, word: &str, by: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(word) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        let is_whole = !before.ends_with(is_of_word) && !after.starts_with(is_of_word);
        // The copied part of the line ends before `rest` and may end in a letter.
        let is_whole = is_whole && (!before.is_empty() || !out.ends_with(is_of_word));
        out.push_str(before);
        out.push_str(if is_whole { by } else { word });
        rest = after;
    }
    out + rest
}

/// The value of an expression of unsigned integers and constants; `None` for any other.
fn evaluate(expression: &str, constants: &Constants) -> Option<u32> {
    let spaced = ["+", "-", "*", "/", "(", ")"]
        .iter()
        .fold(expression.to_owned(), |text, sign| {
            text.replace(sign, &format!(" {sign} "))
        });
    let mut tokens = spaced.split_whitespace().peekable();
    let value = sum(&mut tokens, constants)?;
    tokens.next().is_none().then_some(value)
}

fn sum<'a>(
    tokens: &mut Peekable<impl Iterator<Item = &'a str>>,
    constants: &Constants,
) -> Option<u32> {
    let mut value = product(tokens, constants)?;
    while let Some(sign) = tokens.next_if(|token| matches!(*token, "+" | "-")) {
        let next = product(tokens, constants)?;
        value = if sign == "+" {
            value + next
        } else {
            value.checked_sub(next)?
        };
    }
    Some(value)
}

fn product<'a>(
    tokens: &mut Peekable<impl Iterator<Item = &'a str>>,
    constants: &Constants,
) -> Option<u32> {
    let mut value = atom(tokens, constants)?;
    while let Some(sign) = tokens.next_if(|token| matches!(*token, "*" | "/")) {
        let next = atom(tokens, constants)?;
        value = if sign == "*" {
            value * next
        } else {
            value.checked_div(next)?
        };
    }
    Some(value)
}

fn atom<'a>(
    tokens: &mut Peekable<impl Iterator<Item = &'a str>>,
    constants: &Constants,
) -> Option<u32> {
    match tokens.next()? {
        "(" => {
            let value = sum(tokens, constants)?;
            (tokens.next()? == ")").then_some(value)
        }
        token => match constants.get(token) {
            Some(value) => Some(*value),
            None => token.strip_suffix('u').unwrap_or(token).parse().ok(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_loop_becomes_copies_of_its_body_with_a_literal_index() {
        let source = "const N: u32 = 8;
const HALF = (N - 4u) / 2u; // of it
fn f() {
    // unroll
    for (var i = 0u; i < HALF; i++) {
        // A comment on i.
        hi[i] = i + ii;
        // unroll
        for (var j = 0u; j < 1u; j++) {
            g(i, j);
        }
    }
    for (var k = 0u; k < N; k++) {
    }
}
";
        let expected = "const N: u32 = 8;
const HALF = (N - 4u) / 2u; // of it
fn f() {
    {
        hi[0u] = 0u + ii;
        {
            g(0u, 0u);
        }
    }
    {
        hi[1u] = 1u + ii;
        {
            g(1u, 0u);
        }
    }
    for (var k = 0u; k < N; k++) {
    }
}
";
        assert_eq!(unroll(source), expected);
    }

    #[test]
    fn an_index_is_replaced_as_a_whole_word_only() {
        assert_eq!(
            replace_word("i ii i_ _i i(i)", "i", "3u"),
            "3u ii i_ _i 3u(3u)"
        );
    }

    #[test]
    #[should_panic(expected = "cannot unroll")]
    fn a_loop_whose_count_is_not_constant_is_refused() {
        unroll("// unroll\nfor (var i = 0u; i < params.n; i++) {\n}");
    }
}
