//! The scripted peers over real sockets: each does what its name promises, and ends when told to.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use evenkeel::testserver::{Mode, TestServer, pattern};

/// No read or connect of these tests takes longer, unless something is broken.
const DEADLINE: Duration = Duration::from_secs(10);

fn start(mode: Mode) -> TestServer {
    named(mode, None)
}

fn named(mode: Mode, name: Option<&str>) -> TestServer {
    TestServer::start(mode, name, &[loopback()]).expect("a free loopback port")
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn connect(server: &TestServer) -> TcpStream {
    connect_to(server.address().expect("it listens"))
}

fn connect_to(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, DEADLINE).expect("it accepts");
    stream.set_read_timeout(Some(DEADLINE)).expect("an open socket");
    stream.set_write_timeout(Some(DEADLINE)).expect("an open socket");
    stream
}

fn read_all(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an orderly end");
    bytes
}

/// Status line, fields (lower-case names) and body of one answer.
struct Answer {
    status: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn read(reader: &mut impl BufRead, has_body: bool) -> Answer {
        let mut line = || {
            let mut line = String::new();
            reader.read_line(&mut line).expect("an answer");
            line.trim_end().to_owned()
        };
        let status = line();
        let mut fields = Vec::new();
        loop {
            let field = line();
            let Some((name, value)) = field.split_once(": ") else { break };
            fields.push((name.to_lowercase(), value.to_owned()));
        }
        let mut answer = Answer { status, fields, body: Vec::new() };
        if has_body {
            let length = answer.field("content-length").map_or(0, |n| n.parse().expect("a number"));
            answer.body.resize(length, 0);
            reader.read_exact(&mut answer.body).expect("a whole body");
        }
        answer
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// An HTTP client; it keeps what it reads ahead, so that a byte too many spoils the next answer.
struct Client(BufReader<TcpStream>);

impl Client {
    fn of(server: &TestServer) -> Client {
        Client(BufReader::new(connect(server)))
    }

    fn ask(&mut self, request: &str) -> Answer {
        self.send(request);
        self.answer(!request.starts_with("HEAD"))
    }

    fn send(&mut self, request: &str) {
        self.0.get_mut().write_all(request.as_bytes()).expect("it reads");
    }

    fn answer(&mut self, has_body: bool) -> Answer {
        Answer::read(&mut self.0, has_body)
    }

    fn expect_end(&mut self) {
        assert_eq!(self.0.read(&mut [0]).expect("an orderly end"), 0);
    }
}

#[test]
fn echo_returns_every_byte_and_the_end() {
    let server = start(Mode::Echo);
    let mut stream = connect(&server);
    let sent: Vec<u8> = (0..300_000).map(pattern).collect();
    let received = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_all(&stream));
        (&stream).write_all(&sent).expect("it reads");
        stream.shutdown(Shutdown::Write).expect("still connected");
        reader.join().expect("no panic")
    });
    assert_eq!(received, sent);
    assert_eq!(stream.read(&mut [0]).expect("ended"), 0);
}

#[test]
fn sink_takes_everything_and_says_nothing() {
    let server = start(Mode::Sink);
    let mut stream = connect(&server);
    stream.write_all(&vec![7; 1 << 20]).expect("it reads");
    stream.shutdown(Shutdown::Write).expect("still connected");
    assert_eq!(read_all(&stream), b"");
}

#[test]
fn source_sends_exactly_the_pattern() {
    let server = start(Mode::Source { bytes: Some(200_000) });
    let received = read_all(&connect(&server));
    assert_eq!(received.len(), 200_000);
    assert!((0u64..).zip(&received).all(|(place, &byte)| byte == pattern(place)));
}

#[test]
fn source_without_a_length_goes_on() {
    let server = start(Mode::Source { bytes: None });
    let mut much = vec![0; 4 << 20];
    connect(&server).read_exact(&mut much).expect("more than that");
}

#[test]
fn slow_sends_byte_by_byte() {
    let server = start(Mode::Slow { interval: Duration::from_millis(1) });
    let mut stream = connect(&server);
    let mut bytes = [9; 5];
    stream.read_exact(&mut bytes).expect("a byte every millisecond");
    assert_eq!(bytes, [0, 1, 2, 3, 4]);
    stream.shutdown(Shutdown::Write).expect("still connected");
    // It notices the end at the next byte, and ends too.
    read_all(&stream);
}

