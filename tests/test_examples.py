"""The example in the README runs, and is the one in the README."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from sae_core.corpus import save_corpus
from tests.planted import WORDS, documents

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples/steer.py"


def test_the_example_trains_searches_steers_and_prints(tmp_path: Path) -> None:
    save_corpus(documents(300), tmp_path / "texts.parquet")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, EXAMPLE, "texts.parquet", WORDS[3], WORDS[9]],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    parts = done.stdout.split("\n\n")
    assert parts[0].startswith("Unexplained variance of held-out documents: 0.")
    assert parts[1].startswith(f"{WORDS[3]}: 5 of 300 documents\n")
    assert len(parts[2].splitlines()) > 1  # features of the query
    assert f"{WORDS[3]}, #" in parts[3]
    assert "cosine with the unsteered query 0." in parts[3]
    assert "not captured by features" in parts[4]
    assert "strongest:" in parts[5]


def test_the_readme_shows_the_example() -> None:
    assert f"```python\n{EXAMPLE.read_text(encoding='utf-8')}```" in (ROOT / "README.md").read_text(
        encoding="utf-8"
    )
