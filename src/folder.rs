//! A checkpoint folder on disk as the byte source of a session, like `www/engine/byte_source.js` in the browser. It is
//! native only and interprets no weights.

mod inspect;
mod pack;

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::base::error::{Error, Result};
pub use crate::folder::inspect::{Inspection, inspect};
pub use crate::folder::pack::pack;
use crate::loader::end_tokens::{self, GENERATION_CONFIG};
use crate::loader::foreign;
use crate::loader::named_tensors::INDEX;
use crate::loader::packed::{MANIFEST, Manifest, PackedPart};
use crate::loader::safetensors::{Shard, header_bytes, shard_files};
use crate::loader::schedule::{ByteRange, LoadSchedule};
use crate::model::config::Config;
use crate::ops::device::Device;
use crate::session::{LoadSettings, Session};
use crate::text::chat::{self, ChatTemplate};
use crate::text::tokenizer::Tokenizer;

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
/// Ignored if the folder has a whole model.
const ADAPTER_CONFIG: &str = "adapter_config.json";
const SINGLE: &str = "model.safetensors";
/// Bytes per read: large enough for the disk, small beside a tensor.
const READ_BYTES: usize = 1 << 20;

/// The first bytes of a safetensors file: the header's length and the header.
struct Head {
    shard: String,
    shard_bytes: u64,
    bytes: Vec<u8>,
}

/// Opens the checkpoint in `dir`: `config.json`, `model.safetensors` or its shards, and `tokenizer.json` if there is
/// one; or a packed checkpoint.
///
/// # Errors
/// The file at fault and what is wrong with it.
pub fn open<B: Device>(device: B, dir: &Path, settings: LoadSettings) -> Result<Session<B>> {
    open_watched(device, dir, settings, |_, _| {})
}

/// Like [`open`]; `on_read` gets the number of bytes of the weights that were read since the last call, and their
/// total.
///
/// # Errors
/// As for [`open`].
pub fn open_watched<B: Device>(
    device: B,
    dir: &Path,
    settings: LoadSettings,
    mut on_read: impl FnMut(u64, u64),
) -> Result<Session<B>> {
    let config = read_config(dir)?;
    let manifest = packed(dir)?;
    let heads = match &manifest {
        Some(manifest) => stored_heads(dir, manifest)?,
        None => checkpoint_heads(dir)?,
    };
    let mut session = empty(device, config, dir, &heads, settings)?;
    match manifest {
        Some(manifest) => {
            manifest.check(settings.weights.name(), session.schedule())?;
            let total = manifest.units.iter().map(|unit| unit.stored.bytes).sum();
            for unit in &manifest.units {
                session.push_stored(&verified(dir, &unit.stored)?)?;
                on_read(unit.stored.bytes, total);
            }
        }
        None => {
            let total = checkpoint_bytes(session.schedule());
            for unit in session.schedule().units.clone() {
                for range in &unit.ranges {
                    read_range(dir, range, |chunk| {
                        session.push(chunk)?;
                        on_read(chunk.len() as u64, total);
                        Ok(())
                    })?;
                }
            }
        }
    }
    session.check_complete()?;
    Ok(session)
}

/// Bytes that are read from the checkpoint.
fn checkpoint_bytes(schedule: &LoadSchedule) -> u64 {
    let ranges = schedule.units.iter().flat_map(|unit| &unit.ranges);
    ranges.map(|range| range.end - range.start).sum()
}

/// A session of the folder's configuration and tokenizer, without weights.
fn empty<B: Device>(
    device: B,
    mut config: Config,
    dir: &Path,
    heads: &[Head],
    settings: LoadSettings,
) -> Result<Session<B>> {
    let tokenizer = open_tokenizer(dir, &mut config)?;
    let shards = parsed(heads)?;
    Session::open(device, config, &shards, tokenizer, settings)
}

