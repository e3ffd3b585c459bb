//! The bytes of an HTTP/1 connection: a message head, a body to discard, an answer to send.

use std::io::{self, Read, Write};

/// One connection with what is read ahead of, and what is not sent yet.
///
/// Answers are kept back until the next read would have to wait, so that pipelined requests are
/// answered in as few segments as they came in.
pub(super) struct Wire<S> {
    stream: S,
    inbox: Vec<u8>,
    /// How much of the inbox is used up.
    taken: usize,
    outbox: Vec<u8>,
}

/// What a request says, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) body: Body,
    /// The connection stays open after the answer.
    pub(super) keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub(super) expects: bool,
    /// The client would rather have text than JSON.
    pub(super) wants_text: bool,
}

/// How a request's body ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    Length(u64),
    Chunked,
}

/// Why there is no further request.
#[derive(Debug)]
pub(super) enum Stop {
    /// The client closed between two requests.
    Ended,
    /// What it sent is no HTTP/1 request: the status to answer with.
    Bad(u16),
    /// The connection broke.
    Broken,
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Stop {
        Stop::Broken
    }
}

impl<S: Read + Write> Wire<S> {
    pub(super) fn new(stream: S) -> Wire<S> {
        Wire { stream, inbox: Vec::new(), taken: 0, outbox: Vec::new() }
    }

    /// The next request's head.
    pub(super) fn head(&mut self) -> Result<Head, Stop> {
        let mut searched = 0;
        loop {
            // A blank line before a request is to be ignored (RFC 9112, 2.2).
            while searched == 0 && self.unread().starts_with(b"\r\n") {
                self.taken += 2;
            }
            // The end mark may straddle what was searched and what came since.
            let from = searched;
            if let Some(at) = self.unread()[from..].windows(4).position(|four| four == b"\r\n\r\n")
            {
                let end = from + at + 4;
                let head = Head::parse(&self.unread()[..end]);
                self.taken += end;
                return head.ok_or(Stop::Bad(400));
            }
            if self.unread().len() > HEAD_MAX {
                return Err(Stop::Bad(431));
            }
            searched = self.unread().len().saturating_sub(3);
            if self.fill()? == 0 {
                return Err(if self.unread().is_empty() { Stop::Ended } else { Stop::Broken });
            }
        }
    }

    /// Reads a body and forgets it.
    pub(super) fn discard(&mut self, body: &Body) -> Result<(), Stop> {
        match body {
            Body::Length(bytes) => self.skip(*bytes),
            Body::Chunked => loop {
                let line = self.line()?;
                let digits = line.split(|&b| b == b';').next().unwrap_or_default();
                let size = std::str::from_utf8(digits.trim_ascii())
                    .ok()
                    .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
                    .and_then(|digits| u64::from_str_radix(digits, 16).ok())
                    .ok_or(Stop::Bad(400))?;
                if size == 0 {
                    // Trailers, up to a blank line.
                    while !self.line()?.is_empty() {}
                    return Ok(());
                }
                self.skip(size)?;
                if !self.line()?.is_empty() {
                    return Err(Stop::Bad(400));
                }
            },
        }
    }

    /// Queues bytes; they leave when the next read would wait, when there are many, or by
    /// [`flush`](Wire::flush).
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.outbox.extend_from_slice(bytes);
        if self.outbox.len() >= OUTBOX { self.flush() } else { Ok(()) }
    }

    /// Sends what is queued.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let sent = self.stream.write_all(&self.outbox);
        self.outbox.clear();
        sent
    }

    fn unread(&self) -> &[u8] {
        &self.inbox[self.taken..]
    }

    fn skip(&mut self, mut bytes: u64) -> Result<(), Stop> {
        loop {
            let here = self.unread().len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
            self.taken += here;
            bytes -= here as u64;
            if bytes == 0 {
                return Ok(());
            }
            if self.fill()? == 0 {
                return Err(Stop::Broken);
            }
        }
    }

    /// A line without its end; at most [`HEAD_MAX`] long.
    fn line(&mut self) -> Result<Vec<u8>, Stop> {
        loop {
            if let Some(end) = self.unread().iter().position(|&b| b == b'\n') {
                let line = self.unread()[..end].to_vec();
                self.taken += end + 1;
                return Ok(line.strip_suffix(b"\r").map_or(line.clone(), <[u8]>::to_vec));
            }
            if self.unread().len() > HEAD_MAX {
                return Err(Stop::Bad(400));
            }
            if self.fill()? == 0 {
                return Err(Stop::Broken);
            }
        }
    }

    /// Waits for more bytes; 0 when the client has ended.
    fn fill(&mut self) -> io::Result<usize> {
        self.flush()?;
        self.inbox.drain(..self.taken);
        self.taken = 0;
        let old = self.inbox.len();
        self.inbox.resize(old + INBOX, 0);
        let read = self.stream.read(&mut self.inbox[old..]);
        self.inbox.truncate(old + *read.as_ref().unwrap_or(&0));
        read
    }
}

