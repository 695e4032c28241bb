"""Who may import whom, as a table. The reasons are in docs/architecture.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A room of sae_core may import from the lines above its own, never from its own line or below.
LAYERS = (
    "errors intervals patience",
    "files cache endpoint rows topk",
    "corpus embed filters index sae sparse steer recipe ranks checkpoint",
    "answers codes foreign metrics powerlaw ranking refine sources texts variants",
    "contrast drift explain features feedback splitting sums train",
    "labels lenses",
    "families categories dictionaries",
    "artifact",
    "explorer fit shards",
    "collection grid",
    "claims",
    "evaluation",
    "report stages",
    "build relabel update",
    "__init__",  # the door: names for the outside
)
RANK = {room: rank for rank, line in enumerate(LAYERS) for room in line.split()}
ONLY_IN = {
    "faiss": {"sae_core/index.py"},
    "sqlalchemy": {"app/catalog.py", "app/authored"},  # a folder: everything in it
    "alembic": {"app/authored/schema.py"},
    "psycopg": set(),  # SQLAlchemy asks for it
    "jinja2": {"app/pages.py"},
    "PIL": {"app/sharing/drawing.py", "app/sharing/typefaces.py"},
    "opentelemetry": {"app/tracing.py"},
    "os.environ": {"app/settings.py"},
    "os.getenv": {"app/settings.py"},
}
WEB = {"app", "fastapi", "starlette", "uvicorn", "typer", "pydantic_settings"}
ROUTES = {"api", "search", "features", "families", "family", "documents", "overview", "compare", "separate"}


def violations(root: Path) -> list[str]:
    """A sentence for each forbidden import below `root`, which holds the folders app and sae_core."""
    found = []
    for path in sorted(p for package in ("app", "sae_core") for p in (root / package).rglob("*.py")):
        here = path.relative_to(root)
        package, room = here.parts[0], here.parts[1].removesuffix(".py")
        for name in used_names(path):
            head, _, rest = name.partition(".")
            other = rest.split(".")[0]
            if head == package == "sae_core" and other != room and rank(root, other) >= RANK.get(room, -1):
                found.append(f"{here} may not import {name}")
            if package == "sae_core" and head in WEB:
                found.append(f"{here} belongs to the library and may not import {name}")
            if head == package == "app" and {room, other} <= ROUTES and room != other:
                found.append(f"{here} is a route and may not import the route {name}")
            if package == "app" and head == "sae_core" and any(p.startswith("_") for p in rest.split(".")):
                found.append(f"{here} may not import the private name {name}")
            for guarded, rooms in ONLY_IN.items():
                allowed = {here.as_posix(), *(folder.as_posix() for folder in here.parents)} & rooms
                if f"{name}.".startswith(f"{guarded}.") and not allowed:
                    found.append(f"{here} may not use {guarded}")
    return found


def rank(root: Path, room: str) -> int:
    """Line of a room in the table; a name that is no module comes through the door."""
    is_room = (root / "sae_core" / room).is_dir() or (root / "sae_core" / f"{room}.py").is_file()
    return RANK.get(room if is_room else "__init__", len(LAYERS))


def used_names(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, and its uses of the environment."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written out from the top"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            yield f"os.{node.attr}"


def test_nobody_imports_upwards() -> None:
    assert violations(ROOT) == []


def test_what_only_building_needs_is_not_loaded_by_a_server() -> None:
    heavy = ["torch", "transformers", "sentence_transformers", "scipy.stats", "pyarrow", "alembic"]
    script = f"import sys, app.main; print([name for name in {heavy} if name in sys.modules])"
    called = [sys.executable, "-c", script]
    done = subprocess.run(called, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_room_has_its_place_in_the_table() -> None:
    rooms = {path.stem for path in (ROOT / "sae_core").iterdir() if path.is_dir() or path.suffix == ".py"}
    assert rooms - {"__pycache__"} <= RANK.keys()


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("sae_core/sae.py", "from sae_core.train import train"),  # up
        ("sae_core/labels/words.py", "from sae_core import families"),  # up, named from the package
        ("sae_core/features.py", "import sae_core.train"),  # across
        ("sae_core/labels/phrases.py", "from sae_core.artifact import Artifact"),  # up from a sub-folder
        ("sae_core/codes.py", "from sae_core import Explorer"),  # through the door, from inside
        ("sae_core/report.py", "from app.settings import Settings"),
        ("sae_core/steer.py", "import fastapi"),
        ("sae_core/explorer.py", "import faiss"),
        ("sae_core/embed.py", "import os; os.environ.get('HOME')"),
        ("sae_core/embed.py", "from os import getenv"),
        ("app/search.py", "from app.features import router"),
        ("app/search.py", "from app import families"),
        ("app/main.py", "from sae_core.index import _read"),
        ("app/overview.py", "from sqlalchemy.orm import Session"),
        ("app/search.py", "from jinja2 import Template"),
        ("app/authored/labels.py", "from alembic import command"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, file: str, line: str) -> None:
    for name in ("labels/__init__", "train", "artifact", "index", "sae"):
        (tmp_path / "sae_core" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sae_core" / f"{name}.py").touch()
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(f"{line}\n", encoding="utf-8")
    assert len(violations(tmp_path)) == 1


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("sae_core/train.py", "from sae_core import metrics"),
        ("sae_core/labels/scores.py", "from sae_core.labels.phrases import mine"),
        ("sae_core/index.py", "import faiss"),
        ("app/main.py", "from app import search, features"),
        ("app/search.py", "from sae_core import Explorer"),
        ("app/settings.py", "import os; os.environ.get('HOME')"),
        ("app/authored/labels.py", "import sqlalchemy as sa"),
    ],
)
def test_an_allowed_import_is_left_alone(tmp_path: Path, file: str, line: str) -> None:
    for name in (file, "sae_core/metrics.py", "sae_core/labels/phrases.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / file).write_text(f"{line}\n", encoding="utf-8")
    assert violations(tmp_path) == []
