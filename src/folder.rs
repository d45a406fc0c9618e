//! A checkpoint folder on disk as the byte source of a session: what `www/engine/byte_source.js` is in the browser.
//! It stands on floor 5, is native only, and interprets no byte itself.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::loader::safetensors::{Shard, header_bytes, shard_files};
use crate::model::config::Config;
use crate::session::{LoadSettings, Session, SessionLoader};
use crate::tokenizer::Tokenizer;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Bytes per read: large enough for the disk, small beside a tensor.
const READ_BYTES: usize = 1 << 20;

/// Opens the checkpoint in `dir`: `config.json`, `model.safetensors` or its shards, and `tokenizer.json` if there is one.
///
/// # Errors
/// The file at fault and what is wrong with it.
pub fn open<B: Backend>(be: B, dir: &Path, settings: LoadSettings) -> Result<Session<B>> {
    let config = read_config(dir)?;
    let tokenizer = match fs::read(dir.join("tokenizer.json")) {
        Ok(bytes) => Some(Tokenizer::from_bytes(
            "tokenizer.json",
            &bytes,
            config.vocab_size,
        )?),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(io_error("tokenizer.json", &error)),
    };
    let files = match text(dir, INDEX) {
        _ if dir.join(SINGLE).exists() => vec![SINGLE.to_owned()],
        Ok(index) => shard_files(INDEX, &index)?,
        Err(Error::MissingFile { .. }) => return Err(missing(SINGLE)),
        Err(error) => return Err(error),
    };
    let shards = files.iter().map(|file| read_header(dir, file));
    let shards = shards.collect::<Result<Vec<_>>>()?;

    let mut loader = SessionLoader::new(be, config, &shards, settings)?;
    let units = loader.schedule().units.iter();
    let ranges: Vec<_> = units.flat_map(|unit| unit.ranges.clone()).collect();
    let mut buffer = vec![0; READ_BYTES];
    for range in ranges {
        let mut file = open_file(dir, &range.file)?;
        file.seek(SeekFrom::Start(range.start))
            .map_err(|error| io_error(&range.file, &error))?;
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
            loader.push(chunk)?;
            at += wanted as u64;
        }
    }
    loader.finish(tokenizer)
}

/// The checked `config.json` of the folder.
pub fn read_config(dir: &Path) -> Result<Config> {
    Config::from_json(&text(dir, "config.json")?)
}

fn read_header(dir: &Path, name: &str) -> Result<Shard> {
    let mut file = open_file(dir, name)?;
    let size = file
        .metadata()
        .map_err(|error| io_error(name, &error))?
        .len();
    let mut first = Vec::new();
    let read = file.by_ref().take(8).read_to_end(&mut first);
    read.map_err(|error| io_error(name, &error))?;
    let length = header_bytes(name, size, &first)?;
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header)
        .map_err(|error| io_error(name, &error))?;
    Shard::parse(name, size, &header)
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
            fact: error.to_string(),
        },
    }
}
