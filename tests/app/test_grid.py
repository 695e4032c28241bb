"""The files of a finished grid: page and picture say what the table says, and need nothing else."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from app.grid import grid_view, write_grid
from app.views.scorecard import GridRow
from sae_core.errors import ArtifactError
from sae_core.grid import GridResult, Member
from sae_core.powerlaw import Point, power_laws

KS, LATENTS = (8, 32), (512, 1024, 2048)
MARK_CIRCLES = 16  # of the wordmark


def result(ks: tuple[int, ...] = KS, latents: tuple[int, ...] = LATENTS) -> GridResult:
    members = tuple(
        Member(f"k{k}-n{n}", k, n, 0.9 * n**-0.13 * k**-0.3, n**-0.1 * k**-0.3, float(k), 3, 4)
        for k in ks
        for n in latents
    )
    return GridResult(
        data="ab" * 32,
        width=384,
        n_train=9000,
        n_heldout=1000,
        steps=500,
        members=members,
        heldout=power_laws([Point(m.k, m.n_latents, m.fvu_heldout) for m in members]),
        train=power_laws([Point(m.k, m.n_latents, m.fvu_train) for m in members]),
    )


def written(folder: Path, grid: GridResult | None = None) -> str:
    (folder / "k8-n512").mkdir(parents=True)
    (folder / "k8-n512" / "scorecard.html").touch()
    write_grid(grid or result(), folder)
    return (folder / "grid.html").read_text()


def test_all_four_files_are_written(tmp_path: Path) -> None:
    written(tmp_path / "sizes")
    names = {path.name for path in (tmp_path / "sizes").iterdir() if path.is_file()}
    assert names == {"grid.json", "grid.md", "grid.svg", "grid.html"}
    assert len(json.loads((tmp_path / "sizes" / "grid.json").read_text())["members"]) == 6


def test_the_page_has_every_sae_and_links_to_the_scorecards_that_there_are(tmp_path: Path) -> None:
    html = written(tmp_path / "sizes")
    assert all(f"k{k}-n{n}" in html for k in KS for n in LATENTS)
    assert set(re.findall(r'<a href="(?!#)([^"]+)"', html)) == {"k8-n512/scorecard.html"}
    assert html.count("best of k = 8") == html.count("best of k = 32") == 1
    assert "−0.100 [−0.100, −0.100]" in html
    assert "paper, astro-ph" in html


def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    html = written(tmp_path / "sizes")
    assert re.findall(r"url\(|@import|https?://|\bsrc=|<script", html) == []


def test_the_picture_is_a_file_of_its_own_with_a_curve_of_each_set_for_each_k(tmp_path: Path) -> None:
    written(tmp_path / "sizes")
    picture = ET.parse(tmp_path / "sizes" / "grid.svg").getroot()
    svg = "{http://www.w3.org/2000/svg}"
    assert picture.tag == f"{svg}svg"
    classes = [path.get("class") for path in picture.iter(f"{svg}path")]
    assert sorted(map(str, classes)) == ["curve curve-heldout"] * 2 + ["curve curve-train"] * 2
    assert len(list(picture.iter(f"{svg}circle"))) == 12
    words = {text.text for text in picture.iter(f"{svg}text")}
    assert {"k = 8", "k = 32", "k = 8, train", "k = 32, train", "512", "1,024", "2,048"} <= words


@pytest.mark.parametrize(("ks", "latents"), [((8,), (512,)), ((8,), LATENTS), (KS, (512,))])
def test_a_grid_of_one_line_or_one_point_is_shown_too(
    tmp_path: Path, ks: tuple[int, ...], latents: tuple[int, ...]
) -> None:
    html = written(tmp_path / "sizes", result(ks, latents))
    assert html.count("<circle") == 2 * len(ks) * len(latents) + MARK_CIRCLES
    assert "None" not in html
    assert "nan" not in html


def test_the_view_marks_the_lowest_held_out_error_of_each_k(tmp_path: Path) -> None:
    rows: list[GridRow] = grid_view(result(), tmp_path).rows
    assert [row.name for row in rows if row.is_best] == ["k8-n2048", "k32-n2048"]
    assert {row.url for row in rows} == {None}


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match="cannot be written"):
        write_grid(result(), tmp_path / "file" / "grid")