impl Head {
    fn parse(bytes: &[u8]) -> Option<Head> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() || method.is_empty() || !target.starts_with(['/', '*', 'h']) {
            return None;
        }
        let mut head = Head {
            method: method.to_owned(),
            path: path(target).to_owned(),
            body: Body::Length(0),
            keep_alive: match version {
                "HTTP/1.1" => true,
                "HTTP/1.0" => false,
                _ => return None,
            },
            expects: false,
            wants_text: false,
        };
        for line in lines.take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            head.field(name, value.trim())?;
        }
        Some(head)
    }

    fn field(&mut self, name: &str, value: &str) -> Option<()> {
        let lists = |word| value.split(',').any(|item| item.trim().eq_ignore_ascii_case(word));
        if name.eq_ignore_ascii_case("content-length") {
            // Chunked wins where both are given, whichever comes first.
            if self.body != Body::Chunked {
                self.body = Body::Length(value.parse().ok()?);
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if !lists("chunked") {
                return None;
            }
            self.body = Body::Chunked;
        } else if name.eq_ignore_ascii_case("connection") {
            self.keep_alive = (self.keep_alive || lists("keep-alive")) && !lists("close");
        } else if name.eq_ignore_ascii_case("expect") {
            self.expects = value.eq_ignore_ascii_case("100-continue");
        } else if name.eq_ignore_ascii_case("accept") {
            self.wants_text = value.starts_with("text/plain");
        }
        Some(())
    }
}

/// The path of a request target, be it `/path?query` or `http://host/path`.
fn path(target: &str) -> &str {
    let target = target.split('?').next().unwrap_or(target);
    match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    }
}

const INBOX: usize = 16 * 1024;
const OUTBOX: usize = 64 * 1024;
const HEAD_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that sends one byte per segment and takes anything.
    struct Trickle(&'static [u8]);

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(&mut buffer[..1])
        }
    }

    impl Write for Trickle {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_request_may_be_cut_anywhere() {
        let mut wire = Wire::new(Trickle(
            b"\r\nPOST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
              2;x\r\nhi\r\n0\r\nt: u\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
        ));
        let first = wire.head().expect("a request");
        assert_eq!(first.path, "/a");
        wire.discard(&first.body).expect("a whole body");
        assert_eq!(wire.head().expect("another request").path, "/b");
        assert!(matches!(wire.head(), Err(Stop::Ended)));
    }

    fn parse(text: &str) -> Option<Head> {
        Head::parse(text.replace('\n', "\r\n").as_bytes())
    }

    #[test]
    fn a_plain_request_keeps_the_connection() {
        let head = parse("GET /a/b?c=d HTTP/1.1\nHost: x\n\n").expect("it is one");
        assert_eq!((head.method.as_str(), head.path.as_str()), ("GET", "/a/b"));
        assert_eq!((head.body, head.keep_alive), (Body::Length(0), true));
    }

    #[test]
    fn versions_and_the_connection_field_decide_on_keeping_it() {
        let keeps = |text| parse(text).expect("it is one").keep_alive;
        assert!(!keeps("GET / HTTP/1.0\n\n"));
        assert!(keeps("GET / HTTP/1.0\nConnection: Keep-Alive\n\n"));
        assert!(!keeps("GET / HTTP/1.1\nconnection: foo, close\n\n"));
    }

    #[test]
    fn chunked_wins_over_a_length_in_either_order() {
        for fields in [
            "Content-Length: 5\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked\nContent-Length: 5",
        ] {
            let head = parse(&format!("POST / HTTP/1.1\n{fields}\n\n")).expect("it is one");
            assert_eq!(head.body, Body::Chunked, "{fields}");
        }
    }

    #[test]
    fn absolute_targets_are_reduced_to_their_path() {
        assert_eq!(path("http://host:80/x?y"), "/x");
        assert_eq!(path("http://host"), "/");
        assert_eq!(path("*"), "*");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for text in [
            "GET /\n\n",
            "GET / HTTP/2.0\n\n",
            "GET / HTTP/1.1\nno colon\n\n",
            "GET / HTTP/1.1\nContent-Length: -1\n\n",
            "POST / HTTP/1.1\nTransfer-Encoding: gzip\n\n",
            "\u{16}\u{3}\u{1} x y\n\n",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
