//! Checks the structure of `src/`: which modules import which, and which identifiers are limited to which files. The
//! sources are read as text; what the compiler already checks is not repeated. `documents.rs` checks the names in
//! documents.

use std::fs;
use std::path::Path;

/// Each module and its floor. A file's module is the longest path here that is a prefix of the file's.
const FLOORS: [(&str, u8); 27] = [
    ("base::calendar", 0),
    ("base::checksum", 0),
    ("base::clock", 0),
    ("base::error", 0),
    ("base::json", 0),
    ("base::local_time", 0),
    ("base::quant", 0),
    ("base::simd", 0),
    ("base::vecmath", 0),
    ("threads", 0),
    ("text", 0),
    ("words", 0),
    ("ops", 1),
    ("device::candle", 2),
    ("device::cpu", 2),
    ("device::webgpu", 2),
    ("model", 2),
    ("family", 3),
    ("loader", 4),
    ("bench", 5),
    ("report", 5),
    ("self_test", 5),
    ("session", 5),
    ("folder", 6),
    ("api", 6),
    ("cli", 7),
    ("main", 7),
];
const TOP_FLOOR: u8 = 7;

/// Files that only declare modules.
const DECLARATIONS_ONLY: [&str; 3] = ["lib.rs", "base/mod.rs", "device/mod.rs"];

/// Modules on floor 0 that others on floor 0 may import.
const SHARED_FLOOR_0: [&str; 8] = [
    "base::error",
    "base::calendar",
    "base::clock",
    "base::json",
    "base::local_time",
    "base::simd",
    "base::vecmath",
    "words",
];

/// Fragments of Zamba2's tensor and class names, allowed only in `family/zamba2.rs` and its folder. Not listed: the
/// class of the whole model, which the config.json of `cli/make_checkpoint.rs` needs; `embed_tokens`,
/// `final_layernorm` and `lm_head`, which are also names of what is loaded and stored as a whole (`Unit`); `in_proj`
/// and `out_proj`, which are names of sizes in the benches.
const ZAMBA2_NAMES: [&str; 30] = [
    "A_log",
    "_adapter_list",
    "_layernorm.",
    "down_proj",
    "dt_bias.",
    "feed_forward",
    "gate_up_proj",
    "input_layernorm",
    "k_proj",
    "linear_fc1",
    "linear_q_adapter",
    "mamba.",
    "mamba_decoder",
    "mamba_layers",
    "model.embed_tokens",
    "model.final_layernorm",
    "model.layers",
    "o_proj",
    "out_proj.",
    "pre_ff_layernorm",
    "self_attn",
    "shared_transformer.i",
    "v_proj",
    "Zamba2Attention",
    "Zamba2HybridLayer",
    "Zamba2MLP",
    "Zamba2Mamba",
    "Zamba2RMSNorm",
    "SSM scan",
    "Attention kernel",
];

/// Identifiers that only the given files may use (a folder ends with a slash).
const RESERVED: [(&str, &[&str]); 16] = [
    ("wasm_bindgen", &["api/", "base/clock.rs"]),
    ("wasm_bindgen_futures", &["api/"]),
    ("web_sys", &["api/", "base/clock.rs"]),
    ("js_sys", &["api/", "base/clock.rs", "base/local_time.rs"]),
    ("JsValue", &["api/"]),
    ("unsafe", &["base/simd/", "threads/pool.rs"]),
    // api/ measures wasm's memory, which is only possible with `core::arch`.
    ("core::arch", &["base/simd/", "api/"]),
    ("std::arch", &[]),
    ("std::fs", &["folder.rs", "folder/pack.rs", "cli/"]),
    ("File", &["folder.rs", "folder/pack.rs", "cli/"]),
    ("Instant", &["base/clock.rs", "cli/"]),
    ("println", &["cli/"]),
    ("wgpu", &["device/webgpu/"]),
    ("zamba2_grammar", &["cli/"]),
    (
        "candle",
        &[
            "device/mod.rs",
            "device/candle/",
            "cli/device.rs",
            "cli/device/",
        ],
    ),
    ("candle_core", &["device/candle/"]),
];

/// All violations in the file at `path` below `src/`.
fn problems(path: &str, text: &str) -> Vec<String> {
    let code = without_comments(text);
    let mut problems = floor_problems(path, &code);
    for (word, files) in RESERVED {
        let allowed = files.iter().any(|file| match file.strip_suffix('/') {
            Some(_) => path.starts_with(file),
            None => path == *file,
        });
        if !allowed && contains_word(&code, word) {
            problems.push(format!("`{word}` is not allowed in this file"));
        }
    }
    problems.extend(safety_problems(text));
    problems.extend(cfg_problems(&code));
    problems.extend(family_problems(path, &code));
    problems.extend(work_problems(path, &code));
    problems
        .into_iter()
        .map(|problem| format!("src/{path}: {problem}"))
        .collect()
}

