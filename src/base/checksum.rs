//! A checksum against accidental damage, also used for names; it is not a cryptographic hash.

/// A checksum in the manner of FNV-1a, over words of eight bytes and with an extra shift: detects accidental damage, at
/// about a gigabyte per second. Part of the format of snapshots.
pub fn checksum64(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let (words, rest) = bytes.as_chunks();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let all = words.chain(rest.iter().map(|&byte| u64::from(byte)));
    // Multiplication carries bits only upwards; the shift brings the upper half down.
    all.fold(OFFSET, |hash, word| {
        let mixed = (hash ^ word).wrapping_mul(PRIME);
        mixed ^ mixed >> 32
    })
}

pub fn hex(hash: u64) -> String {
    format!("{hash:016x}")
}
