//! The one-line form: listeners and backends as flags, no file.

use super::error::{Errors, Findings, Origin, Place};
use super::plan::Plan;
use super::tree::{Entry, Node, Style, Value};
use super::units::quote;
use super::{Loaded, finish};

impl Plan {
    /// The plan of `--listen [ADDR:]PORT`, `--backend ADDR:PORT[,weight=N][,name=X]` and
    /// `--algorithm`; everything else has its default. Errors name the flag.
    pub fn one_line(
        listen: &[String],
        backends: &[String],
        algorithm: Option<&str>,
    ) -> Result<Loaded, Errors> {
        for (values, missing) in [
            (listen, "--listen is missing (such as --listen 8080)"),
            (backends, "--backend is missing (such as --backend 10.0.0.1:80)"),
        ] {
            if values.is_empty() {
                return Err(
                    Findings::new(Origin::Flags(Vec::new())).fail(Place::default(), missing)
                );
            }
        }
        let mut flags = Vec::new();
        let mut flag = |name: &str, value: &str| {
            flags.push(format!("--{name} {}", quote(value)));
            Place { line: u32::try_from(flags.len()).unwrap_or(u32::MAX), column: 1 }
        };
        let mut entries = Vec::new();
        let mut add = |key: &str, node: Option<Node>| {
            entries.extend(node.map(|node| Entry { place: node.place, key: key.to_owned(), node }));
        };
        let listen: Vec<Node> =
            listen.iter().map(|text| bind(flag("listen", text), text)).collect();
        add("listen", list(listen));
        let backends: Vec<Node> =
            backends.iter().map(|text| backend(flag("backend", text), text)).collect();
        add("backends", list(backends));
        let algorithm =
            algorithm.map(|text| Node::scalar(flag("algorithm", text), text, Style::Plain));
        add("algorithm", algorithm);
        let root = Node { place: Place::default(), value: Value::Map(entries) };
        finish(&root, Findings::new(Origin::Flags(flags)))
    }
}

/// An absent flag is an absent key, about which there is a better message than "empty".
fn list(nodes: Vec<Node>) -> Option<Node> {
    let place = nodes.first()?.place;
    Some(Node { place, value: Value::List(nodes) })
}

/// A bare port listens on every IPv4 address.
fn bind(place: Place, text: &str) -> Node {
    let is_port = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = if is_port { format!("0.0.0.0:{text}") } else { text.to_owned() };
    Node::scalar(place, text, Style::Plain)
}

/// `ADDR:PORT[,KEY=VALUE]…`, as the map that would say the same in a file.
fn backend(place: Place, text: &str) -> Node {
    let mut parts = text.split(',');
    let entry = |key: &str, value: &str| Entry {
        place,
        key: key.to_owned(),
        node: Node::scalar(place, value, Style::Substituted),
    };
    let mut entries = vec![entry("address", parts.next().unwrap_or_default())];
    entries.extend(parts.map(|part| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        entry(key, value)
    }));
    Node { place, value: Value::Map(entries) }
}

#[cfg(test)]
mod tests {
    use super::super::{Algorithm, Bind};
    use super::*;

    fn one_line(
        listen: &[&str],
        backends: &[&str],
        algorithm: Option<&str>,
    ) -> Result<Plan, String> {
        let owned =
            |texts: &[&str]| -> Vec<String> { texts.iter().map(ToString::to_string).collect() };
        Plan::one_line(&owned(listen), &owned(backends), algorithm)
            .map(|loaded| loaded.plan)
            .map_err(|errors| errors.to_string())
    }

    #[test]
    fn flags_make_a_plan() {
        let backends = ["10.0.0.1:80", "web.local:81,weight=3,name=big", "[::1]:82"];
        let plan = one_line(&["8080", "127.0.0.1:9090"], &backends, Some("least_connections"));
        let plan = plan.expect("good flags");
        let binds: Vec<String> = plan.listeners[0].binds.iter().map(Bind::to_string).collect();
        assert_eq!(binds, ["0.0.0.0:8080", "127.0.0.1:9090"]);
        let pool = &plan.pools[0];
        assert_eq!((pool.name.as_str(), pool.algorithm), ("main", Algorithm::LeastConnections));
        let names: Vec<&str> = pool.backends.iter().map(|backend| backend.name.as_str()).collect();
        assert_eq!(names, ["b1", "big", "b3"]);
        assert_eq!(pool.backends[1].weight, 3);
    }

    #[test]
    fn errors_name_the_flag() {
        for (listen, backend, algorithm, expected) in [
            (
                "80",
                "x:99999",
                None,
                "--backend \"x:99999\": port 99999 is out of range (1 to 65535)",
            ),
            ("0", "x:80", None, "--listen \"0\": port 0 is out of range (1 to 65535)"),
            (
                "80",
                "x:80,weight=300",
                None,
                "--backend \"x:80,weight=300\": weight: 300 is out of range (0 to 256)",
            ),
            (
                "80",
                "x:80",
                Some("round-robin"),
                "--algorithm \"round-robin\": \"round-robin\" is unknown (did you mean \
                 \"round_robin\"? choices: round_robin, least_connections, p2c, random, \
                 source_hash, peak_ewma, first)",
            ),
            (
                "127.0.0.1:80",
                "127.0.0.1:80",
                None,
                "--backend \"127.0.0.1:80\": 127.0.0.1:80 is listener \"main\" itself, which would \
                 connect to itself (name the backend behind it)",
            ),
        ] {
            assert_eq!(one_line(&[listen], &[backend], algorithm), Err(expected.to_owned()));
        }
        let message = one_line(&["80"], &["x:80,wieght=3"], None).expect_err("a misspelt option");
        assert!(message.contains("did you mean \"weight\"?"), "{message}");
        let message = one_line(&[], &["x:80"], None).expect_err("no listener");
        assert!(message.contains("--listen"), "{message}");
    }
}
