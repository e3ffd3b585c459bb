//! An HTTP/1.1 backend that names itself.
//!
//! | path | answer |
//! |---|---|
//! | `/bytes/N` | N bytes of [`super::pattern`] |
//! | `/slow/MS` | as any other, after so many milliseconds |
//! | `/status/CODE` | as any other, with this status |
//! | any other | who answered, as JSON, or as a line of text where `Accept` asks for it |

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::wire::{Head, Stop, Wire};
use super::{Connection, peers};

/// Answers requests until either side ends the connection.
pub(super) fn serve(connection: &Connection) -> io::Result<()> {
    let mut wire = Wire::new(&*connection.stream);
    loop {
        let keep = match next(connection, &mut wire) {
            Ok(keep) => keep,
            Err(Stop::Bad(status)) => {
                let body = json(&[("error", quote("this is no HTTP/1.1 request"))]);
                reply(&mut wire, connection, status, JSON, &body, true, false)?;
                false
            }
            Err(Stop::Ended | Stop::Broken) => return Ok(()),
        };
        if !keep {
            wire.flush()?;
            return linger(connection);
        }
    }
}

/// One request and its answer; whether the connection stays open.
fn next(connection: &Connection, wire: &mut Wire<&TcpStream>) -> Result<bool, Stop> {
    let head = wire.head()?;
    if head.expects {
        wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    wire.discard(&head.body)?;
    let request = connection.shared.requests.fetch_add(1, Ordering::Relaxed) + 1;
    let quiet = head.method == "HEAD";
    let close = !head.keep_alive;
    let mut status = 200;
    match route(&head.path) {
        Route::Bytes(bytes) => {
            let fields = start(connection, 200, BINARY, bytes, close);
            wire.send(fields.as_bytes())?;
            if !quiet {
                wire.flush()?;
                peers::write_pattern(&connection.stream, bytes)?;
            }
            return Ok(head.keep_alive);
        }
        Route::Slow(span) => {
            wire.flush()?;
            if !connection.shared.pause(span) {
                return Ok(false);
            }
        }
        Route::Status(wanted) => status = wanted,
        Route::Plain => {}
    }
    let (kind, body) = introduce(connection, &head, request);
    reply(wire, connection, status, kind, &body, close, quiet)?;
    Ok(head.keep_alive)
}

enum Route {
    Plain,
    Bytes(u64),
    Slow(Duration),
    Status(u16),
}

fn route(path: &str) -> Route {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (what, number) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    match what {
        "bytes" => number.parse().map_or(Route::Status(400), Route::Bytes),
        "slow" => {
            number.parse().map_or(Route::Status(400), |ms| Route::Slow(Duration::from_millis(ms)))
        }
        // 1xx would have the client wait for the real answer.
        "status" => match number.parse() {
            Ok(code) if (200..=599).contains(&code) => Route::Status(code),
            _ => Route::Status(400),
        },
        _ => Route::Plain,
    }
}

/// Who answers, what, and whom.
fn introduce(connection: &Connection, head: &Head, request: u64) -> (&'static str, String) {
    let name = name(connection);
    let (port, peer) = (connection.local.port(), connection.peer);
    if head.wants_text {
        return (TEXT, format!("{name} port {port} request {request} from {peer}\n"));
    }
    let body = json(&[
        ("backend", quote(&name)),
        ("port", port.to_string()),
        ("request", request.to_string()),
        ("client", quote(&peer.to_string())),
        ("method", quote(&head.method)),
        ("path", quote(&head.path)),
    ]);
    (JSON, body)
}

fn name(connection: &Connection) -> String {
    connection.shared.name.clone().unwrap_or_else(|| connection.local.to_string())
}

fn json(members: &[(&str, String)]) -> String {
    let members: Vec<_> = members.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
    format!("{{{}}}\n", members.join(","))
}

/// A JSON string.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn reply(
    wire: &mut Wire<&TcpStream>,
    connection: &Connection,
    status: u16,
    kind: &str,
    body: &str,
    close: bool,
    quiet: bool,
) -> io::Result<()> {
    // These two have no body by definition; a length would have the client wait for one.
    let body = if matches!(status, 204 | 304) { "" } else { body };
    wire.send(start(connection, status, kind, body.len() as u64, close).as_bytes())?;
    if quiet { Ok(()) } else { wire.send(body.as_bytes()) }
}

/// Status line and fields.
fn start(connection: &Connection, status: u16, kind: &str, length: u64, close: bool) -> String {
    let length = match status {
        204 | 304 => String::new(),
        _ => format!("content-type: {kind}\r\ncontent-length: {length}\r\n"),
    };
    let close = if close { "close" } else { "keep-alive" };
    let name: String = name(connection).chars().filter(|c| !c.is_control()).collect();
    let reason = reason(status);
    format!(
        "HTTP/1.1 {status} {reason}\r\nx-backend: {name}\r\n{length}connection: {close}\r\n\r\n"
    )
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "As Requested",
    }
}

/// Ends our side and waits a little for the other to do so. Closing with bytes unread would send
/// RST, and that may overtake the answer.
fn linger(connection: &Connection) -> io::Result<()> {
    connection.stream.shutdown(Shutdown::Write)?;
    connection.stream.set_read_timeout(Some(LINGER))?;
    peers::sink(&connection.stream)
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const BINARY: &str = "application/octet-stream";
const LINGER: Duration = Duration::from_secs(2);
