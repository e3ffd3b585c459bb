//! One round trip: the bytes of a question, and what is known of its answer so far.
//!
//! Knows: bytes. Does not know: sockets, time, what the answer is worth.

use std::net::SocketAddr;
use std::sync::LazyLock;

use super::Ask;
use super::http::Answer;
use super::tally::Fault;

/// A question, as it is put again and again.
#[derive(Clone, Debug)]
pub(super) enum Question {
    /// So many bytes, which should come back as they are.
    Echo { bytes: u64 },
    /// A request, word for word.
    Http { request: Vec<u8> },
}

impl Question {
    /// `last`: the connection is for this one question, so an HTTP server may end it afterwards.
    pub(super) fn new(ask: &Ask, target: SocketAddr, last: bool) -> Question {
        match ask {
            Ask::Echo { bytes } => Question::Echo { bytes: *bytes },
            Ask::Http { path } => {
                let connection = if last { "Connection: close\r\n" } else { "" };
                let request = format!(
                    "GET {path} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: evenkeel/{}\r\n{connection}\r\n",
                    env!("CARGO_PKG_VERSION")
                );
                Question::Http { request: request.into_bytes() }
            }
        }
    }
}

/// Where a round trip stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More is to come.
    Going,
    /// The answer is complete.
    Over {
        /// Whether the connection is good for another question.
        keep: bool,
        /// What is wrong with the answer, if anything.
        fault: Option<Fault>,
    },
}

/// A round trip under way.
#[derive(Debug)]
pub(super) struct Exchange {
    sent: u64,
    received: u64,
    /// Where in the pattern an echo starts: another place each time, so that the answer to the
    /// last question cannot pass for one to this.
    shift: u64,
    answer: Answer,
}

impl Exchange {
    pub(super) fn new(number: u64) -> Exchange {
        Exchange {
            sent: 0,
            received: 0,
            shift: number.wrapping_mul(STEP) % SHIFTS,
            answer: Answer::new(),
        }
    }

    /// What is to be sent next; empty when all of it was.
    pub(super) fn unsent<'a>(&self, question: &'a Question) -> &'a [u8] {
        match question {
            Question::Echo { bytes } => pattern(self.shift + self.sent, bytes - self.sent),
            // What was sent of a vector fits into memory.
            Question::Http { request } => &request[self.sent as usize..],
        }
    }

    /// So many of those bytes were sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Takes received bytes.
    pub(super) fn take(&mut self, question: &Question, bytes: &[u8]) -> Progress {
        match question {
            Question::Echo { bytes: wanted } => self.compare(*wanted, bytes),
            Question::Http { .. } => self.answer.take(bytes),
        }
    }

    /// The peer sends no more.
    pub(super) fn end(&mut self) -> Progress {
        self.answer.end()
    }

    fn compare(&mut self, wanted: u64, mut bytes: &[u8]) -> Progress {
        // An echo of what was not said yet is none.
        let mut is_echo = bytes.len() as u64 <= self.sent - self.received;
        while is_echo && !bytes.is_empty() {
            let expected = pattern(self.shift + self.received, bytes.len() as u64);
            let (here, rest) = bytes.split_at(expected.len());
            is_echo = here == expected;
            self.received += here.len() as u64;
            bytes = rest;
        }
        if !is_echo {
            return Progress::Over { keep: false, fault: Some(Fault::BadAnswer) };
        }
        if self.received == wanted {
            return Progress::Over { keep: true, fault: None };
        }
        Progress::Going
    }
}

/// Up to `most` bytes of an endless pattern from `place` on: as many as are in one piece.
pub(super) fn pattern(place: u64, most: u64) -> &'static [u8] {
    let start = (place % PATTERN.len() as u64) as usize;
    let here = &PATTERN[start..];
    &here[..here.len().min(usize::try_from(most).unwrap_or(usize::MAX))]
}

/// Odd numbers times a large odd constant, their upper bytes: no two places look alike.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let bytes = (0..PATTERN_LEN).map(|place| place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56);
    bytes.map(|byte| byte as u8).collect()
});
/// What one write can take; the kernel's send buffer starts out smaller.
const PATTERN_LEN: u64 = 256 * 1024;
/// Shifts stay so far from its end that a question of up to 64 KiB is in one piece, and so is one
/// segment if it can be.
const SHIFTS: u64 = PATTERN_LEN - 64 * 1024;
/// Prime, so that shifts go round all places.
const STEP: u64 = 4_093;

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: Progress = Progress::Over { keep: true, fault: None };
    const WRONG: Progress = Progress::Over { keep: false, fault: Some(Fault::BadAnswer) };

    /// Sends everything; what was sent.
    fn send(exchange: &mut Exchange, question: &Question) -> Vec<u8> {
        let mut all = Vec::new();
        while let bytes @ [_, ..] = exchange.unsent(question) {
            all.extend_from_slice(bytes);
            exchange.sent(bytes.len());
        }
        all
    }

    #[test]
    fn an_echo_may_come_back_in_any_pieces() {
        let question = Question::Echo { bytes: 300_000 };
        let mut exchange = Exchange::new(77);
        let sent = send(&mut exchange, &question);
        assert_eq!(sent.len(), 300_000);
        for piece in sent[..299_999].chunks(1_000) {
            assert_eq!(exchange.take(&question, piece), Progress::Going);
        }
        assert_eq!(exchange.take(&question, &sent[299_999..]), DONE);
    }

    #[test]
    fn anything_else_is_no_echo() {
        let question = Question::Echo { bytes: 64 };
        let mut last = Exchange::new(1);
        let old = send(&mut last, &question);
        let begin = || {
            let mut exchange = Exchange::new(2);
            let sent = send(&mut exchange, &question);
            (exchange, sent)
        };
        let (mut exchange, mut sent) = begin();
        assert_ne!(sent, old);
        assert_eq!(exchange.take(&question, &old), WRONG, "the answer to the last question");
        sent[63] ^= 1;
        assert_eq!(begin().0.take(&question, &sent), WRONG, "one wrong bit");
        sent[63] ^= 1;
        sent.push(0);
        assert_eq!(begin().0.take(&question, &sent), WRONG, "a byte too many");
        let mut eager = Exchange::new(2);
        assert_eq!(eager.take(&question, &sent[..1]), WRONG, "an echo before the call");
    }

    #[test]
    fn a_request_is_sent_whole_and_says_whether_it_is_the_last() {
        let target = SocketAddr::from(([127, 0, 0, 1], 80));
        let ask = Ask::Http { path: "/x".into() };
        for last in [false, true] {
            let question = Question::new(&ask, target, last);
            let text = String::from_utf8(send(&mut Exchange::new(0), &question)).expect("ASCII");
            assert!(text.starts_with("GET /x HTTP/1.1\r\nHost: 127.0.0.1:80\r\n"), "{text}");
            assert!(text.ends_with("\r\n\r\n"), "{text}");
            assert_eq!(text.contains("Connection: close"), last);
        }
    }
}
