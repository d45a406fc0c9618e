//! Snapshots and run files with anything in them, from a fixed number of seeds: each is read or refused by a typed
//! error, nothing panics, and no memory beyond a small multiple of the file is asked for.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use pollster::block_on;
use serde_json::{Value, json};
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::folder;
use zamba2::model::NumericSettings;
use zamba2::report::run::Run;
use zamba2::report::{self, summary};
use zamba2::session::{GenerateOptions, LoadSettings, Session, snapshot_note};
use zamba2::words::Language;

const SNAPSHOTS: u64 = 4000;
const RUNS: u64 = 3000;
/// The files have some hundred kilobytes at most.
const MEMORY_BYTES: u64 = 128 << 20;
/// Set in the process that reads the files, so that no other test is counted in its memory.
const CHILD: &str = "ZAMBA2_DAMAGED_FILES";

/// SplitMix64: a stream of numbers per seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Below `n`, which is at least 1.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// What files of another program, another version or a bad disk may have in the place of a value.
fn odd_value(random: &mut Random) -> Value {
    match random.below(14) {
        0 => json!(0),
        1 => json!(-1),
        2 => json!(1.5),
        3 => json!(1e308),
        4 => json!(u32::MAX),
        5 => json!(1u64 << 53),
        6 => json!(u64::MAX),
        7 => json!(null),
        8 => json!(true),
        9 => json!("x".repeat(random.below(2000))),
        10 => json!([]),
        11 => json!({}),
        12 => json!(vec![0; random.below(500)]),
        _ => json!(random.below(300)),
    }
}

/// Puts something else in some place of `value`.
fn damage_value(value: &mut Value, random: &mut Random) {
    let stays_here = random.below(6) == 0;
    match value {
        Value::Array(list) if !list.is_empty() && !stays_here => {
            let at = random.below(list.len());
            match random.below(8) {
                0 => drop(list.remove(at)),
                1 => list.push(list[at].clone()),
                _ => damage_value(&mut list[at], random),
            }
        }
        Value::Object(fields) if !fields.is_empty() && !stays_here => {
            let name = fields.keys().nth(random.below(fields.len())).cloned();
            let name = name.expect("there is a field");
            match random.below(10) {
                0 => drop(fields.remove(&name)),
                _ => damage_value(&mut fields[&name], random),
            }
        }
        other => *other = odd_value(random),
    }
}

fn damage_bytes(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len());
    match random.below(5) {
        0 => bytes.truncate(at),
        1 => bytes[at] = random.next() as u8,
        2 => bytes[at] ^= 1 << random.below(8),
        3 => bytes.insert(at, random.next() as u8),
        _ => {
            let end = bytes.len().min(at + 8);
            let odd = [0, 1, u64::MAX, 1 << 40, 1 << 63][random.below(5)];
            bytes[at..end].copy_from_slice(&odd.to_le_bytes()[..end - at]);
        }
    }
}

/// The checksum of the format, from its description.
fn checksum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let all = words.chain(rest.iter().map(|&byte| u64::from(byte)));
    all.fold(0xcbf2_9ce4_8422_2325, |hash, word| {
        let mixed = (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        mixed ^ mixed >> 32
    })
}

/// `ZMB2SEQ1`, checksum, header length, header, states.
fn snapshot_of(header: &[u8], body: &[u8]) -> Vec<u8> {
    let rest = [&(header.len() as u64).to_le_bytes(), header, body].concat();
    [b"ZMB2SEQ1", &checksum(&rest).to_le_bytes()[..], &rest].concat()
}

fn damaged_snapshot(whole: &[u8], random: &mut Random) -> Vec<u8> {
    let header_bytes = u64::from_le_bytes(*whole[16..].first_chunk().unwrap()) as usize;
    let (header, body) = whole[24..].split_at(header_bytes);
    let mut bytes = match random.below(4) {
        0 => whole.to_vec(),
        1 => {
            let mut header = header.to_vec();
            damage_bytes(&mut header, random);
            return snapshot_of(&header, body);
        }
        2 => {
            let mut body = body.to_vec();
            damage_bytes(&mut body, random);
            return snapshot_of(header, &body);
        }
        _ => {
            let mut header: Value = serde_json::from_slice(header).unwrap();
            for _ in 0..1 + random.below(3) {
                damage_value(&mut header, random);
            }
            return snapshot_of(header.to_string().as_bytes(), body);
        }
    };
    damage_bytes(&mut bytes, random);
    bytes
}

