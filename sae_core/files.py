"""Writing files so that a crash leaves either the old content or the new, never a torn one."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sae_core.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST)


@contextmanager
def explain_write_errors(where: Path) -> Iterator[None]:
    """Turn what the system says of a full disk or of missing rights into an `ArtifactError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what, remedy = f"The disk is full: {where} could not be written.", "Free some space"
        elif error.errno in UNWRITABLE:
            what = f"{where} cannot be written: {error.strerror}."
            remedy = "Choose another folder, or change its rights"
        else:
            raise
        remedy += ", then run the same command again. What was there before is untouched."
        raise ArtifactError(what, remedy=remedy) from error


def write_atomic(path: Path, content: bytes) -> None:
    """Write beside the file, flush to disk, then rename over it."""
    with drafted(path) as draft:
        draft.write_bytes(content)


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """A file beside `path` to be written; on a clean exit it is flushed to disk and takes its place."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextmanager
def drafted_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` to be filled; on a clean exit it is flushed to disk and takes its place.

    A folder that is there is moved aside first and removed last. What a process left that was killed is
    tidied up by the next one.
    """
    path = path.resolve()
    _tidy_up(path)
    draft, former = (path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("draft", "former"))
    try:
        draft.mkdir(parents=True)
        yield draft
        _sync_tree(draft)
        if path.exists():
            path.rename(former)
        draft.rename(path)
        sync_folder(path.parent)
    finally:
        if former.exists() and not path.exists():
            former.rename(path)
        for left in (draft, former):
            shutil.rmtree(left, ignore_errors=True)


def _tidy_up(path: Path) -> None:
    """Remove what was left beside `path`; where that is all there is, a former folder comes back."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        pid, end = left.name.split(".")[-2:]
        if end not in {"draft", "former"} or not pid.isdigit() or _is_alive(int(pid)):
            continue
        if end == "former" and not path.exists():
            left.rename(path)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(folder)


def kept(path: Path, key: str, make: Callable[[], Any]) -> Any:
    """What `path` holds of an earlier run under this key, else what `make` makes, kept there: JSON.

    A file that is missing, damaged, or of another key is made anew.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        stored = None
    if isinstance(stored, dict) and stored.get("key") == key and "part" in stored:
        return stored["part"]
    part = make()
    with explain_write_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps({"key": key, "part": part}).encode())
    return part


def sha256_of(path: Path) -> str:
    """The checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_damage(path: Path, size: int, sha256: str) -> str:
    """What is wrong with a file that should have this size and checksum, after its name; "" if nothing."""
    if not path.is_file():
        return "is missing"
    if path.stat().st_size != size:
        return f"has {path.stat().st_size} bytes instead of {size}"
    if sha256_of(path) != sha256:
        return "has changed: its checksum is another"
    return ""


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
