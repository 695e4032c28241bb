"""How a server ends that is told to, and a command that is interrupted before it has begun."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.app.served import Planted

ROOT = Path(__file__).parents[2]
SCRIPT = "import sys; print('begun', flush=True); from app.start import main; sys.argv[0] = 'saefari'; main()"


@contextmanager
def started(*words: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """`saefari` with these words, in a process group of its own, as a terminal would start it."""
    chosen = {f"SAEFARI_{name.upper()}": value for name, value in settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", SCRIPT, *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **chosen},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def asked(port: int, path: str) -> socket.socket:
    """A request by a client that has read nothing of its answer yet."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(60)
    client.connect(("127.0.0.1", port))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert client.recv(15) == b"HTTP/1.1 200 OK"
    return client


def test_a_server_that_is_stopped_ends_well(planted: Planted) -> None:
    with started("serve", "--home", str(planted.home), "--port", "0") as process:
        assert process.stdout is not None
        port = int(re.findall(r"http://127.0.0.1:(\d+)/", process.stdout.readline())[0])
        with asked(port, "/static/app.css") as late:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            answer = b""
            while part := late.recv(1 << 16):
                answer += part
            assert len(answer.partition(b"\r\n\r\n")[2]) == (ROOT / "static/app.css").stat().st_size
        assert process.wait(30) == 0
        rest = process.stdout.read()
    assert "Traceback" not in rest
    assert "ERROR" not in rest.upper()


@pytest.mark.parametrize("words", [("serve", "--workers", "2"), ("doctor",)], ids=" ".join)
@pytest.mark.parametrize("seconds", [0.02, 0.3, 1.5])
def test_what_is_interrupted_early_ends_without_a_traceback(
    words: tuple[str, ...], seconds: float, tmp_path: Path
) -> None:
    port = ("--port", "0") if words[0] == "serve" else ()
    with started(*words, "--home", str(tmp_path), *port) as process:
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert "Traceback" not in said
    assert "KeyboardInterrupt" not in said
    # Done already, stopped, stopped by the parent's own end, or while Python took itself apart.
    assert process.returncode in {0, 1, 130, -signal.SIGINT}