#[test]
fn reset_resets() {
    let server = start(Mode::Reset);
    let mut stream = connect(&server);
    let error = stream.read(&mut [0]).expect_err("no orderly end");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn hang_neither_answers_nor_closes() {
    let server = start(Mode::Hang);
    let mut stream = connect(&server);
    stream.write_all(b"anybody there?").expect("the kernel takes it");
    stream.set_read_timeout(Some(Duration::from_millis(50))).expect("an open socket");
    let error = stream.read(&mut [0]).expect_err("silence");
    assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
}

#[test]
fn refuse_after_closes_its_listener_but_not_what_it_accepted() {
    let server = start(Mode::RefuseAfter { connections: 2 });
    let mut streams = [connect(&server), connect(&server)];
    for stream in &mut streams {
        stream.write_all(b"x").expect("it reads");
        stream.read_exact(&mut [0]).expect("it echoes");
    }
    // The listener goes right after the second accept; until then a connection ends in a reset.
    let address = server.address().expect("it had one");
    let refused = std::iter::repeat_with(|| TcpStream::connect_timeout(&address, DEADLINE))
        .take(1000)
        .filter_map(Result::err)
        .any(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    assert!(refused, "it still listens");
    assert_eq!(server.accepted(), 2);
    for stream in &mut streams {
        stream.write_all(b"y").expect("it still reads");
        stream.read_exact(&mut [0]).expect("it still echoes");
    }
}

#[test]
fn http_names_itself_and_counts() {
    let server = named(Mode::Http, Some("alpha"));
    let mut client = Client::of(&server);
    for request in 1..=3 {
        let answer = client.ask("GET /who HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(answer.status, "HTTP/1.1 200 OK");
        assert_eq!(answer.field("content-type"), Some("application/json"));
        assert_eq!(answer.field("connection"), Some("keep-alive"));
        assert_eq!(answer.field("x-backend"), Some("alpha"));
        let json = answer.json();
        assert_eq!(json["backend"], "alpha");
        assert_eq!(json["port"], server.address().expect("it listens").port());
        assert_eq!(json["request"], request);
        let address = client.0.get_ref().local_addr();
        assert_eq!(json["client"], address.expect("connected").to_string());
        assert_eq!(json["path"], "/who");
    }
    assert_eq!(server.requests(), 3);
}

#[test]
fn http_without_a_name_is_its_address() {
    let server = start(Mode::Http);
    let answer = Client::of(&server).ask("GET / HTTP/1.1\r\nAccept: text/plain\r\n\r\n");
    let address = server.address().expect("it listens").to_string();
    assert_eq!(answer.field("x-backend"), Some(address.as_str()));
    let text = String::from_utf8(answer.body).expect("text");
    assert!(text.starts_with(&address) && text.ends_with('\n'), "{text}");
}

#[test]
fn http_closes_when_asked_to_and_when_http_1_0_does_not_ask() {
    for request in ["GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"] {
        let server = start(Mode::Http);
        let mut client = Client::of(&server);
        assert_eq!(client.ask(request).field("connection"), Some("close"), "{request}");
        client.expect_end();
    }
}

#[test]
fn http_answers_pipelined_requests_in_order() {
    let server = start(Mode::Http);
    let mut client = Client::of(&server);
    let paths = ["/1", "/status/404", "/bytes/70000", "/2", "/slow/1", "/3"];
    let requests: String = paths.iter().map(|p| format!("GET {p} HTTP/1.1\r\n\r\n")).collect();
    client.send(&requests);
    let answers = paths.map(|_| client.answer(true));
    assert_eq!(answers[0].json()["path"], "/1");
    assert_eq!(answers[1].status, "HTTP/1.1 404 Not Found");
    assert_eq!(answers[2].body.len(), 70_000);
    assert!((0u64..).zip(&answers[2].body).all(|(place, &byte)| byte == pattern(place)));
    assert_eq!(answers[3].json()["path"], "/2");
    assert_eq!(answers[4].json()["path"], "/slow/1");
    assert_eq!(answers[5].json()["request"], 6);
}

#[test]
fn http_answers_without_a_body_where_there_is_none() {
    let server = start(Mode::Http);
    let mut client = Client::of(&server);
    for path in ["/", "/bytes/1000"] {
        let head = client.ask(&format!("HEAD {path} HTTP/1.1\r\n\r\n"));
        assert_ne!(head.field("content-length"), Some("0"));
    }
    // The next answer starts where the head ended.
    assert_eq!(client.ask("GET / HTTP/1.1\r\n\r\n").status, "HTTP/1.1 200 OK");
    let empty = client.ask("GET /status/204 HTTP/1.1\r\n\r\n");
    assert_eq!(empty.status, "HTTP/1.1 204 No Content");
    assert_eq!(empty.field("content-length"), None);
    assert_eq!(client.ask("GET / HTTP/1.1\r\n\r\n").status, "HTTP/1.1 200 OK");
}

#[test]
fn http_discards_bodies() {
    let server = start(Mode::Http);
    let mut client = Client::of(&server);
    let body = "GET ".repeat(25_000);
    let long = format!("POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n{body}");
    assert_eq!(client.ask(&long).json()["method"], "POST");
    let chunked = "PUT /up HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nhello\r\nA;ext=1\r\n0123456789\r\n0\r\nTrailer: yes\r\n\r\n";
    assert_eq!(client.ask(chunked).json()["path"], "/up");
    assert_eq!(client.ask("GET / HTTP/1.1\r\n\r\n").json()["request"], 3);
}

#[test]
fn http_tells_a_waiting_client_to_continue() {
    let server = start(Mode::Http);
    let mut client = Client::of(&server);
    client.send("POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.answer(true).status, "HTTP/1.1 100 Continue");
    assert_eq!(client.ask("ok").status, "HTTP/1.1 200 OK");
}

#[test]
fn http_refuses_what_is_none_and_closes_in_order() {
    let server = start(Mode::Http);
    // A client in the middle of an upload is to see the answer, not a reset: more than sockets hold.
    let junk = "junk".repeat(5_000_000);
    for request in ["\x16\x03\x01 hello\r\n\r\n", "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"] {
        let mut client = Client::of(&server);
        let answer = client.ask(&format!("{request}{junk}"));
        assert_eq!(answer.status, "HTTP/1.1 400 Bad Request");
        assert_eq!(answer.field("connection"), Some("close"));
        client.expect_end();
    }
    let endless = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(70_000));
    let answer = Client::of(&server).ask(&endless);
    assert_eq!(answer.status, "HTTP/1.1 431 Request Header Fields Too Large");
}

#[test]
fn several_addresses_are_one_server() {
    let server = TestServer::start(Mode::Http, Some("twin"), &[loopback(), loopback()])
        .expect("free loopback ports");
    assert_eq!(server.addresses().len(), 2);
    for (index, address) in server.addresses().iter().enumerate() {
        let mut client = Client(BufReader::new(connect_to(*address)));
        let json = client.ask("GET / HTTP/1.1\r\n\r\n").json();
        assert_eq!(json["port"], address.port());
        assert_eq!(json["request"], index + 1);
    }
}

#[test]
fn a_taken_port_is_named() {
    let server = start(Mode::Echo);
    let address = server.address().expect("it listens");
    let error = TestServer::start(Mode::Echo, None, &[address]).expect_err("it is taken");
    assert_eq!(error.to_string(), format!("cannot listen on {address}: address already in use"));
}

#[test]
fn stopping_closes_listeners_and_connections() {
    for mode in [Mode::Echo, Mode::Hang, Mode::Slow { interval: Duration::from_secs(3600) }] {
        let server = start(mode);
        let address = server.address().expect("it listens");
        let stream = connect(&server);
        // An accepted connection, not one in the kernel's queue: that would end in a reset.
        while server.open() == 0 {
            std::thread::yield_now();
        }
        server.stop();
        read_all(&stream);
        let error = TcpStream::connect_timeout(&address, DEADLINE).expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{mode:?}");
    }
}

#[test]
fn connections_come_off_the_books_when_they_end() {
    let server = start(Mode::Echo);
    for _ in 0..50 {
        let stream = connect(&server);
        stream.shutdown(Shutdown::Write).expect("connected");
        read_all(&stream);
    }
    assert_eq!(server.accepted(), 50);
    let closed = std::iter::repeat_with(|| {
        std::thread::yield_now();
        server.open()
    })
    .take(1_000_000)
    .any(|open| open == 0);
    assert!(closed, "{} are still on the books", server.open());
}
