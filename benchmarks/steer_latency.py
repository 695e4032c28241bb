"""Time of one slider move over HTTP, against an exact numpy scan with a full sort of the same vectors.

    python benchmarks/steer_latency.py --documents 10000 100000 --moves 60

A collection of each size is made (real embeddings where SAEFARI_CORPORA has them, continued with noisy
copies; else clustered random vectors), served by `saefari serve` in a process of its own, and asked for the
results of a search whose query embedding is cached while one of three sliders moves. The numpy scan is what
a slider move costs in the app of arXiv 2408.00657. Runs of ten moves and of ten scans are timed in turn. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from pathlib import Path
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
from sae_core.train import train

WIDTH, N_LATENTS, K = 384, 1024, 32
N_SLIDERS = 3
RUN = 10  # moves, then scans, in a row: a scan empties the caches that a drag fills
VENUES = [f"venue {i}" for i in range(9)]
QUERY = "dust extinction in star forming galaxies"


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


def make_collection(home: Path, x_MD: NDArray[np.float32]) -> str:
    """A collection of `len(x_MD)` documents with a briefly trained SAE; the SAE's name."""
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
        Document(f"d{i}", f"Document {i} of the benchmark", f"Text {i}. " * 60, 2000 + i % 25, VENUES[i % 9])
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
        years = np.array([document.year for document in documents], dtype=np.int16)
        venue_codes = np.arange(len(documents), dtype=np.int32) % 9
        artifact.save_arrays(folder / "metadata", {"years": years, "venue_codes": venue_codes})
        artifact.save_json(folder / "metadata" / "venues.json", VENUES)
        space.save(folder / "saes" / name)
        write_catalogue(folder / "catalogue.sqlite", documents, [space])
    return name


class Server:
    """`saefari serve` on a free port of this machine, and one connection to it."""

    def __init__(self, home: Path) -> None:
        command = [sys.executable, "-m", "app.cli", "serve", "--home", str(home), "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        address = self.process.stdout.readline().split("http://")[1].split("/")[0]
        self.address = address
        host, _, port = address.rpartition(":")
        self.connection = socket.create_connection((host, int(port)), timeout=60)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        """Status and body, over a bare socket: the time of a client library is not the server's."""
        fields = {"Host": self.address, **headers}
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        self.connection.sendall("\r\n".join([*lines, "", ""]).encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += self.connection.recv(1 << 18)
        head, _, body = received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += self.connection.recv(1 << 18)
        return int(head.split(b" ", 2)[1]), body

    def move(self, base: str, latents: list[int], at: int) -> None:
        """The results after the sliders were moved to their `at`-th places."""
        places = [f"{latent}:{0.05 * ((at + 7 * i) % 12):+.3f}" for i, latent in enumerate(latents)]
        path = base + urlencode([("q", QUERY), *(("f", place) for place in places)])
        headers = {"HX-Request": "true", "HX-Request-Type": "partial", "HX-Target": "section#results"}
        status, body = self.get(path, **headers)
        if status != HTTPStatus.OK or b"Document" not in body or b"<html" in body:
            raise RuntimeError(f"A slider move was answered with {status}: {body[:200]!r}")

    def stop(self) -> None:
        """End the process."""
        self.connection.close()
        self.process.terminate()
        self.process.wait(10)


def wait_for_encoder(server: Server, path: str) -> list[int]:
    """The query's own features, strongest first, as soon as the encoder is there."""
    for _ in range(600):
        _, body = server.get(path.replace("/search?", "/search.json?"))
        sliders = json.loads(body).get("sliders")
        if sliders:
            return [slider["latent"] for slider in sliders]
        time.sleep(0.1)
    raise TimeoutError("The encoder was not ready after a minute.")


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def measure(home: Path, n: int, n_moves: int) -> dict[str, float]:
    """Median seconds of a slider move and of the numpy scan, taken in turn."""
    x_MD = vectors(n)
    sae = make_collection(home, x_MD)
    server = Server(home)
    try:
        base = f"/bench/{sae}/search?"
        latents = wait_for_encoder(server, base + urlencode({"q": QUERY}))[:N_SLIDERS]
        query_D = load_embedder("minilm").embed([QUERY])[0]
        moves: list[float] = []
        scans: list[float] = []
        for first in range(0, n_moves + RUN, RUN):
            run_of_moves = [_timed(partial(server.move, base, latents, first + i)) for i in range(RUN)]
            run_of_scans = [_timed(lambda: np.argsort(-(x_MD @ query_D))) for _ in range(RUN)]
            if first > 0:  # the first run fills caches on both sides
                moves += run_of_moves
                scans += run_of_scans
    finally:
        server.stop()
    ratios = [scan / move for scan, move in zip(scans, moves, strict=True)]
    return {
        "documents": n,
        "moves": n_moves,
        "move_ms": round(1e3 * statistics.median(moves), 3),
        "move_p95_ms": round(1e3 * sorted(moves)[int(0.95 * len(moves))], 3),
        "scan_and_sort_ms": round(1e3 * statistics.median(scans), 3),
        "times_faster": round(statistics.median(ratios), 2),
    }


def main() -> None:
    """Measure every size and print a table and one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--moves", type=int, default=100)
    chosen = parser.parse_args()
    results = []
    for n in chosen.documents:
        with tempfile.TemporaryDirectory() as home:
            results.append(measure(Path(home), n, chosen.moves))
        print(" ".join(f"{name}={value}" for name, value in results[-1].items()))
    print(
        json.dumps({"benchmark": "steer_latency", "width": WIDTH, "sliders": N_SLIDERS, "results": results})
    )


if __name__ == "__main__":
    main()
