//! Snapshots: a sequence as bytes, with its tokens, SSM and conv states and the KV cache, to be continued later. The
//! format is independent of layouts, threads and context. It does not contain weights, and only the model that made a
//! snapshot accepts it.
//!
//! Layout: [`MAGIC`], a checksum of everything after it in eight bytes (little-endian), the header's length in eight
//! bytes, the header as JSON, then for each block its conv state and SSM state in f32, then for each hybrid block its
//! keys and values by position.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::base::checksum::{checksum64, hex};
use crate::base::error::{Error, Fact, Result};
use crate::model::cache::{Cache, mamba_bytes};
use crate::model::forward::ForwardPass;
use crate::ops::device::Device;
use crate::ops::trace::Level;
use crate::session::lookup::Evidence;
use crate::session::sequence::{DeviceState, NextToken, Sequence};
use crate::session::steps_in_flight::StepClock;
use crate::session::{GenerateOptions, Session};
use crate::text::sampling::Sampler;
use crate::text::stop_strings::StopStrings;
use crate::text::stream::TextStream;

/// Its last character is the version of the format.
const MAGIC: &[u8; 8] = b"ZMB2SEQ1";
const CHECKSUM_END: usize = MAGIC.len() + 8;
/// What precedes the header.
const PREFIX_BYTES: usize = CHECKSUM_END + 8;
/// The token whose logits are the fingerprint of a model.
const PROBE: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Header {
    /// Checksum of the model's logits after a fixed token. All builds compute the same bits, so another fingerprint
    /// means another model, or other weights or settings.
    fingerprint: String,
    /// Text of the caller, such as the settings of the run.
    note: String,
    prompt_tokens: usize,
    /// Start and end of each part of the prompt that was prefilled at once. Older snapshots have none: their prompt was
    /// prefilled as a whole.
    #[serde(default)]
    prefills: Vec<(usize, usize)>,
    tokens: Vec<u32>,
    /// Number of tokens that the state includes.
    read_tokens: usize,
}

/// A restored sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestoredSequence {
    pub tokens: Vec<u32>,
    pub prompt_tokens: usize,
    /// The note that the snapshot was made with.
    pub note: String,
}

