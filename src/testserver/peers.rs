//! The scripts that need no protocol.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::LazyLock;

/// Sends back what comes.
pub(super) fn echo(mut stream: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match stream.read(&mut buffer)? {
            0 => return stream.shutdown(Shutdown::Write),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

/// Discards what comes.
pub(super) fn sink(mut stream: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Sends pattern bytes, ends its side, and discards until the other side has ended too: closing
/// with bytes unread would reset the connection and could take our last bytes with it.
pub(super) fn source(stream: &TcpStream, bytes: Option<u64>) -> io::Result<()> {
    write_pattern(stream, bytes.unwrap_or(u64::MAX))?;
    stream.shutdown(Shutdown::Write)?;
    sink(stream)
}

/// One byte out and at most one byte in per pause; over when the other side ends or `pause` says
/// so.
pub(super) fn slow(mut stream: &TcpStream, pause: &dyn Fn() -> bool) -> io::Result<()> {
    for byte in PATTERN.iter().cycle() {
        stream.write_all(&[*byte])?;
        if !pause() {
            break;
        }
        stream.set_nonblocking(true)?;
        let read = stream.read(&mut [0]);
        stream.set_nonblocking(false)?;
        match read {
            Ok(0) => break,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    stream.shutdown(Shutdown::Write)
}

/// Writes the first `bytes` bytes of the pattern.
pub(super) fn write_pattern(mut stream: &TcpStream, bytes: u64) -> io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        // Always whole blocks until the last, so that each starts at the pattern's beginning.
        let n = usize::try_from(left).map_or(PATTERN.len(), |left| left.min(PATTERN.len()));
        stream.write_all(&PATTERN[..n])?;
        left -= n as u64;
    }
    Ok(())
}

/// The byte at a place in what a source sends: whoever receives it can tell a lost, doubled or
/// misplaced byte.
pub fn pattern(place: u64) -> u8 {
    let (row, column) = (place / ROW % ROWS, place % ROW);
    // Rows start one apart, so blocks of 251 bytes that change places are seen as well.
    ((row + column) % ROW) as u8
}

/// 251 is prime: no buffer size is a multiple of it.
const ROW: u64 = 251;
const ROWS: u64 = 251;
const BUFFER: usize = 64 * 1024;
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| (0..ROW * ROWS).map(pattern).collect());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_repeats_after_the_block_that_is_sent() {
        let block = PATTERN.len() as u64;
        assert!((0..1000).all(|place| pattern(place) == pattern(place + block)));
        assert_ne!(pattern(0), pattern(ROW), "neighbouring rows differ");
    }
}
