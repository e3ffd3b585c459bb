//! Bytes that cannot be confused, and their SHA-256.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

/// An endless stream of bytes from a seed: no part of it looks like another, so a lost, doubled or
/// moved piece shows in the checksum.
pub struct Pattern {
    state: u64,
    left: [u8; 8],
    left_len: usize,
}

impl Pattern {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Pattern {
        Pattern { state: seed ^ 0x6576_656e_6b65_656c, left: [0; 8], left_len: 0 }
    }

    /// Its first `len` bytes.
    pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        Pattern::new(seed).fill(&mut bytes);
        bytes
    }

    /// The next bytes of the stream.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            if self.left_len == 0 && chunk.len() == 8 {
                chunk.copy_from_slice(&self.word());
                continue;
            }
            for byte in chunk {
                if self.left_len == 0 {
                    self.left = self.word();
                    self.left_len = 8;
                }
                *byte = self.left[8 - self.left_len];
                self.left_len -= 1;
            }
        }
    }

    /// One step of a multiplicative counter generator (SplitMix64).
    fn word(&mut self) -> [u8; 8] {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)).to_le_bytes()
    }
}

/// Writes `len` bytes of the stream of `seed` and returns their digest.
pub fn write_pattern(seed: u64, len: u64, mut target: impl Write) -> io::Result<String> {
    let mut pattern = Pattern::new(seed);
    let mut buffer = vec![0; 1 << 18];
    let mut sha = Sha256::new();
    let mut left = len;
    while left > 0 {
        let size = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        pattern.fill(&mut buffer[..size]);
        sha.update(&buffer[..size]);
        target.write_all(&buffer[..size])?;
        left -= size as u64;
    }
    target.flush()?;
    Ok(hex(&sha.finalize()))
}

/// Reads to the end: the digest and the length.
pub fn of_stream(mut source: impl Read) -> io::Result<(String, u64)> {
    let mut buffer = vec![0; 1 << 18];
    let mut sha = Sha256::new();
    let mut len = 0;
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok((hex(&sha.finalize()), len)),
            size => {
                sha.update(&buffer[..size]);
                len += size as u64;
            }
        }
    }
}

/// The digest of a file.
pub fn of_file(path: &Path) -> io::Result<(String, u64)> {
    of_stream(File::open(path)?)
}

/// The digest of bytes in memory.
pub fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
