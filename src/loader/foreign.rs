//! Files that are not what their names promise, and checkpoints for other programs. The error names what each one is,
//! because advice about a damaged file would mislead.

use crate::base::error::{Error, Result};

/// The beginning of a git-lfs pointer. A clone without git-lfs has one in the place of each large file.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
const GGUF: &[u8] = b"GGUF";
/// torch.save writes a ZIP archive, and wrote a pickle of protocol 2 before.
const TORCH: [&[u8]; 2] = [b"PK\x03\x04", b"\x80\x02"];

/// Files whose presence shows what a folder without `model.safetensors` contains, for byte sources that cannot list it.
pub const TELLTALES: [&str; 3] = [
    "adapter_config.json",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
];

/// Refuses a small file that begins as a git-lfs pointer or a web page.
pub fn check_text(file: &str, start: &[u8]) -> Result<()> {
    if start.starts_with(LFS_POINTER) {
        return Err(Error::LfsPointer { file: file.into() });
    }
    if is_markup(start) {
        return Err(Error::WebPage { file: file.into() });
    }
    Ok(())
}

/// Whether text begins as HTML or XML, which servers send for pages, logins and errors. JSON never does.
pub fn is_markup(start: &[u8]) -> bool {
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    start.trim_ascii_start().starts_with(b"<")
}

/// The kind of a file whose first eight bytes are no length of a safetensors header; `None` if they do not show it.
pub fn not_safetensors(file: &str, first8: &[u8]) -> Option<Error> {
    let file = || file.to_owned();
    if LFS_POINTER.starts_with(first8) {
        return Some(Error::LfsPointer { file: file() });
    }
    if first8.starts_with(GGUF) {
        return Some(Error::Gguf { file: file() });
    }
    if TORCH.iter().any(|magic| first8.starts_with(magic)) {
        return Some(Error::TorchOnly { file: file() });
    }
    is_markup(first8).then(|| Error::WebPage { file: file() })
}

/// The kind of a folder without config.json or safetensors, by the names of its files.
pub fn folder_refusal<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<Error> {
    let first = |fits: fn(&str) -> bool| names.clone().find(|name| fits(name)).map(str::to_owned);
    if let Some(file) = first(|name| name == "adapter_config.json") {
        return Some(Error::UnmergedAdapter { file });
    }
    if let Some(file) = first(|name| name.ends_with(".gguf")) {
        return Some(Error::Gguf { file });
    }
    let is_torch = |name: &str| {
        let ends = [".bin", ".bin.index.json", ".pth", ".pt", ".ckpt"];
        let is_model = ["pytorch_model", "consolidated", "model", "checkpoint"];
        ends.iter().any(|end| name.ends_with(end))
            && is_model.iter().any(|start| name.starts_with(start))
    };
    first(is_torch).map(|file| Error::TorchOnly { file })
}

/// Suffixes of names that only a quantiser's tensors have.
const QUANTISED: [(&str, &str); 6] = [
    (".qweight", "GPTQ or AWQ"),
    (".weight.absmax", "bitsandbytes"),
    (".weight.quant_map", "bitsandbytes"),
    (".SCB", "bitsandbytes"),
    (".weight_packed", "compressed-tensors"),
    (".biases", "MLX"),
];

/// The quantiser whose tensors are among the names, if any.
pub fn quantisation<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'static str> {
    names.find_map(|name| {
        let known = QUANTISED.iter().find(|(end, _)| name.ends_with(end))?;
        Some(known.1)
    })
}

/// Whether the names include tensors of a LoRA adapter, in peft's spelling.
pub fn has_adapter<'a>(mut names: impl Iterator<Item = &'a str>) -> bool {
    let parts = [
        ".lora_A.",
        ".lora_B.",
        ".lora_embedding_A",
        ".lora_magnitude_vector",
    ];
    names.any(|name| parts.iter().any(|part| name.contains(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(error: Option<Error>) -> Option<&'static str> {
        error.map(|error| error.code())
    }

    #[test]
    fn the_first_bytes_show_what_a_file_is() {
        for (first8, expected) in [
            (&b"version "[..], Some("lfs_pointer")),
            (b"GGUF\x03\0\0\0", Some("gguf")),
            (b"PK\x03\x04\0\0\0\0", Some("torch_only")),
            (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46", Some("torch_only")),
            (b"<!DOCTYP", Some("web_page")),
            (b"\n <html>", Some("web_page")),
            (b"{\"error\"", None),
        ] {
            assert_eq!(code(not_safetensors("m", first8)), expected, "{first8:?}");
        }
    }

    #[test]
    fn the_names_in_a_folder_show_what_it_holds() {
        for (names, expected) in [
            (
                &[
                    "README.md",
                    "adapter_config.json",
                    "adapter_model.safetensors",
                ][..],
                Some("unmerged_adapter"),
            ),
            (
                &["config.json", "pytorch_model-00001-of-00002.bin"],
                Some("torch_only"),
            ),
            (&["zamba2-1.2b-q4_k.gguf"], Some("gguf")),
            (&["config.json", "training_args.bin", "optimizer.pt"], None),
        ] {
            assert_eq!(
                code(folder_refusal(names.iter().copied())),
                expected,
                "{names:?}"
            );
        }
    }
}