/// The text with comments removed but all lines kept. A `//` after a colon is part of a URL in a string.
fn without_comments(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let comment = line
            .match_indices("//")
            .find(|(at, _)| !line[..*at].ends_with(':'));
        comment.map_or(line, |(at, _)| &line[..at])
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn contains_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        !code[..at].ends_with(is_name) && !code[at + word.len()..].starts_with(is_name)
    })
}

/// The entry of [`FLOORS`] for the module path `path` (`a::b::c`).
fn module(path: &str) -> Option<(&'static str, u8)> {
    let inside = |name: &str| {
        let rest = path.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let fitting = FLOORS.into_iter().filter(|(name, _)| inside(name));
    fitting.max_by_key(|(name, _)| name.len())
}

fn floor_problems(path: &str, code: &str) -> Vec<String> {
    if DECLARATIONS_ONLY.contains(&path) {
        return Vec::new();
    }
    let own = path
        .trim_end_matches(".rs")
        .trim_end_matches("/mod")
        .replace('/', "::");
    let Some((own, own_floor)) = module(&own) else {
        return vec!["the file has no floor; add it to the table and to ARCHITECTURE.md".into()];
    };
    let mut problems = Vec::new();
    for import in imports(code) {
        let Some((target, floor)) = module(&import) else {
            problems.push(format!("`crate::{import}` has no floor"));
            continue;
        };
        let is_shared = own_floor == 0 && SHARED_FLOOR_0.contains(&target);
        if target != own && floor >= own_floor && !is_shared {
            problems.push(format!(
                "`{own}` on floor {own_floor} uses `{target}` on floor {floor}"
            ));
        }
    }
    // `super` would bypass this check, except for `super::*` in unit tests. The top floor has nothing above it.
    let mut supers = code.match_indices("super::");
    if own_floor < TOP_FLOOR
        && supers
            .any(|(at, _)| !code[at..].starts_with("super::*") || code[..at].ends_with("super::"))
    {
        problems.push("other modules must be named from `crate::`, not from `super::`".into());
    }
    problems
}

/// Every path after `crate::`, with braces expanded.
fn imports(code: &str) -> Vec<String> {
    let after = code
        .match_indices("crate::")
        .filter(|(at, _)| !code[..*at].ends_with(is_name));
    after
        .flat_map(|(at, word)| paths(&code[at + word.len()..]))
        .collect()
}

/// The paths at the start of the text: `a::{b, c::d}` gives `a::b` and `a::c::d`.
fn paths(text: &str) -> Vec<String> {
    let Some(group) = text.strip_prefix('{') else {
        let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        return match rest.strip_prefix("::") {
            Some(rest) => paths(rest)
                .iter()
                .map(|path| format!("{name}::{path}"))
                .collect(),
            None => vec![name.into()],
        };
    };
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                let item = group[start..at].trim();
                if !item.is_empty() {
                    found.extend(paths(item));
                }
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found
}

/// Each unsafe block and impl needs a reason directly above it, each unsafe function of a trait a contract.
fn safety_problems(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut problems = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let code = without_comments(line);
        let above = lines[..i]
            .iter()
            .rev()
            .take_while(|line| line.starts_with("//"));
        let above: String = above.copied().collect();
        let block = code.contains("unsafe {") || code.contains("unsafe impl");
        if block && !above.contains("// SAFETY: ") {
            problems.push(format!(
                "line {} is unsafe without `// SAFETY:` above",
                i + 1
            ));
        }
        // A function with a body implements a trait's contract, unless it is public and has its own.
        let contract =
            code.contains("unsafe fn") && (code.ends_with(';') || code.starts_with("pub"));
        if contract && !above.contains("/// # Safety") {
            problems.push(format!(
                "line {} is unsafe without a `# Safety` section",
                i + 1
            ));
        }
    }
    problems
}

