"""What clients do to a peer: wrk, iperf3, idle connections, and the comparison of bytes."""

import json
import os
import re
import select
import socket
import time

from bench.lab import poll

GIB = 1 << 30
PATIENCE = 30  # seconds beyond a load's own length until it is given up
UNITS_US = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}


def wrk(lab, url, connections, seconds, close=False):
    """One run of wrk with one thread: the units of work done, and how it went."""
    command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--latency"]
    if close:
        command += ["-H", "Connection: close"]
    code, stdout, stderr = lab.run([*command, url], seconds + PATIENCE, lab.load_cpu)
    if code != 0:
        return failed(f"wrk ended with {code}: {stderr or stdout}")
    return parse_wrk(stdout)


def parse_wrk(text):
    """wrk's own report as numbers; latencies in microseconds."""
    total = re.search(r"(\d+) requests in ([\d.]+)([a-z]+),", text)
    if not total:
        return failed(f"wrk said: {text}")
    errors = []
    sockets = re.search(r"Socket errors: (.*)", text)
    if sockets:
        errors.append(f"socket errors: {sockets.group(1)}")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    if refused:
        errors.append(f"{refused.group(1)} answers that were not 2xx")
    latency = dict(re.findall(r"^\s+(\d+)%\s+([\d.]+[a-z]+)$", text, re.MULTILINE))
    return {
        "units": int(total.group(1)),
        "seconds": microseconds(total.group(2) + total.group(3)) / 1e6,
        "errors": errors,
        **{f"p{rank}_us": microseconds(latency[rank])
           for rank in ("50", "90", "99") if rank in latency},
    }


def microseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()
    return float(number) * UNITS_US[unit]


def iperf(lab, port, streams, down, seconds):
    """One run of iperf3, which sends with sendfile and so costs its side little."""
    command = ["iperf3", "-c", "127.0.0.1", "-p", str(port), "-Z", "-J",
               "-P", str(streams), "-t", str(seconds)]
    if down:
        command.append("-R")
    code, stdout, stderr = lab.run(command, seconds + PATIENCE, lab.load_cpu)
    if code is None:
        return failed("iperf3 did not end")
    return parse_iperf(stdout or stderr)


def parse_iperf(text):
    """iperf3's JSON: what arrived, in GiB."""
    try:
        answer = json.loads(text)
    except ValueError:
        return failed(f"iperf3 said: {text}")
    if "error" in answer:
        return failed(f"iperf3: {answer['error']}")
    received = answer["end"]["sum_received"]
    return {"units": received["bytes"] / GIB, "seconds": received["seconds"], "errors": []}


def failed(why):
    return {"units": 0, "seconds": 0, "errors": [" ".join(why.split())[:300]]}


class IdleClients:
    """Connections that made one small request each and now say nothing; use it in a `with`."""

    def __init__(self, port):
        self.port = port
        self.sockets = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.sockets:
            client.close()

    def add(self, count):
        for _ in range(count):
            try:
                client = socket.create_connection(("127.0.0.1", self.port), timeout=10)
                self.sockets.append(client)
                client.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
                read_reply(client)
            except OSError as error:
                place = len(self.sockets)
                raise ConnectionError(f"connection {place} of port {self.port}: {error}") from error


def read_reply(client):
    reply = b""
    while True:
        head, end, body = reply.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if end and length and len(body) >= int(length.group(1)):
            return
        more = client.recv(4096)
        if not more:
            raise ConnectionError(f"the reply ends after {len(reply)} bytes")
        reply += more


class ByteCheck:
    """Sends a body through a peer in each direction and compares every byte.

    Both ends are in this process: a listening socket stands in for the backend.
    """

    def __init__(self, size=4 << 20):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.bodies = [os.urandom(size), os.urandom(size)]

    def through(self, port, seconds=20):
        """None, or what went wrong."""
        try:
            ends = poll(seconds, lambda: self.connected(port), interval=0.05)
            if not ends:
                return "no connection gets through to a backend"
            with ends[0] as client, ends[1] as backend:
                return (carry("up", client, backend, self.bodies[0], seconds)
                        or carry("down", backend, client, self.bodies[1], seconds))
        except OSError as error:
            return f"byte comparison: {error}"

    def connected(self, port):
        """Both ends of one connection through the peer; None where it does not come to be soon:
        Traefik listens before it knows where to, and forgets who came by then."""
        try:
            client = socket.create_connection(("127.0.0.1", port), timeout=1)
        except OSError:
            return None
        # A peer that defers accepting waits for the first bytes, and these tell the connection from
        # an earlier one that only now gets through.
        greeting = os.urandom(8)
        try:
            client.sendall(greeting)
            self.listener.settimeout(1)
            while True:
                backend = self.listener.accept()[0]
                backend.settimeout(1)
                if backend.recv(8, socket.MSG_WAITALL) == greeting:
                    return client, backend
                backend.close()
        except OSError:
            client.close()
            return None


def carry(way, source, target, body, seconds):
    """Moves a body from one socket to another in one thread; None, or how it differs."""
    deadline = time.monotonic() + seconds
    source.setblocking(False)
    target.setblocking(False)
    sent, received = 0, bytearray()
    while len(received) < len(body):
        if time.monotonic() > deadline:
            return f"{way}: stalled after {len(received)} of {len(body)} bytes"
        writers = [source] if sent < len(body) else []
        readable, writable, _ = select.select([target], writers, [], 1)
        if writable:
            sent += source.send(memoryview(body)[sent:sent + (1 << 18)])
        if readable:
            part = target.recv(1 << 18)
            if not part:
                return f"{way}: ended after {len(received)} of {len(body)} bytes"
            received += part
    if received != body:
        place = next(at for at, (one, two) in enumerate(zip(received, body)) if one != two)
        return f"{way}: differs at byte {place}"
    return None
