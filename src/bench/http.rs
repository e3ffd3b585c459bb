//! An HTTP/1.x answer, read as it comes and forgotten: only its end and its worth matter.
//!
//! Knows: HTTP heads, by `httparse`. Does not know: sockets.

use httparse::{EMPTY_HEADER, Response, Status};

use super::exchange::Progress;
use super::tally::Fault;

/// What is known of an answer so far.
#[derive(Debug)]
pub(super) struct Answer {
    part: Part,
    /// Bytes of a head or a line that is not complete yet.
    text: Vec<u8>,
    keep: bool,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Head,
    /// Of the body, so much is to come.
    Body(u64),
    /// The size of the next chunk.
    ChunkSize,
    /// Of a chunk and the line end behind it, so much is to come.
    Chunk(u64),
    /// Fields behind the last chunk, up to an empty line.
    Trailer,
    /// The body ends with the connection.
    UntilEnd,
    Done,
}

/// What to do with the bytes behind those that were looked at.
enum Look {
    /// They begin after so many.
    Next(usize),
    /// There are too few yet.
    Wait,
    /// This is no answer.
    Wrong,
}

impl Answer {
    pub(super) fn new() -> Answer {
        Answer { part: Part::Head, text: Vec::new(), keep: true, fault: None }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> Progress {
        if self.text.is_empty() {
            return self.read(bytes);
        }
        let mut text = std::mem::take(&mut self.text);
        text.extend_from_slice(bytes);
        self.read(&text)
    }

    /// The peer sends no more: the answer is over if nothing else tells its end.
    pub(super) fn end(&mut self) -> Progress {
        match self.part {
            Part::UntilEnd => Progress::Over { keep: false, fault: self.fault },
            _ => Progress::Over { keep: false, fault: Some(Fault::Closed) },
        }
    }

    fn read(&mut self, mut bytes: &[u8]) -> Progress {
        while self.part != Part::Done {
            let look = match self.part {
                Part::Head => self.head(bytes),
                Part::Body(left) => {
                    let here = left.min(bytes.len() as u64);
                    self.part = if here == left { Part::Done } else { Part::Body(left - here) };
                    Look::Next(here as usize)
                }
                Part::Chunk(left) => {
                    let here = left.min(bytes.len() as u64);
                    self.part =
                        if here == left { Part::ChunkSize } else { Part::Chunk(left - here) };
                    Look::Next(here as usize)
                }
                Part::ChunkSize => self.chunk_size(bytes),
                Part::Trailer => self.trailer(bytes),
                Part::UntilEnd | Part::Done => Look::Next(bytes.len()),
            };
            match look {
                Look::Next(at) => bytes = &bytes[at..],
                Look::Wait if bytes.len() < TEXT_MAX => {
                    self.text = bytes.to_vec();
                    return Progress::Going;
                }
                Look::Wait | Look::Wrong => return WRONG,
            }
            if bytes.is_empty() && self.part != Part::Done {
                return Progress::Going;
            }
        }
        // Nothing more was asked for, so nothing more may come.
        if bytes.is_empty() { Progress::Over { keep: self.keep, fault: self.fault } } else { WRONG }
    }

    fn head(&mut self, bytes: &[u8]) -> Look {
        let mut fields = [EMPTY_HEADER; FIELDS_MAX];
        let mut head = Response::new(&mut fields);
        let end = match head.parse(bytes) {
            Ok(Status::Complete(end)) => end,
            Ok(Status::Partial) => return Look::Wait,
            Err(_) => return Look::Wrong,
        };
        let status = head.code.unwrap_or(0);
        if (100..200).contains(&status) {
            return Look::Next(end); // the answer itself is still to come
        }
        self.fault = (status >= 400).then_some(Fault::BadStatus);
        self.keep = head.version == Some(1);
        let (mut length, mut chunked) = (None, None);
        for field in head.headers {
            let Ok(value) = std::str::from_utf8(field.value) else { continue };
            let lists = |word| value.split(',').any(|item| item.trim().eq_ignore_ascii_case(word));
            if field.name.eq_ignore_ascii_case("connection") {
                self.keep = (self.keep || lists("keep-alive")) && !lists("close");
            } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = Some(lists("chunked"));
            } else if field.name.eq_ignore_ascii_case("content-length") {
                match value.trim().parse() {
                    Ok(bytes) => length = Some(bytes),
                    Err(_) => return Look::Wrong,
                }
            }
        }
        self.part = match (chunked, length) {
            // These have no body, whatever else is said.
            _ if matches!(status, 204 | 304) => Part::Done,
            // An encoding wins over a length (RFC 9112, 6.3).
            (Some(true), _) => Part::ChunkSize,
            (Some(false), _) | (None, None) => Part::UntilEnd,
            (None, Some(0)) => Part::Done,
            (None, Some(bytes)) => Part::Body(bytes),
        };
        Look::Next(end)
    }

