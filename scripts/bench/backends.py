"""What stands behind every peer: one nginx process over HTTP, and an iperf3 server."""

import os

from bench.lab import free_ports

REPLY = "evenkeel " * 11 + "\n"  # 100 bytes


def start_nginx(lab, files, ports=1):
    """One nginx process: a 100-byte reply at `/`, the files (name to size) by sendfile from tmpfs.

    Returns its ports and the text of its configuration.
    """
    folder = lab.folder
    for name, size in files.items():
        with open(f"{folder}/{name}", "wb") as file:
            file.write(os.urandom(size))
    ports = free_ports(ports)
    listens = " ".join(f"listen 127.0.0.1:{port} backlog=4096;" for port in ports)
    reply = REPLY.replace("\n", "\\n")
    text = (
        "daemon off; master_process off;\n"
        f"pid {folder}/backend.pid; error_log stderr warn; {nginx_user()}\n"
        f"worker_rlimit_nofile {lab.descriptors};\n"
        f"events {{ worker_connections {lab.descriptors - 200}; }}\n"
        "http {\n"
        "  access_log off; sendfile on; open_file_cache max=100;\n"
        "  keepalive_requests 1000000000; keepalive_timeout 1h;\n"
        f"  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;\n"
        f"  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n"
        f"  server {{\n    {listens}\n    root {folder};\n"
        f"    location = / {{ return 200 \"{reply}\"; }}\n  }}\n}}\n"
    )
    config = lab.write("backend.conf", text)
    process = lab.start(["nginx", "-p", folder, "-c", config], lab.load_cpu)
    lab.await_listening(process, ports)
    return ports, text


def nginx_user():
    """As root, nginx drops to a user who may not read the folder, unless told to stay."""
    return "user root;" if os.geteuid() == 0 else ""


def start_iperf(lab, port):
    process = lab.start(["iperf3", "-s", "-B", "127.0.0.1", "-p", str(port)], lab.load_cpu)
    lab.await_listening(process, [port])
    return process
