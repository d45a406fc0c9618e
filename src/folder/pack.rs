//! Writes packed checkpoints; `loader/packed.rs` defines their form.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::base::error::{Error, Result};
use crate::folder::{
    CONFIG, TOKENIZER, checkpoint_bytes, checkpoint_heads, empty, hex, io_error, read_config,
    read_range,
};
use crate::loader::end_tokens::GENERATION_CONFIG;
use crate::loader::packed::{
    FILE_BYTES, FORMAT, MANIFEST, Manifest, PackedFile, PackedPart, PackedShard, PackedUnit,
};
use crate::ops::device::Device;
use crate::session::LoadSettings;
use crate::text::chat;

/// Files that a packed folder contains unchanged.
const SMALL_FILES: [&str; 5] = [
    CONFIG,
    GENERATION_CONFIG,
    TOKENIZER,
    chat::TOKENIZER_CONFIG,
    chat::JINJA,
];

/// Writes the checkpoint in `dir` to the folder `out` in the stored form of `settings.weights`, the manifest last, and
/// returns the manifest. Files of the same names are replaced.
///
/// # Errors
/// As for [`open`](crate::folder::open); a file that can't be written.
pub fn pack<B: Device>(
    device: B,
    dir: &Path,
    out: &Path,
    settings: LoadSettings,
    mut on_read: impl FnMut(u64, u64),
) -> Result<Manifest> {
    let config = read_config(dir)?;
    let heads = checkpoint_heads(dir)?;
    let mut session = empty(device, config, dir, &heads, settings)?;
    session.keep_stored();
    fs::create_dir_all(out).map_err(|error| write_error(&out.display().to_string(), &error))?;
    let mut manifest = Manifest {
        format: FORMAT.into(),
        weights: settings.weights.name().into(),
        files: Vec::new(),
        shards: Vec::new(),
        units: Vec::new(),
    };
    for name in SMALL_FILES {
        match fs::read(dir.join(name)) {
            Ok(bytes) => manifest.files.push(written(out, name, &bytes)?),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(io_error(name, &error)),
        }
    }
    let mut parts = Parts::new(out);
    for head in heads {
        parts.begin(head.bytes.len() as u64)?;
        parts.write(&head.bytes)?;
        manifest.shards.push(PackedShard {
            head: parts.end(),
            shard: head.shard,
            shard_bytes: head.shard_bytes,
        });
    }
    let total = checkpoint_bytes(session.schedule());
    for unit in session.schedule().units.clone() {
        let name = unit.unit.name();
        parts.begin(unit.stored_bytes)?;
        for range in &unit.ranges {
            read_range(dir, range, |chunk| {
                session.push(chunk)?;
                on_read(chunk.len() as u64, total);
                parts.write(&session.take_stored())
            })?;
        }
        let stored = parts.end();
        manifest.units.push(PackedUnit { name, stored });
    }
    session.check_complete()?;
    let text = serde_json::to_vec_pretty(&manifest).expect("a manifest is plain data");
    written(out, MANIFEST, &text)?;
    Ok(manifest)
}

/// Files of parts that follow one another.
struct Parts<'a> {
    out: &'a Path,
    n_files: usize,
    name: String,
    file: Option<File>,
    file_bytes: u64,
    /// The start of the current part.
    start: u64,
    hash: Sha256,
}

impl Parts<'_> {
    fn new(out: &Path) -> Parts<'_> {
        Parts {
            out,
            n_files: 0,
            name: String::new(),
            file: None,
            file_bytes: 0,
            start: 0,
            hash: Sha256::new(),
        }
    }

    /// Begins a part of `bytes` bytes, in a new file if the current one would become too large.
    fn begin(&mut self, bytes: u64) -> Result<()> {
        if self.file.is_none() || self.file_bytes + bytes > FILE_BYTES {
            self.n_files += 1;
            self.name = format!("weights-{}.bin", self.n_files);
            self.file = Some(create(self.out, &self.name)?);
            self.file_bytes = 0;
        }
        self.start = self.file_bytes;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.file_bytes += bytes.len() as u64;
        let file = self.file.as_mut().expect("a part has begun");
        file.write_all(bytes)
            .map_err(|error| write_error(&self.name, &error))
    }

    fn end(&mut self) -> PackedPart {
        PackedPart {
            file: self.name.clone(),
            start: self.start,
            bytes: self.file_bytes - self.start,
            sha256: hex(&self.hash.finalize_reset()),
        }
    }
}

fn written(out: &Path, file: &str, bytes: &[u8]) -> Result<PackedFile> {
    create(out, file)?
        .write_all(bytes)
        .map_err(|error| write_error(file, &error))?;
    Ok(PackedFile {
        file: file.into(),
        bytes: bytes.len() as u64,
        sha256: hex(&Sha256::digest(bytes)),
    })
}

fn create(out: &Path, file: &str) -> Result<File> {
    File::create(out.join(file)).map_err(|error| write_error(file, &error))
}

fn write_error(file: &str, error: &std::io::Error) -> Error {
    Error::Write {
        file: file.into(),
        fact: error.to_string().into(),
    }
}
