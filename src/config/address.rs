//! Addresses, networks and host names as an operator writes them.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::plan::Target;
use super::units::quote;
use crate::net::Address;

/// Where a listener binds: `0.0.0.0:80`, `[::]:80` or `unix:/path`.
///
/// # Errors
/// With what is wrong and how to write it.
pub fn parse_bind(text: &str) -> Result<Address, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return parse_unix(text, path);
    }
    if text.starts_with("fd:") {
        let text = quote(text);
        return Err(format!("{text} is not available in this version (write the address to bind)"));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        parse_port(text)?;
        return Err(format!("{text} is only a port (write 0.0.0.0:{text} for every address)"));
    }
    let (host, port) = split(text)?;
    let ip = match parse_host(text, host)? {
        Host::Ip(ip) => ip,
        Host::Name(name) => {
            let advice = if name == "localhost" { "127.0.0.1" } else { "0.0.0.0" };
            let text = quote(text);
            return Err(format!(
                "{text} is a host name, and only an address can be bound (write {advice}:{port})"
            ));
        }
    };
    Ok(Address::Ip(socket_address(text, ip, port)))
}

/// Where a backend answers: `10.0.0.1:80`, `[::1]:80`, `host:80` or `unix:/path`.
///
/// # Errors
/// With what is wrong and how to write it.
pub fn parse_target(text: &str) -> Result<Target, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return parse_unix(text, path).map(Target::Address);
    }
    let (host, port) = split(text)?;
    match parse_host(text, host)? {
        Host::Name(name) => Ok(Target::Host { name, port }),
        Host::Ip(ip) if ip.is_unspecified() => {
            let advice = if ip.is_ipv4() { "127.0.0.1" } else { "[::1]" };
            Err(format!(
                "{} is no address to connect to (write {advice}:{port} for this machine)",
                quote(text)
            ))
        }
        Host::Ip(ip) if ip.is_multicast() || is_broadcast(ip) => {
            Err(format!("{} is not the address of one machine", quote(text)))
        }
        Host::Ip(ip) => Ok(Target::Address(Address::Ip(socket_address(text, ip, port)))),
    }
}

/// A local address to connect from.
pub(super) fn parse_source(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() || ip.is_multicast() => {
            Err(format!("{} is not an address of this machine (name one of its own)", quote(text)))
        }
        Ok(ip) => Ok(ip),
        Err(_) if text.parse::<SocketAddr>().is_ok() => {
            Err(format!("{} has a port (write the address alone)", quote(text)))
        }
        Err(_) => Err(format!("{} is not an IP address (write it like 10.0.0.9)", quote(text))),
    }
}

/// A network, `10.0.0.0/8`; a lone address is a network of one.
pub(super) fn parse_network(text: &str) -> Result<(IpAddr, u8), String> {
    let wrong = || format!("{} is not a network (write it like 10.0.0.0/8)", quote(text));
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let ip: IpAddr = address.parse().map_err(|_| wrong())?;
    let bits_max = if ip.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => bits_max,
        Some(bits) => match bits.parse::<u8>() {
            Ok(bits) if bits <= bits_max => bits,
            _ => return Err(format!("{} is not a network (/0 to /{bits_max})", quote(text))),
        },
    };
    let network = mask(ip, bits);
    if network != ip {
        return Err(format!("{} has bits set after /{bits} (write {network}/{bits})", quote(text)));
    }
    Ok((ip, bits))
}

enum Host {
    Ip(IpAddr),
    Name(String),
}

/// Host and port, still to be read; brackets stay with the host.
fn split(text: &str) -> Result<(&str, u16), String> {
    let shown = quote(text);
    if text.is_empty() {
        return Err(format!("{shown} is not an address"));
    }
    if text.contains("//") {
        return Err(format!("{shown} is a URL (write the address alone, like 10.0.0.1:80)"));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let is_bare_v6 = text.parse::<std::net::Ipv6Addr>().is_ok();
    if is_bare_v6 || (!host.starts_with('[') && host.contains(':')) {
        return Err(format!(
            "{shown} needs brackets around an IPv6 address (write it like [::1]:80)"
        ));
    }
    if host.starts_with('[') && !host.ends_with(']') {
        return Err(format!("{shown} has no port (write it like [::1]:80)"));
    }
    if host.is_empty() {
        return Err(format!("{shown} has no address before the port"));
    }
    if port.is_empty() {
        return Err(format!("{shown} has no port (write it like {host}:80)"));
    }
    Ok((host, parse_port(port)?))
}

fn parse_port(text: &str) -> Result<u16, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{} is not a port (1 to 65535)", quote(text)));
    }
    match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("port {text} is out of range (1 to 65535)")),
    }
}

