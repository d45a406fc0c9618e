//! Calls that fail: what they say, and that they leave model and sequence as they were. Logits that overflow are found
//! on every device, also where the device chooses tokens by itself; without a graphics adapter that half says that it
//! was skipped.

use std::fs;
use std::path::Path;

use pollster::block_on;
use tempfile::TempDir;
use zamba2::base::error::Error;
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::device::webgpu::AdapterOptions;
use zamba2::folder;
use zamba2::model::NumericSettings;
use zamba2::ops::device::Device;
use zamba2::session::{GenerateOptions, LoadSettings, Lookahead, Session};
use zamba2::text::sampling::SamplingOptions;

use crate::adapter;
use crate::support::{Golden, greedy};

const TOKENS: usize = 12;
const IN_FLIGHT: Lookahead = Lookahead {
    min_steps: 2,
    max_steps: 2,
};
const HOST: Lookahead = Lookahead {
    min_steps: 1,
    max_steps: 1,
};

fn golden() -> Golden {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    Golden::open(&fixtures.join("one_block_adapters_rope"))
}

fn open<B: Device>(device: B, dir: &Path, lookahead: Lookahead) -> Session<B> {
    let settings = LoadSettings {
        weights: WeightFormat::F32,
        context: Some(100),
        numeric: NumericSettings::default(),
        memory_limit_bytes: None,
    };
    let mut session = folder::open(device, dir, settings).unwrap();
    session.set_lookahead(lookahead);
    session
}

/// Tokens until an end or an error.
fn tokens<B: Device>(session: &mut Session<B>) -> (Vec<u32>, Option<Error>) {
    let mut tokens = Vec::new();
    loop {
        match block_on(session.step()) {
            Ok(step) => {
                tokens.push(step.token);
                if step.done.is_some() {
                    return (tokens, None);
                }
            }
            Err(error) => return (tokens, Some(error)),
        }
    }
}

type Call<'a> = (&'a str, &'a dyn Fn(&mut Session<Cpu>) -> Error);

#[test]
fn calls_that_are_refused_leave_the_sequence_to_continue_branch_and_save() {
    let golden = golden();
    let prompt = golden.ids("input_ids");
    let vocab_size = golden.numbers("prefill_logits").len() as u32 / prompt.len() as u32;
    let too_long = vec![1; 101];
    let bad_option = |options: GenerateOptions| {
        move |session: &mut Session<Cpu>| session.start(&[1, 2], options.clone()).unwrap_err()
    };
    let hot = bad_option(GenerateOptions {
        sampling: SamplingOptions {
            temperature: f64::NAN,
            ..SamplingOptions::default()
        },
        ..greedy(5)
    });
    let stop = bad_option(GenerateOptions {
        stop: vec![String::new()],
        ..greedy(5)
    });
    let none = bad_option(greedy(0));
    let outside = [1, vocab_size];
    let calls: [Call; 14] = [
        ("empty_prompt", &|s| block_on(s.logits(&[])).unwrap_err()),
        ("bad_token", &|s| block_on(s.logits(&outside)).unwrap_err()),
        ("prompt_too_long", &|s| {
            block_on(s.logits(&too_long)).unwrap_err()
        }),
        ("empty_prompt", &|s| {
            block_on(s.hidden_states(&[])).unwrap_err()
        }),
        ("bad_token", &|s| block_on(s.append(&outside)).unwrap_err()),
        ("prompt_too_long", &|s| {
            block_on(s.append(&too_long)).unwrap_err()
        }),
        ("empty_prompt", &|s| s.start(&[], greedy(5)).unwrap_err()),
        ("bad_token", &|s| s.start(&outside, greedy(5)).unwrap_err()),
        ("prompt_too_long", &|s| {
            s.check_prompt(&[1; 90], 11).unwrap_err()
        }),
        ("bad_option", &hot),
        ("bad_option", &stop),
        ("bad_option", &none),
        ("bad_token", &|s| {
            s.branch(0, vocab_size, greedy(5)).unwrap_err()
        }),
        ("bad_snapshot", &|s| {
            block_on(s.restore(b"ZMB2SEQ1 and no more")).unwrap_err()
        }),
    ];
    for lookahead in [HOST, IN_FLIGHT] {
        let mut session = open(Cpu::new(1), &golden.dir, lookahead);
        session.start(&prompt, greedy(TOKENS)).unwrap();
        let (whole, _) = tokens(&mut session);
        for (code, call) in calls {
            session.start(&prompt, greedy(5)).unwrap();
            let (first, _) = tokens(&mut session);
            let saved = block_on(session.snapshot("")).unwrap();
            let error = call(&mut session);
            assert_eq!(error.code(), code, "{error}");
            assert_eq!(block_on(session.snapshot("")).unwrap(), saved, "{error}");
            session.continue_sequence(greedy(TOKENS)).unwrap();
            assert_eq!(tokens(&mut session).0, whole[first.len()..], "{error}");
            session.branch(2, whole[2], greedy(TOKENS)).unwrap();
            assert_eq!(tokens(&mut session).0, whole[2..], "{error}");
        }
    }
}

/// A net whose output is multiplied, so that the logits of the second prompt overflow and those of the first do not.
struct Overflowing {
    dir: TempDir,
    fits: Vec<u32>,
    overflows: Vec<u32>,
}

