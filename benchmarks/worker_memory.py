"""Memory of each process that serves, beside what its arrays would need if nothing were shared.

    python benchmarks/worker_memory.py ~/.saefari --workers 1 2 4 --requests 200

Serves the collections of a home folder with `saefari serve --workers`, asks for pages of every kind, and
reads the proportional set size of each process: memory that three processes share counts a third in each.
"Own" is what no other process has; the floor is the size of the memory-mapped files in the collections'
folders, held once by all processes together. Without a folder, a small collection is made. A worker is ready
when `/ready` says so, its encoder loaded. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.steer_latency import make_collection, vectors
from sae_core import artifact

ROOT = Path(__file__).parent.parent
SCRIPT = "import sys; from app.cli import main; sys.argv[0] = 'saefari'; main()"
KINDS = {"Pss": "pss", "Private_Dirty": "own", "Pss_Anon": "anonymous", "Pss_File": "files"}
PAGES = (
    "",
    "/features",
    "/families",
    "/features?q=a",
    "/search?q=galaxies",
    "/search?q=graphs",
    "/features/1",
)
MAPPED = {".npy", ".faiss", ".sqlite", ".safetensors"}
SECONDS_TO_START = 180.0


@contextmanager
def serving(home: Path, n_workers: int) -> Iterator[tuple[subprocess.Popen[bytes], str, float, float]]:
    """A server, its address, and the seconds until it lived and until all was ready."""
    began = time.monotonic()
    options = ["--home", str(home), "--port", "0", "--workers", str(n_workers)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", SCRIPT, "serve", *options], cwd=ROOT, env=environment, stdout=log
        )
        try:
            url = _address(Path(log.name))
            lived = _answers(f"{url}/live", began)
            yield process, url, lived, _answers(f"{url}/ready", began)
        finally:
            process.terminate()
            process.wait(60)


def _address(log: Path) -> str:
    deadline = time.monotonic() + SECONDS_TO_START
    while (found := re.search(r"http://[\d.:]+", log.read_text())) is None:
        if time.monotonic() > deadline:
            raise TimeoutError("The server did not say where it is.")
        time.sleep(0.01)
    return found.group()


def _answers(url: str, began: float) -> float:
    """Seconds since `began` until the address answers with 200."""
    while time.monotonic() < began + SECONDS_TO_START:
        try:
            if httpx2.get(url, timeout=SECONDS_TO_START).is_success:
                return time.monotonic() - began
        except httpx2.TransportError:
            pass
        time.sleep(0.02)
    raise TimeoutError(f"{url} did not answer.")


def warm_up(url: str, home: Path, n_requests: int) -> None:
    """Pages of every kind of every SAE, each over a connection of its own, so that all workers get some."""
    saes = [
        f"/{folder.name}/{entry['name']}"
        for folder in artifact.collections(home)
        for entry in artifact.load_manifest(artifact.current(folder))["saes"]
    ]
    addresses = [f"{url}{sae}{page}" for page in PAGES for sae in saes]
    for at in range(n_requests):
        httpx2.get(addresses[at % len(addresses)], timeout=60).raise_for_status()


def memory(process: int) -> dict[str, float]:
    """MiB of a process by kind, from the system."""
    text = Path(f"/proc/{process}/smaps_rollup").read_text()
    sizes = dict(re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE))
    return {kind: int(sizes[name]) / 1024 for name, kind in KINDS.items()}


def workers_of(process: int, n_workers: int) -> list[int]:
    """The processes that answer: the server itself where it is the only one."""
    if n_workers == 1:
        return [process]
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(each) for each in children if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]


def measure(home: Path, n_workers: int, n_requests: int) -> dict[str, Any]:
    with serving(home, n_workers) as (process, url, lived, ready):
        warm_up(url, home, n_requests * n_workers)
        found = [memory(worker) for worker in workers_of(process.pid, n_workers)]
    each = {kind: round(statistics.mean(one[kind] for one in found), 1) for kind in KINDS.values()}
    total = round(sum(one["pss"] for one in found), 1)
    return {
        "workers": len(found),
        "live_s": round(lived, 2),
        "ready_s": round(ready, 2),
        "total": total,
        **each,
    }


def floor(home: Path) -> float:
    """MiB of the files that servers map."""
    folders = [artifact.current(folder) for folder in artifact.collections(home)]
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in MAPPED]
    return round(sum(path.stat().st_size for path in files) / 2**20, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("home", nargs="?", type=Path, help="a home folder; without it one is made")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--requests", type=int, default=200, help="of each worker before it is measured")
    parser.add_argument("--documents", type=int, default=20_000, help="of a collection that is made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        home = options.home or Path(made)
        if options.home is None:
            make_collection(home, vectors(options.documents))
        rows = [measure(home, n_workers, options.requests) for n_workers in options.workers]
        mapped = floor(home)
    print("| workers | live, s | ready, s | PSS in all, MiB | PSS of each | its own | anonymous | of files |")
    print("|" + "---:|" * 8)
    for row in rows:
        print("| " + " | ".join(f"{value:,}" for value in row.values()) + " |")
    first, last = rows[0], rows[-1]
    extra = (last["total"] - first["total"]) / max(last["workers"] - first["workers"], 1)
    print(f"Mapped files: {mapped:,} MiB, once for all. Another worker takes {extra:,.0f} MiB.")
    print(json.dumps({"mapped_mib": mapped, "extra_mib": round(extra, 1), "rows": rows}))


if __name__ == "__main__":
    main()
