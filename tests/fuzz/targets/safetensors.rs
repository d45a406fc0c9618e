//! The first bytes of a model.safetensors, and a model.safetensors.index.json.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zamba2::loader::safetensors::{Shard, header_bytes, shard_files};

fuzz_target!(|bytes: &[u8]| {
    let first8 = &bytes[..bytes.len().min(8)];
    header_bytes("model.safetensors", bytes.len() as u64, first8).ok();
    // The header is parsed whatever its length claims: a mutation seldom leaves the two in step.
    if let Some(header) = bytes.get(8..) {
        Shard::parse("model.safetensors", 1 << 40, header).ok();
    }
    if let Ok(text) = str::from_utf8(bytes) {
        shard_files("model.safetensors.index.json", text).ok();
    }
});