/// The tokenizer, if there is one. The end tokens that are named beside it are added to the configuration's.
fn open_tokenizer(dir: &Path, config: &mut Config) -> Result<Option<Tokenizer>> {
    if let Some(text) = optional_text(dir, GENERATION_CONFIG)? {
        end_tokens::add_generation_config(config, &text)?;
    }
    let mut tokenizer = tokenizer_file(dir, config.vocab_size)?;
    // Faults of this file are reported with the chat template.
    if let (Some(tokenizer), Ok(Some(text))) =
        (&mut tokenizer, optional_text(dir, chat::TOKENIZER_CONFIG))
    {
        tokenizer.apply_config(&text).unwrap_or_default();
        end_tokens::add_tokenizer_config(config, &text, tokenizer);
    }
    Ok(tokenizer)
}

fn parsed(heads: &[Head]) -> Result<Vec<Shard>> {
    let shards = heads.iter().map(|head| {
        // A stored head may also be damaged.
        let first = &head.bytes[..head.bytes.len().min(8)];
        let length = header_bytes(&head.shard, head.shard_bytes, first)?;
        let header = head.bytes[8..].get(..length as usize);
        let header = header.ok_or_else(|| Error::Truncated {
            file: head.shard.clone(),
            expected_bytes: 8 + length,
            actual_bytes: head.bytes.len() as u64,
        })?;
        Shard::parse(&head.shard, head.shard_bytes, header)
    });
    shards.collect()
}

/// The manifest, if the folder is a packed checkpoint.
fn packed(dir: &Path) -> Result<Option<Manifest>> {
    if dir.join(SINGLE).exists() || dir.join(INDEX).exists() || !dir.join(MANIFEST).exists() {
        return Ok(None);
    }
    Manifest::parse(&text(dir, MANIFEST)?).map(Some)
}

fn stored_heads(dir: &Path, manifest: &Manifest) -> Result<Vec<Head>> {
    let heads = manifest.shards.iter().map(|shard| {
        Ok(Head {
            shard: shard.shard.clone(),
            shard_bytes: shard.shard_bytes,
            bytes: verified(dir, &shard.head)?,
        })
    });
    heads.collect()
}

fn checkpoint_heads(dir: &Path) -> Result<Vec<Head>> {
    let files = match text(dir, INDEX) {
        _ if dir.join(SINGLE).exists() => vec![SINGLE.to_owned()],
        Ok(index) => shard_files(INDEX, &index)?,
        Err(Error::MissingFile { .. }) => return Err(refusal(dir, SINGLE)),
        Err(error) => return Err(error),
    };
    files.iter().map(|file| read_head(dir, file)).collect()
}

/// Passes the bytes of a range to `take`, piece by piece.
fn read_range(
    dir: &Path,
    range: &ByteRange,
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut file = open_file(dir, &range.file)?;
    file.seek(SeekFrom::Start(range.start))
        .map_err(|error| io_error(&range.file, &error))?;
    let mut buffer = vec![0; READ_BYTES];
    let mut at = range.start;
    while at < range.end {
        let wanted = buffer.len().min((range.end - at) as usize);
        let chunk = &mut buffer[..wanted];
        file.read_exact(chunk).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => Error::Truncated {
                file: range.file.clone(),
                expected_bytes: range.end,
                actual_bytes: at,
            },
            _ => io_error(&range.file, &error),
        })?;
        take(chunk)?;
        at += wanted as u64;
    }
    Ok(())
}

