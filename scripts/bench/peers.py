"""The peers: what each is called, and how it is configured and started.

Every peer has three fronts with the same ports behind them: `http` (three nginx ports, in turn),
`bulk` (one iperf3 server) and `check` (the comparison of bytes). Each is set up in plain TCP mode as
its own manual has it for this kind of work: no logs, no statistics, no health checks, long timeouts.
"""

import collections
import json
import os
import subprocess

from bench import fetch
from bench.backends import nginx_user

Front = collections.namedtuple("Front", "name port backends")
Plan = collections.namedtuple("Plan", "fronts workers descriptors folder evenkeel")
Plan.__doc__ = "What a configuration is made from; `descriptors` is the limit on open files."
Setup = collections.namedtuple("Setup", "files command env")
Setup.__doc__ = "Configuration files (name to text), the command, and variables for it."
Peer = collections.namedtuple("Peer", "name family about configure descriptors", defaults=(2,))
Peer.__doc__ = """`family` is the program, `about` its mode in words, `configure` makes a Setup of a
Plan, `descriptors` is how many an idle connection holds."""


class Missing(Exception):
    """The peer's program is not to be had here; the text says why."""


def evenkeel(poller="epoll", zero_copy="auto", defer=False):
    def configure(plan):
        lines = [
            f"workers: {plan.workers}",
            f"poller: {poller}",
            f"zero_copy: {zero_copy}",
            "admin: {socket: off, http: off}",
            "log: {level: warn, access: off}",
            "listeners:",
        ]
        accept = ", defer_accept: true" if defer else ""
        for front in plan.fronts:
            lines.append(f'  - {{name: {front.name}, bind: "127.0.0.1:{front.port}", '
                         f"pool: {front.name}{accept}}}")
        lines.append("pools:")
        for front in plan.fronts:
            backends = ", ".join(f'"127.0.0.1:{port}"' for port in front.backends)
            lines += [f"  - name: {front.name}", "    algorithm: round_robin",
                      "    health_check: {type: off}", f"    backends: [{backends}]"]
        return Setup({"evenkeel.yaml": "\n".join(lines) + "\n"},
                     [plan.evenkeel, "run", "-c", f"{plan.folder}/evenkeel.yaml"], {})
    return configure