/// `cfg` may select modules and items. Inside a function it would interleave platforms with the algorithm.
fn cfg_problems(code: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let lines: Vec<&str> = code.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        let item = line.trim_start();
        let indent = line.len() - item.len();
        let next = lines.get(i + 1).map_or("", |line| line.trim_start());
        let of_a_module = [
            "#[test]", "mod ", "use ", "fn ", "pub ", "const ", "static ",
        ];
        let on_an_item = of_a_module.iter().any(|start| next.starts_with(start));
        let inside = item.starts_with("#[cfg") && !(indent == 0 || indent == 4 && on_an_item);
        if inside || line.contains("cfg!(") {
            problems.push(format!("line {} has a cfg inside a function", i + 1));
        }
    }
    problems
}

/// The code before the unit tests, which are at the end of a file.
pub fn without_tests(code: &str) -> &str {
    code.split("#[cfg(test)]\nmod tests").next().unwrap_or(code)
}

/// Names of a family's tensors and classes are only in its own file.
fn family_problems(path: &str, code: &str) -> Vec<String> {
    if path.starts_with("family/") && path != "family/mod.rs" {
        return Vec::new();
    }
    let literals = string_literals(without_tests(code)).concat();
    names_in(&literals)
}

fn names_in(text: &str) -> Vec<String> {
    let names = ZAMBA2_NAMES.iter().filter(|name| text.contains(*name));
    names
        .map(|name| format!("`{name}` is only allowed in the file of a family"))
        .collect()
}

/// The contents of string literals, each followed by a line end. A literal over several lines is split by line.
fn string_literals(code: &str) -> Vec<String> {
    let lines = code.lines().map(|line| line.replace("\\\"", ""));
    let literals = lines.flat_map(|line| {
        let parts: Vec<String> = line.split('"').map(|part| format!("{part}\n")).collect();
        parts.into_iter().skip(1).step_by(2)
    });
    literals.collect()
}

/// FLOPs and bytes of ops come from `ops/work.rs`: no other file constructs a `Work`.
fn work_problems(path: &str, code: &str) -> Vec<String> {
    if path == "ops/work.rs" {
        return Vec::new();
    }
    let made = without_tests(code)
        .match_indices("Work {")
        .filter(|(at, _)| {
            let before = &code[..*at];
            !(before.ends_with(is_name) || before.ends_with("-> ") || before.ends_with("for "))
        });
    let problem = |_| "the work of an op is counted in ops/work.rs".to_owned();
    made.map(problem).collect()
}

