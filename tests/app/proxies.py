"""A real Caddy in front of a server of the tests."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CADDY = shutil.which("caddy")
needs_caddy = pytest.mark.skipif(CADDY is None, reason="caddy is not installed (apt-get install caddy)")


@contextmanager
def caddy(text: str, upstream: int, folder: Path, **environment: str) -> Iterator[int]:
    """Caddy with this file in front of a port; its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    # Without certificates, and on loopback alone: what is before the first block stays as it is.
    text = text.replace("\tadmin off\n", "\tadmin off\n\tdefault_bind 127.0.0.1\n")
    (folder / "Caddyfile").write_text(text, encoding="utf-8")
    environment |= {
        "SITE": f"http://127.0.0.1:{port}",
        "UPSTREAM": f"127.0.0.1:{upstream}",
        "HOME": str(folder),
    }
    command = [str(CADDY), "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 30
        while not is_open(port):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def is_open(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
