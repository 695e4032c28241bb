"""The folder on disk: written as a draft, checked by a manifest, published by rename.

    {collection}/CURRENT                       name of the generation that is served
    {collection}/generations/{generation}/     immutable; manifest.json holds size and sha256 of every file
    {collection}/generations/.draft-*          an unfinished build; swept away by the next one

A generation is named by its time and by the sha256 of its manifest, so a damaged manifest is noticed too.
Nobody else knows file names. Inside a generation: `index.faiss`, `catalogue.sqlite`, `metadata/`, and one
folder `saes/{name}/` for each SAE.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import uuid
import weakref
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_core.errors import ArtifactError, BusyError, NotFoundError
from sae_core.files import find_damage, sha256_of, sync_folder, write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

SCHEMA = 3
MANIFEST = "manifest.json"
DIGEST_LETTERS = 12  # of the manifest's sha256 in the name of its generation
REBUILD = "Rebuild it with `saefari build`, or restore the file from a backup."


@dataclass(frozen=True)
class FileCheck:
    """One file of a generation and what is wrong with it ("" if nothing)."""

    path: str
    size: int
    problem: str


@contextmanager
def locked(folder: Path, part: str = "") -> Iterator[None]:
    """Hold the lock of a folder, or of one part of it; `BusyError` if another process has it.

    The lock ends with the process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / (f".{part}.lock" if part else ".lock")).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            what = f"{folder / part} is being written by another process."
            raise BusyError(what, remedy="Wait for it to end, or stop it, then try again.") from error
        yield


@contextmanager
def draft(collection: Path, manifest: dict[str, Any]) -> Iterator[Path]:
    """A folder to fill; on a clean exit it becomes the served generation, else it is removed.

    `manifest` may still be filled in the body. Needs the collection's lock.
    """
    with _drafted(collection) as folder:
        yield folder
        _publish(collection, folder, manifest, {})


@contextmanager
def revise(collection: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A draft that differs from the served generation only in what is written, with its manifest to edit.

    The draft has the folders of the served generation and none of its files: nothing that is written there,
    in whatever way, can reach what is served. Read from `current(collection)`. On a clean exit every file
    that was not written is linked (copied where the file system has no links) and keeps the checksum that
    it had, so that damage stays damage; then the draft is served. Needs the collection's lock.
    """
    before = current(collection)
    manifest = load_manifest(before)
    files = manifest.pop("files")
    del manifest["generation"]
    with _drafted(collection) as folder:
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        yield folder, manifest
        carried = {name: entry for name, entry in files.items() if not (folder / name).exists()}
        for name in carried:
            _link(before / name, folder / name)
        _publish(collection, folder, {**manifest, "revised": datetime.now(UTC).isoformat()}, carried)


def current(collection: Path) -> Path:
    """The folder of the served generation."""
    pointer = collection / "CURRENT"
    name = served(collection)
    if name is None:
        what = f"{collection} holds no finished collection."
        raise NotFoundError(what, remedy="Build one with `saefari build FILE` or `saefari demo`.")
    folder = collection / "generations" / name
    if not folder.is_dir():
        raise ArtifactError(f"{pointer} names {folder.name}, which is missing.", remedy=REBUILD)
    return folder


def generations(collection: Path) -> list[str]:
    """The names of all generations that are there, oldest first."""
    return sorted(path.parent.name for path in (collection / "generations").glob(f"[!.]*/{MANIFEST}"))


def serve(collection: Path, generation: str) -> None:
    """Serve one of the generations that are there, once its files are checked. Needs the lock."""
    there = generations(collection)
    if generation not in there:
        what = f'{collection.name} has no generation "{generation}".'
        raise NotFoundError(what, remedy=f"There are: {', '.join(there) or 'none'}.")
    verify(collection / "generations" / generation)
    write_atomic(collection / "CURRENT", generation.encode())


def collections(home: Path) -> list[Path]:
    """The folders of all collections with a served generation, by name."""
    return sorted(path.parent for path in (home / "collections").glob("*/CURRENT"))


def keep(folder: Path, holder: object) -> None:
    """Keep a generation on disk for as long as `holder` lives, however often the collection is rebuilt."""
    with suppress(OSError):  # a file system without locks
        descriptor = os.open(folder / MANIFEST, os.O_RDONLY)
        weakref.finalize(holder, os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


def load_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a generation; `ArtifactError` if it is missing, damaged or of another schema."""
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
        manifest = json.loads(content)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} is missing or damaged.", remedy=REBUILD) from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        found = manifest.get("schema") if isinstance(manifest, dict) else None
        what = f"{path} has schema {found}, this version of Saefari reads schema {SCHEMA}."
        raise ArtifactError(what, remedy="Rebuild the collection with `saefari build`.")
    if not folder.name.endswith(_digest(content)):
        raise ArtifactError(f"{path} has changed: its checksum is another.", remedy=REBUILD)
    return {**manifest, "generation": folder.name}


