"""Labels in a file are read one by one, and are those that were written."""

from __future__ import annotations

from pathlib import Path

import pytest

from sae_core import artifact
from sae_core.intervals import Interval
from sae_core.labels import Candidate, Evidence, Label, Score
from sae_core.labels.stored import StoredLabels

HALF = Interval(0.5, 0.4, 0.6)
LABELS = [
    Label("Staub {und} Gas, größer als 1\u202f\u03bcm 🌌", "llm:m", Score("BM25", 3, 4, HALF, HALF, HALF)),
    Label("", "none", remark="too few documents: 2"),
    Label("dust ]}, [{", "phrases", None, [Candidate("é", "phrases", {"x": 0.5})], Evidence([1, 2], [3])),
]


@pytest.mark.parametrize("labels", [LABELS, LABELS[:1], LABELS[1:]])
def test_what_is_read_is_what_was_written(tmp_path: Path, labels: list[Label]) -> None:
    artifact.save_json(tmp_path / "labels.json", labels)
    stored = StoredLabels(tmp_path / "labels.json")
    assert list(stored) == labels
    assert [stored[at - len(labels)] for at in range(len(labels))] == labels
    assert stored[1:] == labels[1:]
    with pytest.raises(IndexError):
        stored[len(labels)]


def test_a_file_that_grew_a_tail_is_no_list(tmp_path: Path) -> None:
    artifact.save_json(tmp_path / "labels.json", LABELS)
    path = tmp_path / "labels.json"
    path.write_text(path.read_text(encoding="utf-8") + " more", encoding="utf-8")
    with pytest.raises(ValueError, match="no list of labels"):
        StoredLabels(path)
