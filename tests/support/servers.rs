//! Servers of the distribution, each in a folder of its own, on ports of its own.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::clock::until;
use super::folder::Folder;
use super::ports::{free_port, local};
use super::process::{Process, run};
use super::tools;

/// One nginx process (no master, so it dies at one blow) with three servers that name themselves.
pub struct Nginx {
    process: Process,
    folder: Folder,
    ports: Vec<u16>,
    h2_ports: Vec<u16>,
}

impl Nginx {
    /// Starts `count` HTTP/1.1 servers and as many that speak cleartext HTTP/2.
    pub fn start(count: usize) -> Nginx {
        let folder = Folder::new();
        let ports: Vec<u16> = (0..count).map(|_| free_port()).collect();
        let h2_ports: Vec<u16> = (0..count).map(|_| free_port()).collect();
        std::fs::create_dir(folder.file("www")).expect("the folder is ours");
        let mut servers = String::new();
        for port in &ports {
            servers += &nginx_server(*port, "", &folder);
        }
        for port in &h2_ports {
            servers += &nginx_server(*port, " http2", &folder);
        }
        let user = if tools::is_root() { "user root;" } else { "" };
        let place = folder.path().display();
        let config = folder.write(
            "nginx.conf",
            &format!(
                "daemon off; master_process off; pid {place}/pid; error_log stderr warn; {user}
                events {{ worker_connections 4096; }}
                http {{
                    access_log off; keepalive_requests 100000000; client_max_body_size 0;
                    sendfile on; tcp_nodelay on; reset_timedout_connection on;
                    client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;
                    fastcgi_temp_path {place}/fastcgi; uwsgi_temp_path {place}/uwsgi;
                    scgi_temp_path {place}/scgi;
                    {servers}
                }}\n"
            ),
        );
        let mut command = Command::new(tools::path("nginx"));
        command.arg("-c").arg(config).arg("-p").arg(folder.path());
        let process = Process::start("nginx", &mut command);
        for port in ports.iter().chain(&h2_ports) {
            answers(*port);
        }
        Nginx { process, folder, ports, h2_ports }
    }

    /// The ports that speak HTTP/1.1.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// The ports that speak HTTP/2 without TLS, by prior knowledge.
    pub fn h2_ports(&self) -> &[u16] {
        &self.h2_ports
    }

    /// Where a file served or uploaded under `/files/` is.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.file("www").join(name)
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// A redis without persistence.
pub struct Redis {
    _process: Process,
    _folder: Folder,
    pub port: u16,
}

impl Redis {
    /// Starts one.
    pub fn start() -> Redis {
        let folder = Folder::new();
        let port = free_port();
        let mut command = Command::new(tools::path("redis-server"));
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "no", "--dir"])
            .arg(folder.path());
        let process = Process::start("redis-server", &mut command);
        answers(port);
        Redis { _process: process, _folder: folder, port }
    }
}

/// An iperf3 server.
pub struct Iperf {
    _process: Process,
    pub port: u16,
}

impl Iperf {
    /// Starts one.
    pub fn start() -> Iperf {
        let port = free_port();
        let mut command = Command::new(tools::path("iperf3"));
        command.args(["-s", "--bind", "127.0.0.1", "-p", &port.to_string(), "--forceflush"]);
        let process = Process::start("iperf3 server", &mut command);
        let limit = Duration::from_secs(10);
        process.line("that it listens", limit, |line| line.contains("listening"));
        Iperf { _process: process, port }
    }
}

/// A PostgreSQL with a fresh cluster, trusting everybody on loopback.
pub struct Postgres {
    _process: Process,
    _folder: Folder,
    pub port: u16,
}

impl Postgres {
    /// Makes a cluster and starts the server in it, as the user `postgres` where we are root.
    pub fn start() -> Postgres {
        let folder = Folder::new();
        let data = folder.file("data");
        if tools::is_root() {
            std::fs::create_dir(&data).expect("the folder is ours");
            let mut chown = Command::new(tools::path("chown"));
            run("chown", chown.arg("postgres:").arg(folder.path()).arg(&data), LONG);
        }
        let mut initdb = as_postgres("initdb");
        initdb.arg("-D").arg(&data).args(["-U", "postgres", "--auth=trust", "--no-sync"]);
        run("initdb", initdb.current_dir(folder.path()), LONG);
        let port = free_port();
        let mut command = as_postgres("postgres");
        command
            .arg("-D")
            .arg(&data)
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-c", "fsync=off"])
            .args(["-c", "max_connections=64", "-c", "full_page_writes=off", "-k"])
            .arg(folder.path())
            .current_dir(folder.path());
        let process = Process::start("postgres", &mut command).end_with(Signal::SIGQUIT);
        process.line("that it is open", LONG, |line| line.contains("ready to accept connections"));
        Postgres { _process: process, _folder: folder, port }
    }

    /// A client program aimed at `port`, which may be this server or something in front of it.
    pub fn client(program: &str, port: u16) -> Command {
        let mut command = Command::new(tools::path(program));
        command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port.to_string()]);
        command
    }
}

/// Waits until a connection to `port` succeeds.
pub fn answers(port: u16) {
    until(&format!("an answer on port {port}"), LONG, || {
        TcpStream::connect_timeout(&local(port), Duration::from_secs(1)).ok()
    });
}

fn nginx_server(port: u16, protocol: &str, folder: &Folder) -> String {
    let root = folder.file("www");
    format!(
        "server {{ listen 127.0.0.1:{port}{protocol} backlog=4096;
            location / {{ default_type text/plain; return 200 \"backend {port}\\n\"; }}
            location /files/ {{ alias {root}/; dav_methods PUT; }}
        }}\n",
        root = Path::display(&root)
    )
}

fn as_postgres(program: &str) -> Command {
    let program = tools::path(program);
    if !tools::is_root() {
        return Command::new(program);
    }
    let mut command = Command::new(tools::path("setpriv"));
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
    command
}

const LONG: Duration = Duration::from_secs(60);
