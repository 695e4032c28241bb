"""A finished grid of SAEs as files for people: table, picture, and a page with both."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from app.pages import render_file
from app.scorecard import SCORECARD_FILE
from app.views.scorecard import GridFileView, GridRow, TextTable
from sae_core.files import explain_write_errors, write_atomic
from sae_core.grid import GridResult
from sae_core.report import (
    EXPONENT_HEADER,
    JOINT_FORM,
    JOINT_HEADER,
    exponent_rows,
    grid_json,
    grid_text,
    joint_rows,
    remarks,
)


def write_grid(result: GridResult, folder: Path) -> None:
    """Write `grid.json`, `grid.md`, `grid.svg` and `grid.html` into the folder of a finished grid.

    Raises `ArtifactError` if they cannot be written.
    """
    view = grid_view(result, folder)
    files = {
        "grid.json": grid_json(result),
        "grid.md": grid_text(result),
        "grid.svg": render_file("grid.svg", view),
        "grid.html": render_file("grid.html", view),
    }
    with explain_write_errors(folder):
        for name, text in files.items():
            write_atomic(folder / name, text.encode())


def grid_view(result: GridResult, folder: Path) -> GridFileView:
    """What the page shows; it links to those scorecards that are there."""
    best = {result.best(member.k).name for member in result.members}
    return GridFileView(
        name=folder.resolve().name,
        rows=[
            GridRow(
                name=member.name,
                url=_link(folder, member.name),
                k=member.k,
                n_latents=member.n_latents,
                fvu_train=member.fvu_train,
                fvu_heldout=member.fvu_heldout,
                l0=member.l0,
                n_dead=member.n_dead,
                n_rare=member.n_rare,
                is_best=member.name in best,
            )
            for member in result.members
        ],
        n_train=result.n_train,
        n_heldout=result.n_heldout,
        width=result.width,
        steps=result.steps,
        data=result.data,
        exponents=TextTable(EXPONENT_HEADER, exponent_rows(result)),
        joint=TextTable(JOINT_HEADER, joint_rows(result)),
        joint_form=JOINT_FORM,
        remarks=remarks(result),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _link(folder: Path, name: str) -> str | None:
    is_there = (folder / name / SCORECARD_FILE).is_file()
    return f"{quote(name)}/{SCORECARD_FILE}" if is_there else None