fn overflowing() -> Overflowing {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/untied");
    let mut session = open(Cpu::new(1), &dir, HOST);
    let vocab_size = session.config().vocab_size;
    let tokens = |step| (0..vocab_size as u32).step_by(step);
    let prompts = tokens(5).flat_map(|first| tokens(7).map(move |second| [first, second]));
    let mut largest: Vec<(f32, [u32; 2])> = prompts
        .map(|prompt| {
            let logits = block_on(session.logits(&prompt)).unwrap();
            let last = logits[vocab_size..].iter();
            (
                last.fold(0.0, |largest, logit| logit.abs().max(largest)),
                prompt,
            )
        })
        .collect();
    largest.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (least, most) = (largest[0], largest[largest.len() - 1]);
    // So far apart that sums on the way to the smaller logits stay finite, too.
    assert!(most.0 > 1.5 * least.0, "{least:?} {most:?}");
    let factor = 1.05 * (f32::MAX / most.0);

    let files = TempDir::new().unwrap();
    fs::copy(dir.join("config.json"), files.path().join("config.json")).unwrap();
    let mut bytes = fs::read(dir.join("model.safetensors")).unwrap();
    // Neither can take the whole factor.
    let half = 2f32.powi(60);
    multiply(&mut bytes, "model.final_layernorm.weight", half);
    multiply(&mut bytes, "lm_head.weight", factor / half);
    fs::write(files.path().join("model.safetensors"), bytes).unwrap();
    Overflowing {
        dir: files,
        fits: least.1.to_vec(),
        overflows: most.1.to_vec(),
    }
}

/// Multiplies a tensor of a safetensors file.
fn multiply(file: &mut [u8], tensor: &str, factor: f32) {
    let header_bytes = u64::from_le_bytes(*file.first_chunk().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&file[8..8 + header_bytes]).unwrap();
    let tensor = &header[tensor];
    let offset = |i: usize| 8 + header_bytes + tensor["data_offsets"][i].as_u64().unwrap() as usize;
    let data = &mut file[offset(0)..offset(1)];
    match tensor["dtype"].as_str().unwrap() {
        "BF16" => {
            for number in data.as_chunks_mut::<2>().0 {
                let weight = f32::from_bits(u32::from(u16::from_le_bytes(*number)) << 16);
                *number = (((weight * factor).to_bits() >> 16) as u16).to_le_bytes();
            }
        }
        "F32" => {
            for number in data.as_chunks_mut::<4>().0 {
                *number = (f32::from_le_bytes(*number) * factor).to_le_bytes();
            }
        }
        other => panic!("{other}"),
    }
}

fn assert_overflows<T: std::fmt::Debug>(result: Result<T, Error>) {
    let error = result.unwrap_err();
    assert_eq!(error.code(), "non_finite_logits", "{error}");
    assert!(
        error.to_string().contains("the device is not at fault"),
        "{error}"
    );
}

fn check_overflow<B: Device>(make: &dyn Fn() -> B) {
    let net = overflowing();
    for lookahead in [HOST, IN_FLIGHT] {
        let mut session = open(make(), net.dir.path(), lookahead);
        let drawn = GenerateOptions {
            sampling: SamplingOptions::default(),
            ..greedy(3)
        };
        let penalised = GenerateOptions {
            sampling: SamplingOptions {
                repetition_penalty: 1.3,
                ..greedy(3).sampling
            },
            ..greedy(3)
        };
        for options in [greedy(3), drawn, penalised] {
            session.start(&net.overflows, options.clone()).unwrap();
            // Another step finds the same, and not a device that had failed before.
            for _ in 0..2 {
                assert_overflows(block_on(session.step()));
            }
            session.continue_sequence(options.clone()).unwrap();
            assert_overflows(block_on(session.step()));
            // The model is as usable as before.
            session.start(&net.fits, options).unwrap();
            block_on(session.step()).unwrap();
        }
        assert_overflows(block_on(session.logits(&net.overflows)));
        block_on(session.logits(&net.fits)).unwrap();
        session.reset();
        assert_overflows(block_on(session.append(&net.overflows)));
    }
}

#[test]
fn logits_that_overflow_are_an_error_of_their_own_each_time_and_other_prompts_go_on() {
    check_overflow(&|| Cpu::new(1));
    match adapter::open(AdapterOptions::default()) {
        Ok(_) => check_overflow(&|| adapter::open(AdapterOptions::default()).unwrap()),
        Err(Error::NoAdapter { fact }) => println!("SKIPPED: overflow on an adapter: {fact}"),
        Err(error) => panic!("{error}"),
    }
}

/// A run whose logits overflow after some tokens, which the device may have chained.
fn check_overflow_in_a_run<B: Device>(make: &dyn Fn() -> B) {
    let net = overflowing();
    let run = |lookahead| {
        let mut session = open(make(), net.dir.path(), lookahead);
        session.start(&net.fits, greedy(90)).unwrap();
        let (tokens, error) = tokens(&mut session);
        let saved = block_on(session.snapshot(""));
        (
            tokens,
            error.map(|error| error.code()),
            saved.map(|bytes| bytes.len()),
        )
    };
    let one_by_one = run(HOST);
    assert_eq!(one_by_one.1, Some("non_finite_logits"));
    assert_eq!(run(IN_FLIGHT), one_by_one);
}

#[test]
fn a_run_ends_at_the_token_whose_logits_overflow_however_many_the_device_has_chained() {
    check_overflow_in_a_run(&|| Cpu::new(1));
    match adapter::open(AdapterOptions::default()) {
        Ok(_) => check_overflow_in_a_run(&|| adapter::open(AdapterOptions::default()).unwrap()),
        Err(Error::NoAdapter { fact }) => {
            println!("SKIPPED: overflow in a run on an adapter: {fact}")
        }
        Err(error) => panic!("{error}"),
    }
}
