"""Time of a slider move over HTTP, beside an exact scan and the textbook's way of steering.

    python benchmarks/steer_latency.py --documents 420000 --moves 200 --people 20 --seconds 20

A collection of each size is made (real embeddings where SAEFARI_CORPORA has them, continued with noisy
copies; else clustered random vectors) and served by `saefari serve` in a process of its own. Everybody has a
query whose embedding is cached and sets 64 features; one of them moves, after some moves the next one. Each
answer is the block of results with movement, previews, and why one of the documents is there.

The textbook's way is what a move costs in the app of arXiv 2408.00657: the query rebuilt from its latents,
compared with all vectors, and all documents sorted. The floor is the time in which memory gives all vectors
once, which no exact scan beats. Moves, textbook moves and the floor are timed in turn. Then people drag all
at once, each with a connection and a query of his own: pausing 80 ms after each answer as the page does, and
without a pause. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray

from app.catalog import write_catalogue
from sae_core import artifact
from sae_core.checkpoint import read_log
from sae_core.codes import encode_codes
from sae_core.corpus import Document
from sae_core.embed import load_embedder
from sae_core.explorer import FeatureSet
from sae_core.families import coactivate, grow
from sae_core.features import describe
from sae_core.index import VectorIndex
from sae_core.labels import Label
from sae_core.recipe import TrainConfig
from sae_core.sae import SAE
from sae_core.stages import save_metadata
from sae_core.train import train

WIDTH, N_LATENTS, K = 384, 1024, 32
N_SLIDERS = 64
N_DRAGGED = 8  # of them, one after the other
MOVES_OF_A_SLIDER = 25
RUN = 10  # moves in a row, then scans: a scan empties the caches that a drag fills
SCANS = 3
PAUSE = 0.08  # seconds between an answer and the next move, as in static/steer.js
SUBJECTS = ("galaxies", "neurons", "graphs", "proteins", "stars", "markets", "glaciers")
ASPECTS = ("evolution of", "noise in", "models of")
PARTIAL = {"HX-Request": "true", "HX-Request-Type": "partial", "HX-Target": "section#results"}
QUERIES = [f"{aspect} {subject}" for aspect in ASPECTS for subject in SUBJECTS]


def vectors(n: int) -> NDArray[np.float32]:
    """Unit rows (n, 384), real ones first."""
    rng = np.random.default_rng(0)
    folder = Path(os.environ.get("SAEFARI_CORPORA", "../shared/corpora"))
    real = [np.load(path) for path in sorted(folder.glob("arxiv-*.embeddings.npy"))]
    seeds = np.concatenate(real) if real else rng.standard_normal((2000, WIDTH))
    picked = np.arange(n) % len(seeds)
    rows = seeds[picked].astype(np.float32)
    rows[len(seeds) :] += 0.3 * rows.std() * rng.standard_normal(rows[len(seeds) :].shape, dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def make_collection(home: Path, x_MD: NDArray[np.float32]) -> None:
    """A collection of `len(x_MD)` documents with a briefly trained SAE."""
    config = TrainConfig(n_latents=N_LATENTS, k=K, steps=60, batch=512)
    sample = x_MD[: max(2 * N_LATENTS, min(len(x_MD), 20_000))]
    with tempfile.TemporaryDirectory() as work:
        sae = train(sample, x_MD[:500], config, Path(work))
        history = read_log(Path(work))
    codes = encode_codes(sae, x_MD)
    scores = {"n_latents": N_LATENTS, "k": K, "n_train": len(sample), "n_heldout": 500, "fvu_train": 0.0,
              "fvu_heldout": 0.0, "l0": float(K), "n_dead": 0, "n_rare": 0, "n_families": 0, "n_labelled": 0,
              "baselines": []}  # fmt: skip
    labels = [Label(text=f"feature of the benchmark {i}", source="phrases") for i in range(N_LATENTS)]
    name = f"k{K}-n{N_LATENTS}-{sae.fingerprint()[:6]}"
    table, coactivation = describe(sae, codes, x_MD), coactivate(codes)
    space = FeatureSet(name, sae, codes, table, labels, coactivation, grow(coactivation), scores, {}, history)
    documents = [
        Document(
            id=f"d{i}",
            title=f"Document {i} of the benchmark",
            abstract=f"Text {i}. " * 60,
            year=2000 + i % 25,
            venue=f"venue {i % 9}",
            citations=i % 90,
            categories=f"category-{i % 20} category-{i % 7}",
        )
        for i in range(len(x_MD))
    ]
    encoder = load_embedder("minilm")
    manifest = {
        "name": "bench", "title": "Benchmark", "n_documents": len(x_MD), "width": WIDTH,
        "embedder": {"spec": "minilm", "name": encoder.name, "fingerprint": encoder.fingerprint},
        "corpus": {"fingerprint": "", "rejected": {}}, "saes": [space.describe()], "seconds": {},
        "versions": {},
    }  # fmt: skip
    with artifact.draft(home / "collections" / "bench", manifest) as folder:
        VectorIndex.build(x_MD).save(folder / "index.faiss")
        save_metadata(folder / "metadata", documents)
        space.save(folder / "saes" / name)
        write_catalogue(folder / "catalogue.sqlite", documents, [space])


# --- the server, and people who ask it -------------------------------------------------------------


class Server:
    """`saefari serve` on a free port of this machine."""

    def __init__(self, home: Path) -> None:
        command = [sys.executable, "-m", "app.cli", "serve", "--home", str(home), "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().split("http://")[1].split("/")[0]
        self.host, _, port = self.address.rpartition(":")
        self.port = int(port)

    def peak_mib(self) -> dict[str, float]:
        """Memory of the process at its peak, mapped files included, and what now belongs to it alone."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        kib = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB$", status, re.MULTILINE)}
        return {"peak_mib": round(kib["VmHWM"] / 1024, 1), "own_mib": round(kib["RssAnon"] / 1024, 1)}

    def cpu_seconds(self) -> float:
        """Processor time that the process has used: on a busy machine a truer measure than the clock."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        with self.process:  # closes the pipe and waits
            pass


def request(server: Server, path: str, headers: dict[str, str]) -> bytes:
    """A request as it goes over the wire."""
    fields = {"Host": server.address, **headers}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode()


def length_of(head: bytes) -> int:
    """How many bytes follow the head of an answer."""
    return int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])


class Connection:
    """A bare socket: the time of a client library is not the server's."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.ranked = 0.0
        self._socket = socket.create_connection((server.host, server.port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get(self, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        """Status and body; `ranked` then has the seconds that the server says the search itself took."""
        self._socket.sendall(request(self._server, path, headers))
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._socket.recv(1 << 18)
        head, _, body = received.partition(b"\r\n\r\n")
        while len(body) < length_of(head):
            body += self._socket.recv(1 << 18)
        timing = re.search(rb"server-timing: rank;dur=([0-9.]+)", head, re.IGNORECASE)
        self.ranked = float(timing[1]) / 1e3 if timing else 0.0
        return int(head.split(b" ", 2)[1]), body

    def close(self) -> None:
        """End the connection."""
        self._socket.close()


@dataclass
class Person:
    """A query, 64 features that it sets, and a paper that is explained."""

    text: str
    sae: str
    latents: list[int] = field(default_factory=list)
    why: str = ""
    n_moved: int = 0

    def page(self) -> str:
        """The address of the plain search."""
        return f"/bench/{self.sae}/search?{urlencode({'q': self.text})}"

    def learn(self, answer: dict[str, Any], alive: Sequence[int]) -> None:
        """The query's own features first, as the page shows them."""
        shown = [slider["latent"] for slider in (*answer["sliders"], *answer["more_sliders"])]
        self.latents = list(dict.fromkeys([*shown, *alive]))[:N_SLIDERS]
        self.why = answer["results"][0]["document"]["id"]

    def next_move(self) -> str:
        """The address after the slider at hand was moved on."""
        dragged = (self.n_moved // MOVES_OF_A_SLIDER) % min(N_DRAGGED, len(self.latents))
        place = 0.02 * (self.n_moved % MOVES_OF_A_SLIDER) - 0.1
        self.n_moved += 1
        strengths = [0.03 * (1 + (7 * at) % 12) for at in range(len(self.latents))]
        strengths[dragged] += place
        moves = [
            ("f", f"{latent}:{value:+.3f}") for latent, value in zip(self.latents, strengths, strict=True)
        ]
        return f"/bench/{self.sae}/search?{urlencode([('q', self.text), *moves, ('why', self.why)])}"


def check(status: int, body: bytes) -> None:
    """That an answer is what was asked for, whole."""
    is_whole = b"</" in body[-60:] and b"Why " in body and b"Document" in body and b"<html" not in body
    if status != HTTPStatus.OK or not is_whole:
        raise RuntimeError(f"A slider move was answered with {status}: {body[:300]!r}")


def people(server: Server, sae: str, n: int) -> list[Person]:
    """People who have opened their search: the whole page, as a browser does."""
    connection = Connection(server)
    found = []
    for at in range(n):
        text = QUERIES[at % len(QUERIES)] + f" {at // len(QUERIES)}" * (at >= len(QUERIES))
        person = Person(text, sae)
        answer: dict[str, Any] = {}
        for _ in range(600):  # until the encoder is there
            _, body = connection.get(person.page().replace("/search?", "/search.json?"), {})
            answer = json.loads(body)
            if answer.get("sliders"):
                break
            time.sleep(0.1)
        connection.get(person.page(), {})
        person.learn(answer, range(N_LATENTS))
        found.append(person)
    connection.close()
    return found


async def drag(server: Server, person: Person, until: float, pause: float) -> list[float]:
    """Seconds that each move took, on a connection of one's own."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    seconds = []
    while time.perf_counter() < until:
        message = request(server, person.next_move(), PARTIAL)
        began = time.perf_counter()
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(length_of(head))
        seconds.append(time.perf_counter() - began)
        check(int(head.split(b" ", 2)[1]), body)
        await asyncio.sleep(pause)
    writer.close()
    return seconds


async def drag_together(
    server: Server, everybody: Sequence[Person], seconds: float, pause: float
) -> list[float]:
    """The same of all people at once. They do not begin on the same tick."""
    until = time.perf_counter() + seconds

    async def late(at: int, person: Person) -> list[float]:
        await asyncio.sleep(pause * at / len(everybody))
        return await drag(server, person, until, pause)

    found = await asyncio.gather(*(late(at, person) for at, person in enumerate(everybody)))
    return [each for some in found for each in some]


# --- what is measured ------------------------------------------------------------------------------


def textbook_move(x_MD: NDArray[np.float32], sae: SAE, strengths: dict[int, float]) -> NDArray[np.int64]:
    """All documents in the order of the query that the latents rebuild."""
    rebuilt_D = np.array(list(strengths.values()), dtype=np.float32) @ sae.directions_ND[list(strengths)]
    rebuilt_D += sae.b_dec_D
    rebuilt_D /= np.linalg.norm(rebuilt_D)
    order: NDArray[np.int64] = np.argsort(-(x_MD @ rebuilt_D))
    return order


def read_once(x_MD: NDArray[np.float32], n_threads: int) -> None:
    """Read all vectors, and as little else as can be."""
    parts = np.array_split(x_MD.reshape(-1), 8 * n_threads)
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(np.max, parts))


def timed(act: Callable[[], object]) -> float:
    """Seconds that something takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def quantile(seconds: Sequence[float], share: float) -> float:
    """In milliseconds."""
    return round(1e3 * sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))], 2)


def measure_alone(
    server: Server, person: Person, x_MD: NDArray[np.float32], sae: SAE, n_moves: int
) -> dict[str, float]:
    """A move, the textbook's move and the floor, in turn."""
    connection = Connection(server)
    strengths = dict.fromkeys(person.latents, 0.2)
    moves: list[float] = []
    scans: list[float] = []
    floors: list[float] = []
    cpu = {"move": 0.0, "textbook": 0.0}

    ranked: list[float] = []

    def move(path: str) -> None:
        check(*connection.get(path, PARTIAL))
        ranked.append(connection.ranked)

    for first in range(0, n_moves + RUN, RUN):
        before = server.cpu_seconds(), time.process_time()
        taken = [timed(partial(move, person.next_move())) for _ in range(RUN)]
        between = server.cpu_seconds(), time.process_time()
        scanned = [timed(partial(textbook_move, x_MD, sae, strengths)) for _ in range(SCANS)]
        after = time.process_time()
        floor = min(timed(partial(read_once, x_MD, n)) for n in (1, 2, 2))
        if first > 0:  # the first run fills caches on both sides
            moves, scans, floors = [*moves, *taken], [*scans, *scanned], [*floors, floor]
            cpu["move"] += between[0] - before[0]
            cpu["textbook"] += after - between[1]
    connection.close()
    ranked_ms = quantile(ranked[RUN:], 0.5)
    move_ms, scan_ms = quantile(moves, 0.5), quantile(scans, 0.5)
    return {
        "moves": len(moves),
        "move_ms": move_ms,
        "move_p99_ms": quantile(moves, 0.99),
        "ranked_ms": ranked_ms,
        "textbook_ms": scan_ms,
        "floor_ms": quantile(floors, 0.5),
        "times_faster_than_textbook": round(scan_ms / move_ms, 2),
        "ranked_times_faster": round(scan_ms / ranked_ms, 2),
        "times_floor": round(move_ms / quantile(floors, 0.5), 3),
        "move_cpu_ms": round(1e3 * cpu["move"] / len(moves), 2),
        "textbook_cpu_ms": round(1e3 * cpu["textbook"] / len(scans), 2),
    }


def measure_together(
    server: Server, everybody: Sequence[Person], seconds: float, pause: float
) -> dict[str, float]:
    """Everybody at once."""
    taken = asyncio.run(drag_together(server, everybody, seconds, pause))
    p50, p99 = quantile(taken, 0.5), quantile(taken, 0.99)
    return {
        "people": len(everybody),
        "pause_ms": 1e3 * pause,
        "requests": len(taken),
        "lost": 0,  # each answer was checked; a lost one would have ended the run
        "per_second": round(len(taken) / seconds, 1),
        "p50_ms": p50,
        "p99_ms": p99,
        "longest_ms": quantile(taken, 1.0),
        "p99_over_p50": round(p99 / p50, 2),
    }


def measure(home: Path, n: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """All of it for one size."""
    x_MD = vectors(n)
    if not (home / "collections" / "bench").exists():
        make_collection(home, x_MD)
    folder = artifact.current(home / "collections" / "bench")
    (space,) = (folder / "saes").iterdir()
    sae = SAE.load(space / "sae.safetensors")
    server = Server(home)
    try:
        everybody = people(server, space.name, chosen.people)
        found: dict[str, Any] = {
            "documents": n,
            **measure_alone(server, everybody[0], x_MD, sae, chosen.moves),
        }
        del x_MD
        for pause in (PAUSE, 0.0):
            found["dragging" if pause else "without_pause"] = measure_together(
                server, everybody, chosen.seconds, pause
            )
        return {**found, **server.peak_mib()}
    finally:
        server.stop()


def main() -> None:
    """Measure every size and print what was found, then one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, nargs="+", default=[10_000, 100_000, 420_000])
    parser.add_argument("--moves", type=int, default=200)
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20.0, help="of dragging together")
    parser.add_argument("--home", type=Path, help="keep the collections here, and use those that are")
    chosen = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        for n in chosen.documents:
            results.append(measure((chosen.home or Path(scratch)) / str(n), n, chosen))
            print(" ".join(f"{name}={value}" for name, value in results[-1].items()))
    print(
        json.dumps({"benchmark": "steer_latency", "width": WIDTH, "sliders": N_SLIDERS, "results": results})
    )


if __name__ == "__main__":
    main()
