"""Several processes behind one address, as `saefari serve --workers` starts them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from sae_core import artifact
from tests.app.served import Planted

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Serving:
    process: subprocess.Popen[bytes]
    url: str
    numbers: str  # where Prometheus reads
    collection: Path

    def workers(self) -> set[int]:
        """The processes that answer."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        names = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children.split()}
        return {pid for pid, name in names.items() if b"spawn_main" in name}


def until(holds: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


@pytest.fixture
def serving(planted: Planted, tmp_path: Path) -> Iterator[Serving]:
    shutil.copytree(planted.home / "collections", tmp_path / "collections")
    script = "import sys; from app.cli import main; sys.argv[0] = 'saefari'; main()"
    options = ["--home", str(tmp_path), "--port", "0", "--workers", "2"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        metrics = free.getsockname()[1]
    chosen = {"SAEFARI_RENEW_SECONDS": "0.1", "SAEFARI_METRICS_PORT": str(metrics)}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **chosen}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", script, "serve", *options],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )
    said = re.compile(rb"http://[\d.:]+")
    until(lambda: said.search((tmp_path / "log").read_bytes()))
    found = said.search((tmp_path / "log").read_bytes())
    assert found is not None
    collection = tmp_path / "collections" / planted.explorer.name
    served = Serving(process, found.group().decode(), f"http://127.0.0.1:{metrics}/metrics", collection)
    try:
        yield served
    finally:
        process.terminate()
        assert process.wait(60) == 0
        assert "Traceback" not in (tmp_path / "log").read_text()


class Reader(threading.Thread):
    """Asks for the overview without a pause; a lost connection is tried once more, as browsers do."""

    def __init__(self, serving: Serving) -> None:
        super().__init__(daemon=True)
        self.url = f"{serving.url}/{serving.collection.name}.json"
        self.answers: list[tuple[int, str]] = []
        self.n_repeated = 0
        self.is_enough = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.is_enough.is_set():
            answer = self._ask()
            if answer is None:
                self.n_repeated += 1
                answer = self._ask()
            self.answers.append((0, "") if answer is None else answer)

    def _ask(self) -> tuple[int, str] | None:
        try:
            answer = httpx2.get(self.url, timeout=60)
        except httpx2.TransportError:
            return None
        return answer.status_code, answer.json()["collection"]["title"]


def test_a_worker_that_is_killed_is_replaced_and_a_generation_reaches_them_all(serving: Serving) -> None:
    reader = Reader(serving)
    until(lambda: len(reader.answers) > 5)
    before = serving.workers()
    assert len(before) == 2
    os.kill(killed := min(before), signal.SIGKILL)
    began = time.monotonic()
    with artifact.locked(serving.collection), artifact.revise(serving.collection) as (_, manifest):
        manifest["title"] = "A new title"
    until(lambda: len(serving.workers() - {killed}) == 2)
    seconds = time.monotonic() - began
    until(lambda: [title for _, title in reader.answers[-20:]] == ["A new title"] * 20)
    reader.is_enough.set()
    reader.join(60)
    assert {status for status, _ in reader.answers} == {200}
    asked = f"{len(reader.answers)} requests, {reader.n_repeated} of them asked twice"
    print(f"{asked}; another worker after {seconds:.1f} s")  # noqa: T201
    numbers = httpx2.get(serving.numbers, timeout=60).text
    counted = r'saefari_request_seconds_count\{route="/\{collection\}[^}]*",status="200"\} ([\d.]+)'
    assert sum(map(float, re.findall(counted, numbers))) >= len(reader.answers)
    assert "saefari_requests_running 0.0" in numbers