fn parse_host(text: &str, host: &str) -> Result<Host, String> {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address = inner.split_once('%').map_or(inner, |(address, _)| address);
        let scope_is_number =
            inner.split_once('%').is_none_or(|(_, scope)| scope.parse::<u32>().is_ok());
        return match address.parse::<std::net::Ipv6Addr>() {
            Ok(ip) if scope_is_number => Ok(Host::Ip(IpAddr::V6(ip))),
            Ok(_) => {
                Err(format!("{} must name its interface by number (see `ip link`)", quote(text)))
            }
            Err(_) => Err(format!("{} is not an IPv6 address in brackets", quote(text))),
        };
    }
    if let Ok(ip) = host.parse::<std::net::Ipv4Addr>() {
        return Ok(Host::Ip(IpAddr::V4(ip)));
    }
    let labels = host.strip_suffix('.').unwrap_or(host);
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A name that ends in digits is an address with a slip: no top-level domain is a number.
    let ends_in_number = labels
        .rsplit('.')
        .next()
        .is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    if ends_in_number {
        return Err(format!("{} is not an IPv4 address (four numbers, 0 to 255)", quote(text)));
    }
    if labels.len() > 253 || !labels.split('.').all(label_fits) {
        return Err(format!("{} is neither an address nor a host name", quote(text)));
    }
    Ok(Host::Name(host.to_ascii_lowercase()))
}

/// Keeps the interface number of a link-local address, which only `SocketAddr` can hold.
fn socket_address(text: &str, ip: IpAddr, port: u16) -> SocketAddr {
    text.parse().unwrap_or_else(|_| SocketAddr::new(ip, port))
}

fn parse_unix(text: &str, path: &str) -> Result<Address, String> {
    if !path.starts_with('/') {
        return Err(format!(
            "{} must have an absolute path (write it like unix:/run/web.sock)",
            quote(text)
        ));
    }
    if path.len() > UNIX_PATH_MAX || path.contains('\0') {
        return Err(format!(
            "{} is not a path a socket can have (at most {UNIX_PATH_MAX} bytes)",
            quote(text)
        ));
    }
    let path: PathBuf = Path::new(path).components().collect();
    Ok(Address::Unix(path))
}

fn is_broadcast(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.is_broadcast())
}

fn mask(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((u32::from(ip) & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((u128::from(ip) & mask).into())
        }
    }
}

/// `sun_path` has 108 bytes on Linux and 104 on BSD and macOS, one of them for the final zero.
const UNIX_PATH_MAX: usize = 103;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_read_as_written() {
        for text in
            ["0.0.0.0:80", "[::]:8080", "127.0.0.1:65535", "unix:/run/a.sock", "[fe80::1%2]:80"]
        {
            assert_eq!(parse_bind(text).expect(text).to_string(), text);
        }
    }

    #[test]
    fn binds_that_are_none_say_why() {
        for (text, part) in [
            ("8080", "write 0.0.0.0:8080"),
            ("99999", "out of range"),
            ("0.0.0.0:0", "port 0 is out of range"),
            ("0.0.0.0:65536", "port 65536 is out of range"),
            ("0.0.0.0:-1", "is not a port"),
            ("0.0.0.0:", "has no port"),
            ("0.0.0.0", "has no port"),
            (":80", "has no address"),
            ("localhost:80", "write 127.0.0.1:80"),
            ("::1", "needs brackets"),
            ("::1.2.3.4:80", "needs brackets"),
            ("fe80::zz:80", "needs brackets"),
            ("[::1]", "has no port"),
            ("[::zz]:80", "not an IPv6 address"),
            ("[fe80::1%eth0]:80", "by number"),
            ("256.0.0.1:80", "is not an IPv4 address"),
            ("1.2.3:80", "is not an IPv4 address"),
            ("fd:web", "not available in this version"),
            ("unix:run/a.sock", "absolute path"),
            ("unix:", "absolute path"),
            ("http://a:80", "is a URL"),
            ("a b:80", "neither an address nor a host name"),
            ("", "is not an address"),
        ] {
            let message = parse_bind(text).expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn targets_may_be_names() {
        let host = |name: &str, port| Target::Host { name: name.to_owned(), port };
        assert_eq!(parse_target("Web-1.example.COM:80"), Ok(host("web-1.example.com", 80)));
        assert_eq!(parse_target("my_service:80"), Ok(host("my_service", 80)));
        assert!(matches!(parse_target("10.0.0.1:80"), Ok(Target::Address(Address::Ip(_)))));
        for text in
            ["0.0.0.0:80", "[::]:80", "224.0.0.1:80", "255.255.255.255:80", "-a:80", "a..b:80"]
        {
            assert!(parse_target(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_have_no_bits_after_the_mask() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "2001:db8::/32", "10.0.0.1"] {
            assert!(parse_network(text).is_ok(), "{text}");
        }
        let message = parse_network("10.1.2.3/8").expect_err("host bits");
        assert!(message.contains("write 10.0.0.0/8"), "{message}");
        for text in ["10.0.0.0/33", "::/129", "10.0.0.0/-1", "x/8", "10.0.0.0/", "1/8"] {
            assert!(parse_network(text).is_err(), "{text}");
        }
    }
}