/// The files below `folder` with one of these extensions: paths relative to `folder`, with `/`, and contents.
pub fn files(folder: &Path, extensions: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            let inside = files(&path, extensions).into_iter();
            found.extend(inside.map(|(path, text)| (format!("{name}/{path}"), text)));
        } else if extensions
            .iter()
            .any(|extension| path.extension() == Some(extension.as_ref()))
        {
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn modules_import_only_from_floors_below_and_use_only_allowed_identifiers() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for (path, text) in files(&src, &["rs"]) {
        found.extend(problems(&path, &text));
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn scripts_and_other_crates_know_no_module_of_a_family() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in ["www", "npm", "grammar", "xtask"] {
        for (path, text) in files(&root.join(folder), &["js", "rs"]) {
            let problems = names_in(&without_comments(without_tests(&text))).into_iter();
            found.extend(problems.map(|problem| format!("{folder}/{path}: {problem}")));
        }
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn every_name_that_is_reserved_for_the_family_is_a_name_of_the_family() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let family = files(&src.join("family"), &["rs"]);
    let text: String = family.into_iter().map(|(_, text)| text).collect();
    for name in ZAMBA2_NAMES {
        // The parts of a path are joined when a plan is made.
        let is_theirs = name.split('.').all(|part| text.contains(part));
        assert!(is_theirs, "{name}");
    }
}

#[test]
fn every_module_in_the_table_exists() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (name, _) in FLOORS {
        let path = src.join(name.replace("::", "/"));
        assert!(
            path.with_extension("rs").exists() || path.join("mod.rs").exists(),
            "{name}"
        );
    }
}

#[test]
fn every_kind_of_violation_is_found() {
    let simd = "base/simd/x86.rs";
    for (path, text) in [
        ("model/forward.rs", "use crate::device::cpu::Cpu;"),
        (
            "model/forward.rs",
            "use crate::{\n    ops::Ops, device::{cpu::{self, Cpu}},\n};",
        ),
        ("model/forward.rs", "let x = crate::session::argmax(&y);"),
        ("model/mod.rs", "use super::loader;"),
        ("model/mod.rs", "use super::super::loader::*;"),
        ("ops/mod.rs", "use crate::model::config::Config;"),
        ("device/cpu/mod.rs", "use crate::device::webgpu::WebGpu;"),
        ("device/cpu/mod.rs", "use crate::device::candle::Candle;"),
        ("model/mod.rs", "use crate::family::plan;"),
        ("device/cpu/mod.rs", "use crate::model::config::Config;"),
        ("loader/mod.rs", "use crate::session::Session;"),
        ("folder.rs", "use crate::api::Engine;"),
        ("base/quant.rs", "use crate::text::sampling::Sampler;"),
        ("base/quant.rs", "use crate::ops::Ops;"),
        ("base/quant.rs", "use crate::nowhere::Thing;"),
        ("somewhere.rs", "pub struct Thing;"),
        ("session/mod.rs", "use wasm_bindgen::prelude::*;"),
        ("model/mod.rs", "fn f(v: JsValue) {}"),
        ("loader/mod.rs", "use std::fs;"),
        (
            "loader/mod.rs",
            "let f = std::io::BufReader::new(File::open(p)?);",
        ),
        ("model/mod.rs", "let now = Instant::now();"),
        ("model/mod.rs", "println!(\"here\");"),
        ("base/quant.rs", "use candle_core::Tensor;"),
        (
            "device/cpu/linear.rs",
            "// SAFETY: none\nlet x = unsafe { y };",
        ),
        ("device/cpu/linear.rs", "use core::arch::wasm32::*;"),
        (simd, "let x = unsafe { y };"),
        (
            simd,
            "// SAFETY: far away.\nlet z = 1;\nlet x = unsafe { y };",
        ),
        (simd, "unsafe impl Sync for X {}"),
        (simd, "/// Takes a part.\nunsafe fn part(&self);"),
        (simd, "pub unsafe fn part(&self) {}"),
        (
            "base/quant.rs",
            "fn f() {\n    #[cfg(test)]\n    let x = 1;\n}",
        ),
        (
            "base/quant.rs",
            "fn f() {\n    if x {\n        #[cfg(test)]\n        fn g() {}\n    }\n}",
        ),
        ("base/quant.rs", "fn f() {\n    if cfg!(test) {}\n}"),
        (
            "loader/mod.rs",
            "let name = \"model.layers.0.mamba.A_log\";",
        ),
        ("report/mod.rs", "\"norm\" => \"Zamba2RMSNormGated\","),
        ("device/cpu/norm.rs", "let work = Work { flops: 2.0 * n };"),
    ] {
        assert!(
            !problems(path, text).is_empty(),
            "nothing found in src/{path}:\n{text}"
        );
    }
}

#[test]
fn valid_code_has_no_violations() {
    let simd = "base/simd/x86.rs";
    for (path, text) in [
        (
            "model/forward.rs",
            "use crate::ops::{Ops, device::Linear};\nuse crate::model::Zamba2;",
        ),
        (
            "model/forward.rs",
            "/// Unlike `crate::session`, it is unsafe to call before the Instant.\nfn f() {}",
        ),
        (
            "device/cpu/mod.rs",
            "use crate::threads::pool::Pool;\nuse crate::ops::device::Device;",
        ),
        (
            "ops/trace.rs",
            "use crate::base::clock::now_us;\n#[cfg(test)]\nmod tests {\n    use super::*;\n}",
        ),
        (
            "family/zamba2.rs",
            "let name = \"model.layers.0.mamba.A_log\";",
        ),
        (
            "model/forward.rs",
            "let end = model.layers.len(); let x = self_attn; // \"A_log\"",
        ),
        (
            "ops/work.rs",
            "fn norm() -> Work {\n    Work { flops: 2.0 * n }\n}",
        ),
        (
            "report/count.rs",
            "fn sum(&self) -> Work {\n    ModuleWork { flops: work.flops }\n}",
        ),
        ("main.rs", "mod cli;\nfn main() { cli::run() }"),
        (
            "cli/mod.rs",
            "use std::fs;\nuse zamba2::session::Session;\nuse crate::cli::bench;",
        ),
        (
            "base/error.rs",
            "let e = MissingFile; let s = \"https://a.b/unsafely\";",
        ),
        (
            simd,
            "// SAFETY: the slice has\n// 16 bytes.\nlet x = unsafe { y };",
        ),
        (
            simd,
            "/// # Safety\n/// Once.\nunsafe fn part(&self);\nunsafe fn part(&self) {}",
        ),
        (
            "base/clock.rs",
            "#[cfg(unix)]\nmod a {}\nmod tests {\n    #[cfg(unix)]\n    #[test]\n    fn t() {}\n}",
        ),
    ] {
        assert_eq!(problems(path, text), [""; 0], "in src/{path}:\n{text}");
    }
}
