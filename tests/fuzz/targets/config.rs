//! A config.json with its generation_config.json, and the plan of the model that it describes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zamba2::family;
use zamba2::loader::end_tokens;
use zamba2::model::config::Config;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    if let Ok(mut config) = Config::from_json(text) {
        end_tokens::add_generation_config(&mut config, text).ok();
        family::plan(&config, |_| false);
    }
});
