//! Limits on the regular expressions of a tokenizer.json: the cost of compiling and of running them. Patterns without
//! lookaround run in linear time. Those with lookaround backtrack, so all repetitions in them must be of single
//! characters, which is the form of every published pattern, such as `\s+(?!\S)`.

use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{Ast, RepetitionKind, RepetitionRange};
use regex_syntax::hir::translate::Translator;
use regex_syntax::hir::{Class, Hir, HirKind};

use crate::base::error::Fact;

/// Sum over all patterns of a file of their characters, the ranges of their classes and the copies that repetitions
/// make. The largest published pattern, of a vocabulary of 200,000, weighs under 10,000.
const WEIGHT_LIMIT: usize = 60_000;
const LENGTH_LIMIT_BYTES: usize = 4096;
/// Repetitions in one branch with lookaround: each is a factor of the text's length in the steps of a match.
const REPETITIONS_LIMIT: usize = 1;
/// Stands for a lookaround. Two characters, so that no class swallows it.
const LOOKAROUND: &str = "\u{10FFFF}\u{10FFFF}";

#[derive(Debug, PartialEq)]
pub(super) enum PatternError {
    /// Not a regular expression, or one with features that can't be bounded.
    Syntax(String),
    /// Its cost exceeds the limit.
    Cost,
    /// It matches the empty text, which cannot be replaced.
    Empty,
}

impl PatternError {
    pub(super) fn fact(self, field: &str) -> Fact {
        match self {
            PatternError::Syntax(detail) => Fact::new("pattern_syntax")
                .with("field", field)
                .with("detail", detail),
            PatternError::Cost => Fact::new("pattern_cost").with("field", field),
            PatternError::Empty => Fact::new("tokenizer_field").with("field", field),
        }
    }
}

pub(super) struct PatternBudget {
    left: usize,
}

impl Default for PatternBudget {
    fn default() -> PatternBudget {
        PatternBudget { left: WEIGHT_LIMIT }
    }
}

impl PatternBudget {
    /// Checks a pattern and subtracts its weight. Returns the bytes of its shortest match.
    pub(super) fn spend(&mut self, pattern: &str) -> Result<usize, PatternError> {
        if pattern.len() > LENGTH_LIMIT_BYTES {
            return Err(PatternError::Cost);
        }
        let (plain, has_lookaround) = without_lookaround(pattern)?;
        let syntax = |error: String| PatternError::Syntax(error.replace(LOOKAROUND, ""));
        let ast = Parser::new().parse(&plain);
        let ast = ast.map_err(|error| syntax(error.kind().to_string()))?;
        let hir = Translator::new().translate(&plain, &ast);
        let hir = hir.map_err(|error| syntax(error.kind().to_string()))?;
        self.left = self
            .left
            .checked_sub(weight(&hir))
            .ok_or(PatternError::Cost)?;
        if has_lookaround && !bounded(&ast) {
            return Err(PatternError::Cost);
        }
        Ok(shortest(&hir))
    }
}

/// The pattern with [`LOOKAROUND`] for each lookaround and without possessive quantifiers, which regex-syntax does not
/// parse, and whether there is a lookaround. One that looks at more than a single character is refused.
fn without_lookaround(pattern: &str) -> Result<(String, bool), PatternError> {
    let mut plain = String::with_capacity(pattern.len());
    let (mut rest, mut found, mut after_quantifier) = (pattern, false, false);
    while let Some(c) = rest.chars().next() {
        let opened = ["(?=", "(?!", "(?<=", "(?<!"]
            .iter()
            .find_map(|open| rest.strip_prefix(open));
        if let Some(body) = opened {
            let length = single_character(body);
            rest = body[length..]
                .strip_prefix(')')
                .filter(|_| length > 0)
                .ok_or(PatternError::Cost)?;
            plain.push_str(LOOKAROUND);
            found = true;
            after_quantifier = false;
            continue;
        }
        let length = single_character(rest).max(c.len_utf8());
        let possessive = after_quantifier && c == '+';
        if !possessive {
            plain.push_str(&rest[..length]);
        }
        after_quantifier = !possessive && "*+?}".contains(c);
        rest = &rest[length..];
    }
    Ok((plain, found))
}

/// Bytes of the expression for one character at the beginning of `pattern`: an escape, a class, or the character
/// itself. 0 if there is none.
fn single_character(pattern: &str) -> usize {
    let Some(first) = pattern.chars().next() else {
        return 0;
    };
    match first {
        '\\' => {
            let Some(escaped) = pattern[1..].chars().next() else {
                return 0;
            };
            let length = 1 + escaped.len_utf8();
            match pattern[length..].find('}') {
                Some(end) if "pPxuU".contains(escaped) && pattern[length..].starts_with('{') => {
                    length + end + 1
                }
                _ => length,
            }
        }
        '[' => class_bytes(pattern),
        '(' | ')' | '|' | '*' | '+' | '?' | '{' | '}' | '^' | '$' => 0,
        other => other.len_utf8(),
    }
}

/// Bytes of the class at the beginning of `pattern`; classes nest. 0 if it has no end.
fn class_bytes(pattern: &str) -> usize {
    let (mut depth, mut escaped) = (0, false);
    for (at, c) in pattern.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => depth += 1,
            ']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    0
}