def haproxy(tuning=(), options=(), bind=""):
    def configure(plan):
        # A pipe is two descriptors, a session two more; HAProxy refuses to start beyond the limit.
        pipes = min(1000, plan.descriptors // 20) if options else 0
        connections = min(50_000, (plan.descriptors - 2 * pipes - 300) // 2)
        lines = ["global", f"  nbthread {plan.workers}", f"  maxconn {connections}",
                 "  profiling.tasks off", *(f"  {line}" for line in tuning)]
        if pipes:
            lines.append(f"  maxpipes {pipes}")
        lines += ["defaults", "  mode tcp", f"  maxconn {connections}", "  balance roundrobin",
                  "  option tcp-smart-accept", "  option tcp-smart-connect",
                  *(f"  option {option}" for option in options),
                  "  timeout connect 10s", "  timeout client 1h", "  timeout server 1h"]
        for front in plan.fronts:
            lines += [f"listen {front.name}",
                      f"  bind 127.0.0.1:{front.port} shards by-thread {bind}".rstrip()]
            lines += [f"  server s{place} 127.0.0.1:{port}"
                      for place, port in enumerate(front.backends)]
        return Setup({"haproxy.cfg": "\n".join(lines) + "\n"},
                     ["haproxy", "-db", "-f", f"{plan.folder}/haproxy.cfg"], {})
    return configure


def nginx(buffer="16k"):
    def configure(plan):
        lines = [line for line in (load_stream_module(), nginx_user()) if line]
        lines += [
            "daemon off;", f"pid {plan.folder}/nginx.pid;", "error_log stderr error;",
            f"worker_processes {plan.workers};", f"worker_rlimit_nofile {plan.descriptors};",
            f"events {{ worker_connections {plan.descriptors - 200}; multi_accept on; }}",
            "stream {", "  access_log off;", f"  proxy_buffer_size {buffer};",
            "  proxy_connect_timeout 10s; proxy_timeout 1h;",
        ]
        for front in plan.fronts:
            servers = " ".join(f"server 127.0.0.1:{port};" for port in front.backends)
            zone = f"zone {front.name} 64k; " if plan.workers > 1 else ""
            lines += [f"  upstream {front.name} {{ {zone}{servers} }}",
                      f"  server {{ listen 127.0.0.1:{front.port} reuseport backlog=4096; "
                      f"proxy_pass {front.name}; }}"]
        lines.append("}")
        return Setup({"nginx.conf": "\n".join(lines) + "\n"},
                     ["nginx", "-p", plan.folder, "-c", f"{plan.folder}/nginx.conf"], {})
    return configure


def load_stream_module():
    """The line that loads nginx's stream module, or "" where it is compiled in."""
    built = subprocess.run(["nginx", "-V"], capture_output=True, text=True, check=True).stderr
    options = built.split()
    if "--with-stream" in options:
        return ""
    folders = [option.partition("=")[2] for option in options
               if option.startswith("--modules-path=")]
    for folder in folders:
        if os.path.exists(f"{folder}/ngx_stream_module.so"):
            return f"load_module {folder}/ngx_stream_module.so;"
    raise Missing("nginx has no stream module here (Debian: libnginx-mod-stream)")


def envoy(plan):
    def address(port):
        return {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}

    def listener(front):
        proxy = {
            "@type": "type.googleapis.com/"
                     "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": front.name, "cluster": front.name, "idle_timeout": "3600s",
        }
        filters = [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]
        return {"name": front.name, "enable_reuse_port": True, **address(front.port),
                "filter_chains": [{"filters": filters}]}

    def cluster(front):
        most = {name: 100_000 for name in
                ("max_connections", "max_pending_requests", "max_requests", "max_retries")}
        endpoints = [{"endpoint": address(port)} for port in front.backends]
        return {"name": front.name, "type": "STATIC", "lb_policy": "ROUND_ROBIN",
                "connect_timeout": "10s", "circuit_breakers": {"thresholds": [most]},
                "load_assignment": {"cluster_name": front.name,
                                    "endpoints": [{"lb_endpoints": endpoints}]}}

    resources = {"listeners": [listener(front) for front in plan.fronts],
                 "clusters": [cluster(front) for front in plan.fronts]}
    text = json.dumps({"static_resources": resources}, indent=1) + "\n"
    return Setup({"envoy.json": text},
                 [fetch.program("envoy"), "-c", f"{plan.folder}/envoy.json", "--log-level", "error",
                  "--concurrency", str(plan.workers), "--disable-hot-restart"], {})


def traefik(plan):
    points = {front.name: {"address": f"127.0.0.1:{front.port}"} for front in plan.fronts}
    static = {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "log": {"level": "ERROR"}, "entryPoints": points,
        "providers": {"file": {"filename": f"{plan.folder}/routes.json", "watch": False}},
    }
    routers = {front.name: {"entryPoints": [front.name], "rule": "HostSNI(`*`)",
                            "service": front.name} for front in plan.fronts}
    services = {
        front.name: {"loadBalancer": {"servers": [{"address": f"127.0.0.1:{port}"}
                                                  for port in front.backends]}}
        for front in plan.fronts
    }
    # JSON is YAML, and Traefik reads YAML.
    files = {"traefik.yaml": static, "routes.json": {"tcp": {"routers": routers,
                                                             "services": services}}}
    return Setup({name: json.dumps(tree, indent=1) + "\n" for name, tree in files.items()},
                 [fetch.program("traefik"), f"--configFile={plan.folder}/traefik.yaml"],
                 {"GOMAXPROCS": str(plan.workers)})


def sozu(plan):
    connections = (plan.descriptors - 500) // SOZU_DESCRIPTORS
    lines = [
        f'command_socket = "{plan.folder}/sozu.sock"', f"worker_count = {plan.workers}",
        "worker_automatic_restart = false", f"max_connections = {connections}",
        f"max_buffers = {2 * connections}", "buffer_size = 16393",
        "splice_pipe_capacity_bytes = 262144", 'log_level = "error"', 'log_target = "stdout"',
        "activate_listeners = true",
    ]
    for front in plan.fronts:
        lines += ["[[listeners]]", f'address = "127.0.0.1:{front.port}"', 'protocol = "tcp"',
                  "front_timeout = 3600", "back_timeout = 3600"]
    for front in plan.fronts:
        backends = ", ".join(f'{{ address = "127.0.0.1:{port}" }}' for port in front.backends)
        lines += [f"[clusters.{front.name}]", 'protocol = "tcp"', 'load_balancing = "ROUND_ROBIN"',
                  f'frontends = [ {{ address = "127.0.0.1:{front.port}" }} ]',
                  f"backends = [ {backends} ]"]
    return Setup({"sozu.toml": "\n".join(lines) + "\n"},
                 [fetch.program("sozu"), "start", "-c", f"{plan.folder}/sozu.toml"], {})


SOZU_DESCRIPTORS = 6  # with its splice feature a session keeps two pipes
SPLICE = ("splice-request", "splice-response")
PIPES = ("tune.pipesize 524288",)

PEERS = {peer.name: peer for peer in (
    Peer("evenkeel", "evenkeel", "poller: epoll", evenkeel()),
    Peer("evenkeel-uring", "evenkeel", "poller: io_uring", evenkeel("io_uring")),
    Peer("evenkeel-defer", "evenkeel", "epoll, defer_accept", evenkeel(defer=True)),
    Peer("evenkeel-uring-defer", "evenkeel", "io_uring, defer_accept",
         evenkeel("io_uring", defer=True)),
    Peer("haproxy", "haproxy", "copies, 16 KiB buffers", haproxy()),
    Peer("haproxy-auto", "haproxy", "splice-auto, pipes of 512 KiB",
         haproxy(PIPES, ("splice-auto",))),
    Peer("haproxy-splice", "haproxy", "splice-request and -response, pipes of 512 KiB",
         haproxy(PIPES, SPLICE)),
    Peer("haproxy-128k", "haproxy", "copies, 128 KiB buffers", haproxy(("tune.bufsize 131072",))),
    Peer("haproxy-defer", "haproxy", "copies, bind with defer-accept",
         haproxy(bind="defer-accept")),
    Peer("nginx", "nginx", "stream, 16 KiB buffers", nginx()),
    Peer("nginx-64k", "nginx", "stream, 64 KiB buffers", nginx("64k")),
    Peer("envoy", "envoy", "tcp_proxy", envoy),
    Peer("traefik", "traefik", "TCP router", traefik),
    Peer("sozu", "sozu", "TCP, splice, pipes of 256 KiB", sozu,
         SOZU_DESCRIPTORS),
)}
BY_FLAG = ("envoy", "traefik", "sozu")
DEFAULT = tuple(name for name in PEERS if name not in BY_FLAG)


def start(lab, setup, folder=None):
    """Writes the files, starts the program on the proxy's CPU; the caller waits for its ports."""
    for name, text in setup.files.items():
        with open(f"{folder or lab.folder}/{name}", "w") as file:
            file.write(text)
    return lab.start(setup.command, lab.proxy_cpu, setup.env)