fn read_snapshots() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/one_block_adapters_rope");
    let settings = LoadSettings {
        weights: WeightFormat::F32,
        context: Some(64),
        numeric: NumericSettings::default(),
        memory_limit_bytes: None,
    };
    let mut session: Session<Cpu> = folder::open(Cpu::new(1), &dir, settings).unwrap();
    let options = GenerateOptions {
        max_tokens: 60,
        ..GenerateOptions::default()
    };
    session
        .start(&[1, 2, 3, 4, 5, 6, 7], options.clone())
        .unwrap();
    for _ in 0..6 {
        block_on(session.step()).unwrap();
    }
    let whole = block_on(session.snapshot("a note")).unwrap();
    assert_eq!(snapshot_note(&whole).unwrap(), "a note");
    let mut n_restored = 0;
    for seed in 0..SNAPSHOTS {
        let bytes = damaged_snapshot(&whole, &mut Random(seed));
        let read = catch_unwind(AssertUnwindSafe(|| {
            // With other state the numbers may be anything; it is one token or a typed error.
            let more = |session: &mut Session<Cpu>| {
                session.continue_sequence(options.clone())?;
                block_on(session.step()).map(drop)
            };
            snapshot_note(&bytes).ok();
            let restored = block_on(session.restore(&bytes)).map(drop);
            restored.map(|()| more(&mut session).map_err(|error| error.code()))
        }));
        match read.unwrap_or_else(|_| panic!("seed {seed} panics")) {
            Ok(Ok(())) => n_restored += 1,
            Ok(Err(code)) => {
                n_restored += 1;
                assert!(
                    ["non_finite_logits", "prompt_too_long"].contains(&code),
                    "seed {seed}: {code}"
                );
            }
            Err(error) => {
                let refusals = [
                    "bad_snapshot",
                    "other_model",
                    "bad_token",
                    "prompt_too_long",
                ];
                assert!(refusals.contains(&error.code()), "seed {seed}: {error}");
            }
        }
    }
    // Some damage is none, such as another note or another number in the state; most is found.
    assert!((100..SNAPSHOTS / 2).contains(&n_restored), "{n_restored}");
}

/// The run of the docs with one run of each kind and few spans.
fn small_run() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/example/run.json");
    let mut run: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    for kind in ["runs", "unprofiled"] {
        run[kind].as_array_mut().unwrap().truncate(1);
    }
    let spans = run["runs"][0]["spans"].as_object_mut().unwrap();
    for (_, column) in spans.iter_mut().filter(|(name, _)| *name != "names") {
        column.as_array_mut().unwrap().truncate(80);
    }
    run
}

fn read_runs() {
    let whole = small_run();
    let text = whole.to_string();
    Run::parse(&text).unwrap();
    let mut n_read = 0;
    for seed in 0..RUNS {
        let mut random = Random(seed);
        let damaged = if random.below(4) == 0 {
            let mut bytes = text.clone().into_bytes();
            damage_bytes(&mut bytes, &mut random);
            String::from_utf8_lossy(&bytes).into_owned()
        } else {
            let mut run = whole.clone();
            for _ in 0..1 + random.below(3) {
                damage_value(&mut run, &mut random);
            }
            run.to_string()
        };
        let read = catch_unwind(|| {
            let run = Run::parse(&damaged).map_err(|error| error.code())?;
            summary::summarise(&run);
            for format in ["markdown", "json", "csv", "trace"] {
                report::export(&run, format.parse().unwrap(), Language::En);
            }
            Ok::<(), &'static str>(())
        });
        match read.unwrap_or_else(|_| panic!("seed {seed} panics")) {
            Ok(()) => n_read += 1,
            Err(code) => assert_eq!(code, "bad_run", "seed {seed}"),
        }
    }
    assert!((100..RUNS / 2).contains(&n_read), "{n_read}");
}

/// A field of `/proc/self/status`; `None` where there is no such file.
fn status_bytes(field: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim()
        .strip_suffix(" kB")?
        .parse::<u64>()
        .ok()
        .map(|kib| kib << 10)
}

/// `read` in a process of its own, in which the peak of memory is that of `read`.
fn within_memory(test: &str, read: fn()) {
    if std::env::var_os(CHILD).is_none() {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said =
            [child.stdout, child.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(child.status.success(), "{}", said.concat());
        assert!(said[0].contains("1 passed"), "{}", said[0]);
        return;
    }
    let before = status_bytes("VmHWM");
    read();
    match before.zip(status_bytes("VmHWM")) {
        Some((before, after)) => assert!(after - before < MEMORY_BYTES, "{} bytes", after - before),
        None => println!("SKIPPED: this system does not tell the peak of memory"),
    }
}

#[test]
fn snapshots_with_anything_in_them_are_restored_or_refused() {
    let test = "damaged_files::snapshots_with_anything_in_them_are_restored_or_refused";
    within_memory(test, read_snapshots);
}

#[test]
fn run_files_with_anything_in_them_are_read_or_refused() {
    let test = "damaged_files::run_files_with_anything_in_them_are_read_or_refused";
    within_memory(test, read_runs);
}
