"""Memory and time of reading a large CSV: what stays in memory must not grow with the file.

    python benchmarks/read_corpus.py --rows 2000000

Makes a CSV of about 1,150 bytes a row (ids, titles, abstracts, of which every tenth has line breaks in its
quotes; 1 % of the rows are doubles), and its first quarter. Each is read in a process of its own by
`load_corpus`, and gone through once for the fingerprint. What grows with the number of rows is the difference
of the two peaks, divided by that of the rows. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sae_core.corpus import load_corpus

QUARTER = 4
DOUBLES = 100  # every so many rows one that was there before
BREAKS = 10  # every so many rows one with line breaks
MIB = 2**20


def rows(n: int, seed: int = 0) -> Iterator[list[str]]:
    """Id, title, abstract, year, venue, authors, categories of `n` papers that nobody wrote."""
    chosen = random.Random(seed)
    syllables = ("ga", "lax", "dust", "ra", "di", "o", "mer", "spec", "tra", "neu", "ral", "net")
    words = ["".join(chosen.choices(syllables, k=chosen.randint(1, 4))) for _ in range(20_000)]
    text = " ".join(chosen.choices(words, k=500_000))
    title = "A title"
    for number in range(n):
        at = chosen.randrange(len(text) - 2_000)
        abstract = text[at : at + chosen.randint(700, 1_200)]
        if number % BREAKS == 0:
            abstract = abstract.replace(" ", "\n", 3)
        if number % DOUBLES:
            title = f"{text[at + 1_200 : at + 1_270]} {number}"
        authors = "; ".join(text[at + 20 * i : at + 20 * i + 15] for i in range(3))
        year = str(2000 + number % 25)
        yield [f"{number:09}", title, abstract, year, "A Journal", authors, "cs.LG stat.ML"]


def write(path: Path, n: int) -> None:
    """The first `n` rows as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "title", "abstract", "year", "venue", "authors", "categories"])
        writer.writerows(rows(n))


def peak_mib() -> float:
    """The most that was ever resident in this process, from Linux."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def read(path: Path) -> dict[str, Any]:
    """What reading a file took, of this process."""
    before = peak_mib()
    began, busy = time.perf_counter(), time.process_time()
    corpus = load_corpus(path)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - busy
    began = time.perf_counter()
    corpus.fingerprint()
    return {
        "rows": corpus.n_rows,
        "documents": len(corpus.documents),
        "bytes": path.stat().st_size,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "pass_seconds": time.perf_counter() - began,
        "before_mib": before,
        "peak_mib": peak_mib(),
    }


def read_apart(path: Path) -> dict[str, Any]:
    """`read` in a process that has read nothing before."""
    called = [sys.executable, __file__, "--read", str(path)]
    done = subprocess.run(called, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Write, read, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, help="where the files are made; default: for temporary files")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        print(json.dumps(read(arguments.read)))
        return
    columns = ("rows", "file", "peak", "rows a second", "of processor time", "documents a second, once more")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    found = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for n in (arguments.rows // QUARTER, arguments.rows):
            path = Path(folder) / "rows.csv"
            write(path, n)
            found.append(row := read_apart(path))
            sizes = f"{row['rows']:,} | {row['bytes'] / MIB:,.0f} MiB | {row['peak_mib']:,.0f} MiB"
            speeds = [row["rows"] / row["seconds"], row["rows"] / row["cpu_seconds"]]
            speeds.append(row["documents"] / row["pass_seconds"])
            print(f"| {sizes} | {' | '.join(f'{speed:,.0f}' for speed in speeds)} |", flush=True)
    few, many = found
    growth = (many["peak_mib"] - few["peak_mib"]) * MIB / (many["rows"] - few["rows"])
    print(f"A row leaves {growth:,.0f} bytes in memory, of {many['bytes'] / many['rows']:,.0f} in the file")
    print(json.dumps({"runs": found, "bytes_per_row": growth}))


if __name__ == "__main__":
    main()
