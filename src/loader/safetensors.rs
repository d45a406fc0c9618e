//! The header of a safetensors file: where each tensor is. It gets bytes and reads no file. Everything that the header
//! claims is checked against the file's size before any of it is used.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::base::error::{Error, Fact, Result};
use crate::base::json;
use crate::loader::foreign;

/// The header of a 7B checkpoint has about 0.1 MB; a length near this bound is not that of a header.
const MAX_HEADER_BYTES: u64 = 100 << 20;

/// The stored form of a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dtype {
    F32,
    F16,
    Bf16,
    Other(String),
}

impl Dtype {
    fn parse(name: &str) -> Dtype {
        match name {
            "F32" => Dtype::F32,
            "F16" => Dtype::F16,
            "BF16" => Dtype::Bf16,
            _ => Dtype::Other(name.into()),
        }
    }

    /// Bytes of one number; `None` for an unsupported dtype.
    pub fn bytes(&self) -> Option<usize> {
        match self {
            Dtype::F32 => Some(4),
            Dtype::F16 | Dtype::Bf16 => Some(2),
            Dtype::Other(_) => None,
        }
    }

    /// Appends the numbers in `bytes`, whose length is a multiple of the number's own.
    pub fn decode(&self, bytes: &[u8], out: &mut Vec<f32>) {
        match self {
            Dtype::F32 => out.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
            Dtype::F16 => {
                let numbers = bytes.as_chunks().0.iter();
                out.extend(numbers.map(|b| half::f16::from_le_bytes(*b).to_f32()));
            }
            Dtype::Bf16 => {
                let numbers = bytes.as_chunks().0.iter();
                // bf16 is the upper half of f32.
                out.extend(
                    numbers.map(|b| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16)),
                );
            }
            Dtype::Other(_) => unreachable!("the plan refuses unknown dtypes"),
        }
    }
}

/// One tensor of a shard; `start..end` are bytes from the beginning of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorEntry {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub start: u64,
    pub end: u64,
}

/// One safetensors file.
#[derive(Clone, Debug, PartialEq)]
pub struct Shard {
    pub file: String,
    pub tensors: BTreeMap<String, TensorEntry>,
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The length of the JSON header that follows the first eight bytes.
///
/// # Errors
/// `Truncated` or `Header` if the file cannot be as long as the eight bytes claim.
pub fn header_bytes(file: &str, file_bytes: u64, first8: &[u8]) -> Result<u64> {
    let Ok(first8) = <[u8; 8]>::try_from(first8) else {
        return Err(Error::Truncated {
            file: file.into(),
            expected_bytes: 8,
            actual_bytes: file_bytes.min(first8.len() as u64),
        });
    };
    let length = u64::from_le_bytes(first8);
    let fits = length <= MAX_HEADER_BYTES && 8 + length <= file_bytes;
    if length < 2 || !fits {
        if let Some(error) = foreign::not_safetensors(file, &first8) {
            return Err(error);
        }
        return Err(Error::Header {
            file: file.into(),
            fact: Fact::new("header_length")
                .with("length", length)
                .with("file_bytes", file_bytes),
        });
    }
    Ok(length)
}

impl Shard {
    /// Reads the JSON header of `file`, which is `file_bytes` long.
    pub fn parse(file: &str, file_bytes: u64, header: &[u8]) -> Result<Shard> {
        let wrong = |fact: Fact| Error::Header {
            file: file.into(),
            fact,
        };
        let raw: BTreeMap<String, Value> = serde_json::from_slice(header).map_err(|error| {
            wrong(Fact::new("not_json_object").with("detail", error.to_string()))
        })?;
        let data_start = 8 + header.len() as u64;
        let mut tensors = BTreeMap::new();
        for (name, value) in raw {
            if name == "__metadata__" {
                continue;
            }
            let entry: RawEntry = serde_json::from_value(value).map_err(|error| {
                wrong(
                    Fact::new("tensor_entry")
                        .with("tensor", &name[..])
                        .with("detail", error.to_string()),
                )
            })?;
            let [start, end] = entry.data_offsets;
            if start > end {
                return Err(wrong(Fact::new("tensor_reversed").with("tensor", name)));
            }
            let Some(end) = data_start.checked_add(end) else {
                return Err(wrong(Fact::new("tensor_offsets").with("tensor", name)));
            };
            if end > file_bytes {
                return Err(Error::Truncated {
                    file: file.into(),
                    expected_bytes: end,
                    actual_bytes: file_bytes,
                });
            }
            let start = data_start + start;
            let dtype = Dtype::parse(&entry.dtype);
            let count = entry.shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
            if let Some(bytes) = dtype.bytes() {
                let needed = count.and_then(|count| count.checked_mul(bytes as u64));
                if needed != Some(end - start) {
                    let fact = Fact::new("tensor_size")
                        .with("tensor", name)
                        .with("shape", entry.shape);
                    return Err(wrong(
                        fact.with("dtype", entry.dtype).with("found", end - start),
                    ));
                }
            }
            // A length that does not fit into an address cannot be that of a tensor of the model.
            let length = |&length: &u64| usize::try_from(length).unwrap_or(usize::MAX);
            let shape = entry.shape.iter().map(length).collect();
            tensors.insert(
                name,
                TensorEntry {
                    dtype,
                    shape,
                    start,
                    end,
                },
            );
        }
        let shard = Shard {
            file: file.into(),
            tensors,
        };
        shard.check_overlap()?;
        Ok(shard)
    }

