"""`make soak`: many visitors at once, on a server of their own; ends with tables and a line of JSON.

Exit status 1 where a law is broken: an error, an acknowledged edit that is gone, memory that grows.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests import postgresql
from tests.planted import planted_collection
from tests.soak.kept import Edit, problems, read_journal
from tests.soak.report import Found, as_json, as_table
from tests.soak.watching import Process, look

ROOT = Path(__file__).parents[2]
JOURNEYS = ROOT / "tests/soak/journeys.py"
MARK = 120.0  # seconds after which a server should have all that it keeps
SECONDS_TO_START = 180
GROWTH = 1.05  # of memory from the mark to the end, and
MORE = 16.0  # MiB
MORE_FILES = 4
EDITORS = 0.1  # of the visitors


@dataclass
class Server:
    """`saefari serve` as anybody starts it, with its log in a file."""

    home: Path
    workers: int
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    url: str = ""
    numbers: str = ""

    @property
    def log(self) -> Path:
        return self.home / "log"

    def start(self) -> None:
        port = _free_port()
        began = self.log.stat().st_size if self.log.exists() else 0
        environment = {**self.environment, "SAEFARI_METRICS_PORT": str(port)}
        self.numbers = f"http://127.0.0.1:{port}/metrics"
        with self.log.open("ab") as log:
            command = [sys.executable, "-u", "-m", "app.cli", "serve", "--port", "0"]
            self.process = subprocess.Popen(
                [*command, "--workers", str(self.workers)], cwd=ROOT, env=environment, stdout=log, stderr=log
            )
        self.url = _until(lambda: re.search(r"http://[\d.:]+", self.log.read_text()[began:]))[0]
        _until(self._is_ready)

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(httpx2.TransportError):
            answer = httpx2.get(f"{self.url}/ready", timeout=10)
            return answer.status_code == 200 and "loading" not in answer.json()["encoders"].values()
        return False

    def look(self) -> list[Process]:
        assert self.process is not None
        return look(self.process.pid)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)


def _until(find: Any, seconds: float = SECONDS_TO_START) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)
    return found


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


# --- before -------------------------------------------------------------------------------------------


def environment_of(home: Path, database: str) -> dict[str, str]:
    """Settings of the server: those of a public one, behind a proxy that says who asks; rates are off."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SAEFARI_")}
    chosen = {
        "SAEFARI_HOME": str(home), "SAEFARI_EDITING": "1", "SAEFARI_LOG_FORMAT": "json",
        "SAEFARI_TRUSTED_PROXIES": "127.0.0.1", "SAEFARI_DATABASE_URL": database, "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    return {**kept, **chosen}


def saefari(environment: dict[str, str], *words: str) -> str:
    command = [sys.executable, "-m", "app.cli", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def tokens(environment: dict[str, str], n: int) -> dict[str, str]:
    """A real token for each editor."""
    names = [f"editor-{at:02}" for at in range(n)]
    with ThreadPoolExecutor(2) as pool:
        made = pool.map(lambda name: saefari(environment, "token", "create", name, "--expires", "1d"), names)
        return dict(zip(names, made, strict=True))


def places(url: str) -> list[dict[str, Any]]:
    """Where to go: of each collection what its lists say."""
    found = []
    for collection in httpx2.get(f"{url}/ready", timeout=60).json()["encoders"]:
        overview = httpx2.get(f"{url}/{collection}", timeout=60).text
        sae = re.findall(rf'"/{collection}/([^/"]+)/features"', overview)[0]
        rows = httpx2.get(f"{url}/{collection}/{sae}/features.json", timeout=60).json()["rows"]
        page = httpx2.get(f"{url}/{collection}/{sae}/features/{rows[0]['latent']}", timeout=60).text
        found.append({
            "collection": collection, "sae": sae, "latents": [row["latent"] for row in rows],
            "words": [row["label"]["text"] for row in rows if row["label"]["text"]],
            "documents": sorted(set(re.findall(rf'"(/{collection}/documents/[^"?#]+)"', page))),
        })  # fmt: skip
    return found


# --- meanwhile ----------------------------------------------------------------------------------------


def visit(server: Server, folder: Path, users: int, seconds: float, pace: float) -> tuple[Any, ...]:
    """Send the visitors; the server at the mark and at the end, and what the client took."""
    command = [
        sys.executable, "-m", "locust", "--headless", "--locustfile", str(JOURNEYS), "--host", server.url,
        "--users", str(users), "--spawn-rate", str(max(1, users / 10)), "--run-time", f"{seconds:.0f}s",
        "--stop-timeout", "10", "--only-summary", "--loglevel", "WARNING", "--exit-code-on-error", "0",
        "--plan", str(folder / "plan.json"), "--pace", str(pace),
    ]  # fmt: skip
    with (folder / "locust.log").open("wb") as log:
        client = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=log
        )
    began = time.monotonic()
    mark: list[Process] = []
    end, load = mark, mark
    while client.poll() is None:
        lasted = time.monotonic() - began
        if not mark and lasted >= min(MARK, seconds / 2):
            mark = server.look()
        if lasted < seconds:
            end, load = server.look(), look(client.pid, "client") or load
        time.sleep(min(2.0, seconds / 20))
    assert (folder / "answers.json").exists(), (folder / "locust.log").read_text()[-4000:]
    return mark, end, load[0]


def server_statuses(numbers: str) -> dict[str, int]:
    """What the server says that it answered, by status."""
    text = httpx2.get(numbers, timeout=60).text
    counted = re.findall(r'saefari_request_seconds_count\{[^}]*status="(\w+)"\} ([\d.]+)', text)
    found: dict[str, int] = {}
    for status, n in counted:
        found[status] = found.get(status, 0) + int(float(n))
    return found


# --- after --------------------------------------------------------------------------------------------


def shown_again(url: str, edits: list[Edit]) -> list[str]:
    """Ask the server for everything that was labelled: every acknowledged label is in its history."""
    stored = [edit for edit in edits if edit.action == "label" and edit.state == "stored"]
    pages: dict[str, set[str]] = {}
    with httpx2.Client(base_url=url, timeout=60) as client:
        for thing in {edit.thing for edit in stored}:
            kind, collection, sae, key = thing.split(" ")
            at = "families" if kind == "family" else "features"
            said = client.get(f"/{collection}/{sae}/{at}/{key}.json").json()["authored"]["label"]
            pages[thing] = {each["text"] for each in said["history"]}
    return [
        f"not shown after a restart: {e.after}"
        for e in stored
        if e.after and e.after["text"] not in pages[e.thing]
    ]


def judge(found: Found) -> list[str]:
    """A sentence for each law that is broken."""
    broken = [f"error: {each}" for each in found.said["failures"]]
    broken += [f"the log says: {line}" for line in found.log[:5]]
    broken += [
        f"the server answered {status} {n} times" for status, n in found.statuses.items() if status == "500"
    ]
    at_mark, at_end = (sum(each.memory for each in part) for part in (found.mark, found.end))
    if at_end > at_mark * GROWTH + MORE:
        broken.append(f"memory grew from {at_mark:.0f} to {at_end:.0f} MiB")
    for what, early, late in (
        ("descriptors", sum(each.files for each in found.mark), sum(each.files for each in found.end)),
        (
            "connections",
            sum(each.sockets for each in found.before),
            sum(each.sockets for each in found.after),
        ),
    ):
        if late > early + MORE_FILES * found.workers:
            broken.append(f"{what} grew from {early} to {late}")
    if not any(edit.state == "stored" for edit in found.edits):
        broken.append("nothing was stored")
    return broken


def read_log(path: Path) -> list[str]:
    """Lines of the log that should not be there."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line[:500] for line in lines if re.search(r'"level": ?"(error|critical)"|Traceback', line)]


def size_of(home: Path) -> int:
    return sum(path.stat().st_size for path in home.glob("authored.sqlite*"))


# --- the whole ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def home_of(given: Path | None) -> Iterator[Path]:
    """A home of our own with the collections of another one; without one, the planted collection."""
    folder = Path(tempfile.mkdtemp(prefix="saefari-soak-"))
    try:
        if given is not None and (given / "collections").is_dir():
            (folder / "collections").symlink_to((given / "collections").resolve())
        else:
            planted_collection(folder, n=600, steps=500, ks=(4,))
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def database_of(kind: str) -> Iterator[str]:
    """The address of an empty database; "" for SQLite in the home."""
    if kind == "sqlite":
        yield ""
        return
    programs = postgresql.find_programs()
    assert programs is not None, postgresql.MISSING
    server = postgresql.Server(programs)
    try:
        yield server.new_database()
    finally:
        server.remove()


def soak(
    home: Path,
    database: str = "",
    *,
    workers: int = 1,
    users: int = 200,
    seconds: float = 600,
    pace: float = 1,
) -> Found:
    """One run in this home."""
    environment = environment_of(home, database)
    saefari(environment, "db", "upgrade")
    editors = tokens(environment, max(2, round(users * EDITORS)))
    server = Server(home, workers, environment)
    try:
        server.start()
        (home / "plan.json").write_text(json.dumps({"tokens": editors, "places": places(server.url)}))
        before = server.look()
        mark, end, client = visit(server, home, users, seconds, pace)
        edits = read_journal(home / "journal.jsonl")
        time.sleep(1)
        statuses, after = server_statuses(server.numbers), server.look()
        url = database or f"sqlite:///{home / 'authored.sqlite'}"
        lost, size = problems(url, edits), size_of(home)
        server.stop()
        server.start()
        lost += [*problems(url, edits), *shown_again(server.url, edits)]
    finally:
        server.stop()
    said = json.loads((home / "answers.json").read_text())
    kind = "postgresql" if database else "sqlite"
    found = Found(
        workers,
        users,
        seconds,
        kind,
        said,
        edits,
        before,
        mark,
        end,
        after,
        client,
        statuses,
        size,
        read_log(server.log),
    )
    found.broken = [*judge(found), *lost]
    return found


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--home", type=Path, default=ROOT / ".saefari", help="whose collections are served")
    options.add_argument("--workers", type=int, default=1)
    options.add_argument("--users", type=int, default=200)
    options.add_argument("--seconds", type=float, default=600)
    options.add_argument("--pace", type=float, default=1.0, help="0.5: everybody thinks half as long")
    options.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    asked = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of the servers' ends
    with home_of(asked.home) as home, database_of(asked.database) as url:
        found = soak(
            home, url, workers=asked.workers, users=asked.users, seconds=asked.seconds, pace=asked.pace
        )
    print(as_table(found))
    print(json.dumps(as_json(found)))
    return 1 if found.broken else 0


if __name__ == "__main__":
    sys.exit(main())