def check(folder: Path) -> list[FileCheck]:
    """Compare every file of a generation with the manifest: presence, size, sha256."""
    found = []
    for name, entry in load_manifest(folder)["files"].items():
        problem = find_damage(folder / name, entry["size"], entry["sha256"])
        found.append(FileCheck(name, int(entry["size"]), problem))
    return found


def verify(folder: Path) -> dict[str, Any]:
    """The manifest, after every file was found to be what it says; else `ArtifactError` naming the file."""
    for file in check(folder):
        if file.problem:
            raise ArtifactError(f"{folder / file.path} {file.problem}.", remedy=REBUILD)
    return load_manifest(folder)


def save_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """One .npy file per array. Inverse of `load_arrays`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values, allow_pickle=False)


def load_arrays(folder: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a folder by name, memory-mapped read-only."""
    return {path.stem: _load_array(path) for path in sorted(folder.glob("*.npy"))}


def save_json(path: Path, value: object) -> None:
    """Write JSON; dataclasses inside lists become objects."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, default=asdict), encoding="utf-8")


def load_json(path: Path) -> Any:
    """Read what `save_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def _load_array(path: Path) -> NDArray[Any]:
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))  # plain slices cost less
    except ValueError:
        return np.load(path, allow_pickle=False)  # type: ignore[no-any-return]  # empty arrays cannot be mapped


@contextmanager
def _drafted(collection: Path) -> Iterator[Path]:
    """An empty folder beside the generations, gone at the end unless it was renamed."""
    generations = collection / "generations"
    generations.mkdir(parents=True, exist_ok=True)
    for left in generations.glob(".draft-*"):
        shutil.rmtree(left)
    folder = generations / f".draft-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _link(old: Path, new: Path) -> None:
    """The same file under another name; a copy where there are no hard links, or too many."""
    try:
        new.hardlink_to(old)
    except FileNotFoundError as error:
        raise ArtifactError(f"{old} is missing.", remedy=REBUILD) from error
    except OSError:
        shutil.copyfile(old, new)


def _publish(
    collection: Path, folder: Path, manifest: dict[str, Any], carried: dict[str, dict[str, Any]]
) -> None:
    """Serve a draft. `carried` are entries of the manifest that are taken over instead of read anew."""
    entries = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        with path.open("rb") as file:
            os.fsync(file.fileno())
        entries[name] = carried.get(name) or {"size": path.stat().st_size, "sha256": sha256_of(path)}
    built = _next_moment(collection)
    whole = {"schema": SCHEMA, "built": built.isoformat()}
    content = json.dumps({**whole, **manifest, "files": entries}, ensure_ascii=False, indent=1).encode()
    write_atomic(folder / MANIFEST, content)
    for inner in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        sync_folder(inner)
    generation = f"{built:%Y%m%d-%H%M%S}-{_digest(content)}"
    folder.rename(folder.parent / generation)
    sync_folder(folder.parent)
    before = served(collection)
    write_atomic(collection / "CURRENT", generation.encode())
    _prune(folder.parent, {generation, before})


def _next_moment(collection: Path) -> datetime:
    """Now, but after every generation that is there, if the clock was set back too: names are in order."""
    now = datetime.now(UTC)
    for name in reversed(generations(collection)):
        with suppress(ValueError):  # a folder that somebody named
            latest = datetime.strptime(name[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
            return max(now, latest + timedelta(seconds=1))
    return now


def served(collection: Path) -> str | None:
    """The name of the generation that is served; None if there is none."""
    try:
        return (collection / "CURRENT").read_text(encoding="utf-8", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _prune(generations: Path, spared: set[str | None]) -> None:
    """Remove generations: not the spared ones (served now and before), nor those that a server holds."""
    for path in generations.iterdir():
        if path.is_dir() and path.name not in spared and not _is_held(path):
            shutil.rmtree(path, ignore_errors=True)


def _is_held(folder: Path) -> bool:
    try:
        with (folder / MANIFEST).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # half removed before
        return False
    return False


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGEST_LETTERS]