    fn check_overlap(&self) -> Result<()> {
        let mut ranges: Vec<_> = self
            .tensors
            .iter()
            .map(|(n, t)| (t.start, t.end, n))
            .collect();
        ranges.sort();
        for pair in ranges.windows(2) {
            if pair[1].0 < pair[0].1 {
                return Err(Error::Header {
                    file: self.file.clone(),
                    fact: Fact::new("tensors_overlap")
                        .with("first", &pair[0].2[..])
                        .with("second", &pair[1].2[..]),
                });
            }
        }
        Ok(())
    }
}

/// The distinct shard files that `model.safetensors.index.json` names.
pub fn shard_files(file: &str, text: &str) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    foreign::check_text(file, text.as_bytes())?;
    let wrong = |detail: String| Error::Header {
        file: file.into(),
        fact: Fact::new("not_an_index").with("detail", detail),
    };
    let value = json::parse(text).map_err(wrong)?;
    let index = Index::deserialize(value).map_err(|error| wrong(error.to_string()))?;
    let mut files: Vec<String> = index.weight_map.into_values().collect();
    files.sort();
    files.dedup();
    // A name must be that of a file beside the index: anything else could point out of the folder.
    if let Some(bad) = files
        .iter()
        .find(|name| name.is_empty() || name.contains(['/', '\\']))
    {
        return Err(Error::Header {
            file: file.into(),
            fact: Fact::new("shard_outside").with("name", &bad[..]),
        });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(header: &str, data_bytes: u64) -> Result<Shard> {
        Shard::parse(
            "m.safetensors",
            8 + header.len() as u64 + data_bytes,
            header.as_bytes(),
        )
    }

    #[test]
    fn offsets_are_counted_from_the_beginning_of_the_file() {
        let header = r#"{"__metadata__":{"a":"b"},"w":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]}}"#;
        let shard = parse(header, 16).unwrap();
        assert_eq!(shard.tensors["w"].start, 8 + header.len() as u64 + 4);
        assert_eq!(shard.tensors["w"].shape, [2, 3]);
    }

    #[test]
    fn every_lie_of_a_header_is_found() {
        for (header, data_bytes, code) in [
            ("[]", 0, "bad_header"),
            (r#"{"w":{"dtype":"F32"}}"#, 8, "bad_header"),
            (
                r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
                7,
                "truncated",
            ),
            (
                r#"{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
                8,
                "bad_header",
            ),
            (
                r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
                8,
                "bad_header",
            ),
            (
                r#"{"w":{"dtype":"F32","shape":[0],"data_offsets":[18446744073709551615,18446744073709551615]}}"#,
                8,
                "bad_header",
            ),
            (
                r#"{"w":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,8]}}"#,
                8,
                "bad_header",
            ),
            (
                concat!(
                    r#"{"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"#,
                    r#""w":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#
                ),
                12,
                "bad_header",
            ),
        ] {
            let error = parse(header, data_bytes).unwrap_err();
            assert_eq!(
                (error.code(), error.file().as_deref()),
                (code, Some("m.safetensors")),
                "{header}"
            );
        }
    }

    #[test]
    fn a_header_longer_than_the_file_is_refused_before_it_is_read() {
        let error = header_bytes("m", 100, &93u64.to_le_bytes()).unwrap_err();
        assert_eq!(error.code(), "bad_header");
        assert_eq!(header_bytes("m", 100, &92u64.to_le_bytes()), Ok(92));
        assert_eq!(
            header_bytes("m", 3, &[0; 3]).unwrap_err().code(),
            "truncated"
        );
        assert_eq!(
            header_bytes("m", 100, &u64::MAX.to_le_bytes())
                .unwrap_err()
                .code(),
            "bad_header"
        );
    }

    #[test]
    fn a_shard_outside_the_folder_is_refused() {
        let index = r#"{"weight_map": {"w": "../secret"}}"#;
        assert_eq!(shard_files("i", index).unwrap_err().code(), "bad_header");
        let index = r#"{"weight_map": {"w": "b", "v": "a", "u": "b"}}"#;
        assert_eq!(shard_files("i", index).unwrap(), ["a", "b"]);
    }
}
