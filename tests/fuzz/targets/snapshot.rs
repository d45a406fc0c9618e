//! A snapshot of a sequence: as it is, and with a checksum that fits.

#![no_main]

use std::cell::RefCell;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pollster::block_on;
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::folder;
use zamba2::model::NumericSettings;
use zamba2::session::{GenerateOptions, LoadSettings, Session, snapshot_note};

thread_local! {
    static SESSION: RefCell<Session<Cpu>> = RefCell::new(open());
}

fn open() -> Session<Cpu> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/one_block_adapters_rope");
    let settings = LoadSettings {
        weights: WeightFormat::F32,
        context: Some(64),
        numeric: NumericSettings::default(),
        memory_limit_bytes: None,
    };
    folder::open(Cpu::new(1), &dir, settings).unwrap()
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

fuzz_target!(|bytes: &[u8]| {
    snapshot_note(bytes).ok();
    let Some(rest) = bytes.get(16..) else {
        return;
    };
    let whole = [b"ZMB2SEQ1", &checksum(rest).to_le_bytes()[..], rest].concat();
    snapshot_note(&whole).ok();
    SESSION.with_borrow_mut(|session| {
        if block_on(session.restore(&whole)).is_ok() {
            let options = GenerateOptions::default();
            if session.continue_sequence(options).is_ok() {
                block_on(session.step()).ok();
            }
        }
    });
});