fn weight(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Empty => 0,
        HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(Class::Unicode(class)) => class.ranges().len(),
        HirKind::Class(Class::Bytes(class)) => class.ranges().len(),
        HirKind::Repetition(repetition) => {
            let copies = repetition.max.unwrap_or(repetition.min).max(1);
            weight(&repetition.sub).saturating_mul(copies as usize)
        }
        HirKind::Capture(group) => weight(&group.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(weight).fold(1, usize::saturating_add)
        }
    }
}

/// Whether the steps of backtracking are bounded; see the head of the file. It checks the pattern as written, because
/// the engine does not run the simplified form used here.
fn bounded(ast: &Ast) -> bool {
    match ast {
        Ast::Alternation(branches) => branches.asts.iter().all(bounded),
        Ast::Group(group) => bounded(&group.ast),
        _ if !looks_around(ast) => true,
        _ => repetitions(ast).is_some_and(|count| count <= REPETITIONS_LIMIT),
    }
}

/// Unbounded repetitions in a branch with lookaround; none if one repeats more than a single character.
fn repetitions(ast: &Ast) -> Option<usize> {
    let sum = |parts: &[Ast]| {
        let counts = parts.iter().map(repetitions);
        counts.sum::<Option<usize>>()
    };
    match ast {
        Ast::Repetition(repetition) => {
            let (sub, kind) = (&*repetition.ast, &repetition.op.kind);
            let single = matches!(
                sub,
                Ast::Literal(_)
                    | Ast::Dot(_)
                    | Ast::ClassUnicode(_)
                    | Ast::ClassPerl(_)
                    | Ast::ClassBracketed(_)
            );
            match kind {
                RepetitionKind::ZeroOrOne => repetitions(sub),
                RepetitionKind::Range(
                    RepetitionRange::Exactly(_) | RepetitionRange::Bounded(..),
                ) => (single && !looks_around(sub)).then_some(0),
                _ => (single && !looks_around(sub)).then_some(1),
            }
        }
        Ast::Group(group) => repetitions(&group.ast),
        Ast::Alternation(branches) => sum(&branches.asts),
        Ast::Concat(parts) => sum(&parts.asts),
        _ => Some(0),
    }
}

fn looks_around(ast: &Ast) -> bool {
    match ast {
        Ast::Literal(literal) => LOOKAROUND.starts_with(literal.c),
        Ast::Repetition(repetition) => looks_around(&repetition.ast),
        Ast::Group(group) => looks_around(&group.ast),
        Ast::Alternation(branches) => branches.asts.iter().any(looks_around),
        Ast::Concat(parts) => parts.asts.iter().any(looks_around),
        _ => false,
    }
}

/// Bytes of the shortest text that matches.
fn shortest(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 0,
        HirKind::Literal(literal) => {
            let text = String::from_utf8_lossy(&literal.0);
            text.replace(LOOKAROUND, "").len()
        }
        HirKind::Class(class) => class.minimum_len().unwrap_or(0),
        HirKind::Repetition(repetition) => {
            shortest(&repetition.sub).saturating_mul(repetition.min as usize)
        }
        HirKind::Capture(group) => shortest(&group.sub),
        HirKind::Concat(parts) => parts.iter().map(shortest).fold(0, usize::saturating_add),
        HirKind::Alternation(parts) => parts.iter().map(shortest).min().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(pattern: &str) -> Result<usize, PatternError> {
        PatternBudget::default().spend(pattern)
    }

    #[test]
    fn published_patterns_pass() {
        for pattern in [
            // GPT-2, GPT-4, a vocabulary of 200,000, and DeepSeek.
            r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            concat!(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}|",
                r" ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
            ),
            concat!(
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|",
                r"'ve|'m|'ll|'d)?|",
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|",
                r"'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            ),
            r"[!-/:-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ] {
            assert_eq!(spend(pattern), Ok(1), "{pattern}");
        }
    }

    #[test]
    fn patterns_that_backtrack_or_grow_without_bound_are_refused() {
        for pattern in [
            r"(\s+)+(?!\S)",
            r"(?:a|a)*(?=b)",
            r"a*a*a*(?!b)",
            r"(?=(a+)+b)",
            r"\p{L}{1000}",
            r"(?:\w{100}){100}",
            &"a".repeat(LENGTH_LIMIT_BYTES + 1),
        ] {
            assert_eq!(spend(pattern), Err(PatternError::Cost), "{pattern}");
        }
        for pattern in [r"(a)\1", "(", r"(?>a+)b", r"\K"] {
            assert!(
                matches!(spend(pattern), Err(PatternError::Syntax(_))),
                "{pattern}"
            );
        }
        let mut budget = PatternBudget::default();
        let spent = (0..1000).try_for_each(|_| budget.spend(r"\p{L}").map(|_| ()));
        assert_eq!(spent, Err(PatternError::Cost));
    }

    #[test]
    fn the_shortest_match_counts_no_lookaround() {
        for (pattern, bytes) in [
            ("", 0),
            (r"(?!\S)", 0),
            (r"a(?=[bc])", 1),
            ("aé|bcd", 3),
            (r"\s*", 0),
            ("a{3,5}", 3),
        ] {
            assert_eq!(spend(pattern), Ok(bytes), "{pattern}");
        }
    }
}
