//! The manifest of a packed folder.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zamba2::loader::packed::Manifest;

fuzz_target!(|text: &str| {
    Manifest::parse(text).ok();
});