    fn chunk_size(&mut self, bytes: &[u8]) -> Look {
        match httparse::parse_chunk_size(bytes) {
            Ok(Status::Complete((end, 0))) => {
                self.part = Part::Trailer;
                Look::Next(end)
            }
            Ok(Status::Complete((end, size))) => {
                self.part = Part::Chunk(size.saturating_add(LINE_END.len() as u64));
                Look::Next(end)
            }
            Ok(Status::Partial) => Look::Wait,
            Err(_) => Look::Wrong,
        }
    }

    fn trailer(&mut self, bytes: &[u8]) -> Look {
        let Some(end) = bytes.windows(LINE_END.len()).position(|two| two == LINE_END) else {
            return Look::Wait;
        };
        if end == 0 {
            self.part = Part::Done;
        }
        Look::Next(end + LINE_END.len())
    }
}

const WRONG: Progress = Progress::Over { keep: false, fault: Some(Fault::BadAnswer) };
const LINE_END: &[u8] = b"\r\n";
/// Fields of a head; nginx and Apache stay far below.
const FIELDS_MAX: usize = 64;
/// Of a head, or of a line between chunks.
const TEXT_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn over(keep: bool, fault: Option<Fault>) -> Progress {
        Progress::Over { keep, fault }
    }

    /// What an answer comes to, whole and cut at every place.
    fn read(text: &str) -> Progress {
        let text = text.replace('\n', "\r\n");
        let whole = Answer::new().take(text.as_bytes());
        for cut in 1..text.len() {
            let mut answer = Answer::new();
            let (head, tail) = text.as_bytes().split_at(cut);
            if answer.take(head) == Progress::Going {
                assert_eq!(answer.take(tail), whole, "cut at {cut}: {text}");
            } else {
                assert_eq!(whole, WRONG, "over at {cut}, before the end: {text}");
            }
        }
        let mut trickle = Answer::new();
        let last = text.bytes().map(|byte| trickle.take(&[byte])).find(|p| *p != Progress::Going);
        assert!(last.unwrap_or(Progress::Going) == whole || whole == WRONG, "{text}");
        whole
    }

    #[test]
    fn a_length_ends_an_answer() {
        assert_eq!(read("HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"), over(true, None));
        assert_eq!(read("HTTP/1.1 200 OK\ncontent-length: 0\n\n"), over(true, None));
        assert_eq!(read("HTTP/1.1 200 OK\nContent-Length: 5\n\nhell"), Progress::Going);
        assert_eq!(read("HTTP/1.1 200 OK\nContent-Length: 5\n\nhello!"), WRONG);
    }

    #[test]
    fn chunks_end_with_an_empty_one() {
        let head = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nContent-Length: 3\n\n";
        assert_eq!(read(&format!("{head}5;x\nhello\n2\nhi\n0\nt: u\n\n")), over(true, None));
        assert_eq!(read(&format!("{head}0\n\n")), over(true, None));
        assert_eq!(read(&format!("{head}5\nhello\n")), Progress::Going);
        assert_eq!(read(&format!("{head}no size\n")), WRONG);
    }

    #[test]
    fn a_body_without_a_length_ends_with_the_connection() {
        let mut answer = Answer::new();
        assert_eq!(answer.take(b"HTTP/1.1 200 OK\r\n\r\nsome"), Progress::Going);
        assert_eq!(answer.take(b" more"), Progress::Going);
        assert_eq!(answer.end(), over(false, None));
        let mut cut = Answer::new();
        assert_eq!(cut.take(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"), Progress::Going);
        assert_eq!(cut.end(), over(false, Some(Fault::Closed)));
        assert_eq!(Answer::new().end(), over(false, Some(Fault::Closed)));
    }

    #[test]
    fn versions_and_the_connection_field_decide_on_keeping_it() {
        let keep = |head: &str| read(&format!("{head}\nContent-Length: 0\n\n"));
        assert_eq!(keep("HTTP/1.1 200 OK\nConnection: close"), over(false, None));
        assert_eq!(keep("HTTP/1.0 200 OK"), over(false, None));
        assert_eq!(keep("HTTP/1.0 200 OK\nConnection: Keep-Alive"), over(true, None));
    }

    #[test]
    fn statuses_count() {
        let no_body = Some(Fault::BadStatus);
        assert_eq!(read("HTTP/1.1 503 Busy\nContent-Length: 4\n\nbusy"), over(true, no_body));
        assert_eq!(read("HTTP/1.1 204 None\n\n"), over(true, None));
        assert_eq!(read("HTTP/1.1 304 Same\nContent-Length: 9\n\n"), over(true, None));
        assert_eq!(
            read("HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
            over(true, None)
        );
    }

    #[test]
    fn what_is_no_answer_is_none() {
        assert_eq!(read("SSH-2.0-OpenSSH\n"), WRONG);
        assert_eq!(read("HTTP/1.1 200 OK\nContent-Length: -1\n\n"), WRONG);
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(TEXT_MAX));
        assert_eq!(Answer::new().take(endless.as_bytes()), WRONG);
    }
}