impl<B: Device> Session<B> {
    /// The sequence as bytes, with a note for [`RestoredSequence::note`].
    ///
    /// # Errors
    /// Nothing has been generated yet, or the device fails.
    pub async fn snapshot(&mut self, note: &str) -> Result<Vec<u8>> {
        let fingerprint = self.fingerprint().await?;
        self.sync_to_history().await?;
        let sequence = self.sequence.as_ref().filter(|sequence| {
            !sequence.is_prefill()
                && (sequence.n_prompt..sequence.history.len()).contains(&self.cache.len)
        });
        let sequence = sequence.ok_or_else(|| Error::Sequence {
            fact: Fact::new("no_state"),
        })?;
        let header = Header {
            fingerprint,
            note: note.into(),
            prompt_tokens: sequence.n_prompt,
            prefills: (sequence.prefills.iter().map(|part| (part.start, part.end))).collect(),
            tokens: sequence.history.clone(),
            read_tokens: self.cache.len,
        };
        let header = serde_json::to_vec(&header).expect("a header is plain data");
        let mut bytes = MAGIC.to_vec();
        bytes.extend([0; 8]);
        bytes.extend((header.len() as u64).to_le_bytes());
        bytes.extend(header);
        for state in &self.cache.mamba {
            for tensor in [&state.conv, &state.ssm] {
                let values = self.ops.read(tensor).await?;
                bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
        }
        for kv in self.cache.kv.iter().flatten() {
            bytes.extend(self.ops.read_kv(kv).await?);
        }
        let checksum = checksum64(&bytes[CHECKSUM_END..]);
        bytes[MAGIC.len()..CHECKSUM_END].copy_from_slice(&checksum.to_le_bytes());
        Ok(bytes)
    }

    /// Replaces the current sequence; [`Session::continue_sequence`] and [`Session::branch`] continue it.
    ///
    /// [`Error::Snapshot`] if the bytes are no snapshot or a damaged one, [`Error::OtherModel`] if another model or
    /// other weights made them, [`Error::PromptTooLong`] if the context is too short. The current sequence is kept.
    pub async fn restore(&mut self, bytes: &[u8]) -> Result<RestoredSequence> {
        let (header, body) = parse(bytes)?;
        let own = self.fingerprint().await?;
        if header.fingerprint != own {
            return Err(Error::OtherModel {
                found: header.fingerprint,
                own,
            });
        }
        let n_read = header.read_tokens;
        let vocab_size = self.model.config.vocab_size;
        if let Some(&token) = (header.tokens.iter()).find(|&&token| token as usize >= vocab_size) {
            return Err(Error::Token { token, vocab_size });
        }
        if header.prompt_tokens == 0
            || !(header.prompt_tokens..header.tokens.len()).contains(&n_read)
        {
            return Err(damaged("snapshot_counts"));
        }
        let prefills = prefills_of(&header).ok_or_else(|| damaged("snapshot_counts"))?;
        if header.tokens.len() > self.cache.context {
            return Err(Error::PromptTooLong {
                tokens: header.tokens.len(),
                limit: self.cache.context,
            });
        }
        let mamba_bytes = mamba_bytes(&self.model.config) as usize;
        let kv = self.cache.kv.iter().flatten();
        let kv_bytes: usize = kv.map(|kv| n_read * self.ops.kv_position_bytes(kv)).sum();
        if body.len() != mamba_bytes + kv_bytes {
            return Err(damaged("snapshot_size"));
        }

        self.reset();
        let mut rest = body;
        let mut take = |bytes: usize| {
            let (part, after) = rest.split_at(bytes);
            rest = after;
            part
        };
        for state in &mut self.cache.mamba {
            for tensor in [&mut state.conv, &mut state.ssm] {
                let bytes = take(4 * self.ops.numbers(tensor));
                let values = bytes.as_chunks().0.iter().copied().map(f32::from_le_bytes);
                self.ops.write(&values.collect::<Vec<_>>(), tensor);
            }
        }
        for kv in self.cache.kv.iter_mut().flatten() {
            let bytes = take(n_read * self.ops.kv_position_bytes(kv));
            self.ops.write_kv(bytes, kv);
        }
        self.cache.len = n_read;
        let options = GenerateOptions::default();
        self.sequence = Some(Sequence {
            sampler: Sampler::new(options.sampling.clone())?,
            options,
            text: TextStream::new(),
            stops: StopStrings::default(),
            history: header.tokens.clone(),
            n_prompt: header.prompt_tokens,
            prefills,
            next: NextToken::None,
            device: DeviceState::nothing_pending(),
            clock: StepClock::default(),
            evidence: Evidence::default(),
            drafts: None,
            returned_us: None,
            checkpoints: Vec::new(),
            rolling_tried: 0,
        });
        Ok(RestoredSequence {
            tokens: header.tokens,
            prompt_tokens: header.prompt_tokens,
            note: header.note,
        })
    }

    async fn fingerprint(&mut self) -> Result<String> {
        self.check_complete()?;
        if let Some(fingerprint) = &self.fingerprint {
            return Ok(fingerprint.clone());
        }
        self.begin_pass(0);
        let (ops, model) = (&mut self.ops, &self.model);
        // A separate cache, so that the sequence is not changed.
        let mut cache = Cache::new(ops, &model.config, 1, self.kv_format);
        let token = PROBE.min(model.config.vocab_size as u32 - 1);
        let mut pass = ForwardPass::new(ops, model, &cache, &[token]);
        pass.advance(ops, model, &mut cache, &mut self.scratch, usize::MAX);
        // The logits in the scratch may still be needed by the sequence.
        let mut logits = ops.tensor(1, model.config.vocab_size);
        std::mem::swap(&mut self.scratch.logits, &mut logits);
        pass.last_logits(ops, model, &mut self.scratch);
        std::mem::swap(&mut self.scratch.logits, &mut logits);
        let logits = ops.read(&logits).await?;
        if self.recording == Level::Off {
            ops.profiler().discard();
        }
        let mut bytes: Vec<u8> = logits
            .iter()
            .flat_map(|logit| logit.to_le_bytes())
            .collect();
        // A single token is a prefill, so its logits do not depend on the settings of decode steps.
        bytes.extend(format!("{:?}", model.settings).bytes());
        let fingerprint = hex(checksum64(&bytes));
        self.fingerprint = Some(fingerprint.clone());
        Ok(fingerprint)
    }
}

/// The note of a snapshot, for callers that need it before they decide to restore.
///
/// # Errors
/// [`Error::Snapshot`] if the bytes are no snapshot or a damaged one.
pub fn snapshot_note(bytes: &[u8]) -> Result<String> {
    parse(bytes).map(|(header, _)| header.note)
}

fn parse(bytes: &[u8]) -> Result<(Header, &[u8])> {
    let prefix = bytes.get(..PREFIX_BYTES);
    let prefix = prefix.filter(|prefix| prefix.starts_with(MAGIC));
    let prefix = prefix.ok_or_else(|| damaged("not_a_snapshot"))?;
    let word = |at: usize| {
        u64::from_le_bytes(
            *prefix[at..]
                .first_chunk()
                .expect("the prefix has two words"),
        )
    };
    if checksum64(&bytes[CHECKSUM_END..]) != word(MAGIC.len()) {
        return Err(damaged("snapshot_checksum"));
    }
    let header_bytes = usize::try_from(word(CHECKSUM_END)).ok();
    let parts = header_bytes.and_then(|n| bytes[PREFIX_BYTES..].split_at_checked(n));
    let (header, body) = parts.ok_or_else(|| damaged("snapshot_cut"))?;
    let header = serde_json::from_slice(header).map_err(|error| Error::Snapshot {
        fact: Fact::new("snapshot_header").with("detail", error.to_string()),
    })?;
    Ok((header, body))
}

/// The parts of the prompt that were prefilled together; `None` if they overlap or exceed it.
fn prefills_of(header: &Header) -> Option<Vec<Range<usize>>> {
    let whole = [(0, header.prompt_tokens)];
    let parts = match &header.prefills[..] {
        [] => &whole,
        parts => parts,
    };
    let mut n_before = 0;
    for (start, end) in parts {
        if *start < n_before || start >= end {
            return None;
        }
        n_before = *end;
    }
    let is_inside = parts[0].0 == 0 && n_before <= header.prompt_tokens;
    is_inside.then(|| parts.iter().map(|&(start, end)| start..end).collect())
}

fn damaged(fact: &'static str) -> Error {
    Error::Snapshot {
        fact: Fact::new(fact),
    }
}