/// The bytes of a part, checked against the manifest's SHA-256.
fn verified(dir: &Path, part: &PackedPart) -> Result<Vec<u8>> {
    let PackedPart {
        file, start, bytes, ..
    } = part;
    let mut opened = open_file(dir, file)?;
    let failed = |error| io_error(file, &error);
    let damaged = || Error::Damaged { file: file.clone() };
    let file_bytes = opened.metadata().map_err(failed)?.len();
    // The size is checked before allocating it: a manifest may claim any size.
    if start.checked_add(*bytes).is_none_or(|end| end > file_bytes) {
        let mut beginning = Vec::new();
        let read = opened.take(64).read_to_end(&mut beginning);
        read.map_err(failed)?;
        foreign::check_text(file, &beginning)?;
        return Err(damaged());
    }
    opened.seek(SeekFrom::Start(*start)).map_err(failed)?;
    let mut found = Vec::new();
    let read = opened.take(*bytes).read_to_end(&mut found);
    read.map_err(failed)?;
    match hex(&Sha256::digest(&found)) == part.sha256 {
        true => Ok(found),
        false => Err(damaged()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The chat template of the folder, if it has one.
///
/// # Errors
/// The folder or the file at fault and what is wrong with it.
pub fn chat_template(dir: &Path) -> Result<Option<ChatTemplate>> {
    if !dir.is_dir() {
        return Err(missing(&dir.display().to_string()));
    }
    let config = optional_text(dir, chat::TOKENIZER_CONFIG)?;
    let jinja = optional_text(dir, chat::JINJA)?;
    ChatTemplate::of_checkpoint(config.as_deref(), jinja.as_deref())
}

/// The tokenizer of the folder, if it has one, with what tokenizer_config.json adds to it.
///
/// # Errors
/// The file at fault and what is wrong with it.
pub fn read_tokenizer(dir: &Path, vocab_size: usize) -> Result<Option<Tokenizer>> {
    let mut tokenizer = tokenizer_file(dir, vocab_size)?;
    if let (Some(tokenizer), Some(config)) =
        (&mut tokenizer, optional_text(dir, chat::TOKENIZER_CONFIG)?)
    {
        tokenizer.apply_config(&config)?;
    }
    Ok(tokenizer)
}

fn tokenizer_file(dir: &Path, vocab_size: usize) -> Result<Option<Tokenizer>> {
    let bytes = match fs::read(dir.join(TOKENIZER)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(TOKENIZER, &error)),
    };
    foreign::check_text(TOKENIZER, &bytes)?;
    Tokenizer::from_bytes(TOKENIZER, &bytes, vocab_size).map(Some)
}

fn optional_text(dir: &Path, name: &str) -> Result<Option<String>> {
    match text(dir, name) {
        Ok(text) => Ok(Some(text)),
        Err(Error::MissingFile { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The checked `config.json` of the folder.
pub fn read_config(dir: &Path) -> Result<Config> {
    match text(dir, CONFIG) {
        Ok(text) => {
            foreign::check_text(CONFIG, text.as_bytes())?;
            Config::from_json(&text)
        }
        Err(Error::MissingFile { .. }) => Err(refusal(dir, CONFIG)),
        Err(error) => Err(error),
    }
}

/// The error for a folder without `file`: what it contains instead, if known.
fn refusal(dir: &Path, file: &str) -> Error {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.collect();
    names.sort();
    foreign::folder_refusal(names.iter().map(String::as_str)).unwrap_or_else(|| missing(file))
}

fn read_head(dir: &Path, name: &str) -> Result<Head> {
    let mut file = open_file(dir, name)?;
    let size = file
        .metadata()
        .map_err(|error| io_error(name, &error))?
        .len();
    let mut bytes = Vec::new();
    let read = (&file).take(8).read_to_end(&mut bytes);
    read.map_err(|error| io_error(name, &error))?;
    let length = header_bytes(name, size, &bytes)?;
    bytes.resize(8 + length as usize, 0);
    file.read_exact(&mut bytes[8..])
        .map_err(|error| io_error(name, &error))?;
    Ok(Head {
        shard: name.into(),
        shard_bytes: size,
        bytes,
    })
}

fn text(dir: &Path, name: &str) -> Result<String> {
    fs::read_to_string(dir.join(name)).map_err(|error| io_error(name, &error))
}

fn open_file(dir: &Path, name: &str) -> Result<File> {
    File::open(dir.join(name)).map_err(|error| io_error(name, &error))
}

fn missing(file: &str) -> Error {
    Error::MissingFile { file: file.into() }
}

fn io_error(file: &str, error: &std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => missing(file),
        _ => Error::Io {
            file: file.into(),
            fact: error.to_string().into(),
        },
    }
}
