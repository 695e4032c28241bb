"""The folder on disk: whole or absent, and every damage has a name."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sae_core import artifact
from sae_core.errors import ArtifactError, BusyError, NotFoundError
from sae_core.files import explain_write_errors, write_atomic


def publish(collection: Path, content: bytes = b"content") -> Path:
    with artifact.locked(collection), artifact.draft(collection, {"name": "c"}) as folder:
        (folder / "saes").mkdir()
        (folder / "saes" / "weights.bin").write_bytes(content)
        (folder / "index.bin").write_bytes(b"index" * 10)
    return artifact.current(collection)


def test_what_was_published_is_found_and_sound(tmp_path: Path) -> None:
    folder = publish(tmp_path)
    assert folder == artifact.current(tmp_path)
    manifest = artifact.verify(folder)
    assert manifest["schema"] == artifact.SCHEMA
    assert set(manifest["files"]) == {"saes/weights.bin", "index.bin"}


def test_a_failed_draft_leaves_nothing_and_the_old_generation_served(tmp_path: Path) -> None:
    before = publish(tmp_path)

    def fail() -> None:
        with artifact.locked(tmp_path), artifact.draft(tmp_path, {}) as folder:
            (folder / "half").write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert artifact.current(tmp_path) == before
    assert [path.name for path in (tmp_path / "generations").iterdir()] == [before.name]


def test_drafts_of_killed_builds_are_swept_and_old_generations_pruned(tmp_path: Path) -> None:
    (tmp_path / "generations" / ".draft-dead").mkdir(parents=True)
    folders = [publish(tmp_path, bytes([i])) for i in range(4)]
    left = {path.name for path in (tmp_path / "generations").iterdir()}
    assert left == {folder.name for folder in folders[-2:]}


def test_the_generation_before_stays_even_if_a_later_one_was_never_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = publish(tmp_path)

    def fail(path: Path, content: bytes) -> None:
        if path.name == "CURRENT":
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomic(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(artifact, "write_atomic", fail)
        with pytest.raises(OSError, match="No space"):
            publish(tmp_path, b"never served")
    assert artifact.current(tmp_path) == served
    last = publish(tmp_path, b"last")
    assert {path.name for path in (tmp_path / "generations").iterdir()} == {served.name, last.name}


def test_a_generation_that_is_held_survives_any_number_of_builds(tmp_path: Path) -> None:
    class Server:
        pass

    held, server = publish(tmp_path, b"held"), Server()
    artifact.keep(held, server)
    for i in range(3):
        publish(tmp_path, bytes([i]))
    artifact.verify(held)
    del server
    publish(tmp_path, b"last")
    assert not held.exists()


def test_every_flipped_bit_of_manifest_and_pointer_is_noticed(tmp_path: Path) -> None:
    folder = publish(tmp_path)
    for path in (folder / artifact.MANIFEST, tmp_path / "CURRENT"):
        whole = path.read_bytes()
        for place in range(8 * len(whole)):
            content = bytearray(whole)
            content[place // 8] ^= 1 << place % 8
            path.write_bytes(bytes(content))
            with pytest.raises(ArtifactError, match=path.name):
                artifact.load_manifest(artifact.current(tmp_path))
        path.write_bytes(whole)


def damage_flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(bytes(content))


def damage_truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "said"),
    [(damage_flip, "checksum"), (damage_truncate, "bytes instead of"), (Path.unlink, "is missing")],
)
@pytest.mark.parametrize("name", ["saes/weights.bin", "index.bin"])
def test_every_damage_is_named_with_the_remedy(tmp_path: Path, damage: Any, said: str, name: str) -> None:
    folder = publish(tmp_path)
    damage(folder / name)
    with pytest.raises(ArtifactError, match=said) as raised:
        artifact.verify(folder)
    assert name in str(raised.value)
    assert "saefari build" in raised.value.remedy
    assert [file.path for file in artifact.check(folder) if file.problem] == [name]


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"schema": 99}', '{"schema": "1"}'])
def test_a_manifest_that_is_torn_or_of_another_schema_is_refused(tmp_path: Path, text: str) -> None:
    folder = publish(tmp_path)
    (folder / artifact.MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        artifact.load_manifest(folder)


def test_no_collection_and_a_lost_generation_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no finished collection"):
        artifact.current(tmp_path)
    (tmp_path / "CURRENT").write_text("20260101-000000-abcdef")
    with pytest.raises(ArtifactError, match="20260101-000000-abcdef"):
        artifact.current(tmp_path)


def test_a_second_writer_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    hold = (
        "import sys; from pathlib import Path; from sae_core.artifact import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match="another process"), artifact.locked(tmp_path):
            pass
        first.kill()
    with artifact.locked(tmp_path):
        pass


def test_a_full_disk_and_missing_rights_are_said_and_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="disk is full"), explain_write_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(ArtifactError, match="cannot be written"), explain_write_errors(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(InterruptedError), explain_write_errors(tmp_path):
        raise InterruptedError(errno.EINTR, "no")


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def fail(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_arrays_and_json_come_back(tmp_path: Path) -> None:
    arrays = {"a_N": np.arange(5, dtype=np.int32), "empty": np.zeros((0, 3), dtype=np.float32)}
    artifact.save_arrays(tmp_path / "arrays", arrays)
    loaded = artifact.load_arrays(tmp_path / "arrays")
    for name, values in arrays.items():
        np.testing.assert_array_equal(loaded[name], values)
    artifact.save_json(tmp_path / "value.json", {"text": "é < ∞"})
    assert artifact.load_json(tmp_path / "value.json") == {"text": "é < ∞"}
    assert json.loads((tmp_path / "value.json").read_text()) == {"text": "é < ∞"}


# --- revisions ------------------------------------------------------------------------------------


def publish_arrays(collection: Path) -> Path:
    with artifact.locked(collection), artifact.draft(collection, {"name": "c", "saes": [1]}) as folder:
        artifact.save_arrays(folder / "arrays", {"a_N": np.arange(9), "b_N": np.zeros(3)})
        artifact.save_json(folder / "saes" / "x" / "labels.json", ["old"])
    return artifact.current(collection)


def test_a_revision_has_what_was_written_and_shares_the_rest(tmp_path: Path) -> None:
    old = publish_arrays(tmp_path)
    with artifact.locked(tmp_path), artifact.revise(tmp_path) as (folder, manifest):
        artifact.save_json(folder / "saes" / "x" / "labels.json", ["new"])
        write_atomic(folder / "saes" / "x" / "report.json", b"{}")  # beside files that were not written
        manifest["saes"].append(2)
    new = artifact.current(tmp_path)
    assert new != old
    revised = artifact.verify(new)
    assert (revised["saes"], revised["name"]) == ([1, 2], "c")
    assert revised["built"] == artifact.verify(old)["built"] < revised["revised"]
    assert artifact.load_json(new / "saes/x/labels.json") == ["new"]
    assert artifact.load_json(old / "saes/x/labels.json") == ["old"]
    assert set(revised["files"]) == {*artifact.load_manifest(old)["files"], "saes/x/report.json"}
    assert (new / "arrays/a_N.npy").samefile(old / "arrays/a_N.npy")


@pytest.mark.parametrize("way", ["save_arrays", "np.save", "open", "append", "save_json", "write_atomic"])
def test_no_way_of_writing_reaches_the_served_generation(tmp_path: Path, way: str) -> None:
    class Server:
        pass

    old, server = publish_arrays(tmp_path), Server()
    artifact.keep(old, server)
    for _ in range(2):  # a revision of a revision shares files with two generations
        with artifact.locked(tmp_path), artifact.revise(tmp_path) as (folder, _manifest):
            path = folder / "arrays" / "a_N.npy"
            if way == "save_arrays":
                artifact.save_arrays(path.parent, {"a_N": np.arange(9) + 1})
            elif way == "np.save":
                np.save(path, np.arange(9) + 1)
            elif way == "open":
                path.write_bytes(b"other")
            elif way == "append":
                with path.open("ab") as file:
                    file.write(b"more")
            elif way == "save_json":
                artifact.save_json(path, [1])
            else:
                write_atomic(path, b"other")
        artifact.verify(artifact.current(tmp_path))
        artifact.verify(old)
    np.testing.assert_array_equal(np.load(old / "arrays" / "a_N.npy"), np.arange(9))


def test_a_revision_that_fails_leaves_nothing(tmp_path: Path) -> None:
    old = publish_arrays(tmp_path)

    def fail() -> None:
        with artifact.locked(tmp_path), artifact.revise(tmp_path) as (folder, _manifest):
            (folder / "arrays" / "a_N.npy").write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert artifact.current(tmp_path) == old
    assert [path.name for path in (tmp_path / "generations").iterdir()] == [old.name]
    artifact.verify(old)


def test_damage_is_not_made_good_by_a_revision(tmp_path: Path) -> None:
    damage_flip(publish_arrays(tmp_path) / "arrays" / "b_N.npy")
    with artifact.locked(tmp_path), artifact.revise(tmp_path) as (folder, _manifest):
        artifact.save_arrays(folder / "arrays", {"a_N": np.arange(2)})
    with pytest.raises(ArtifactError, match=r"b_N\.npy has changed"):
        artifact.verify(artifact.current(tmp_path))


def test_a_file_that_is_gone_cannot_be_carried_over(tmp_path: Path) -> None:
    old = publish_arrays(tmp_path)
    (old / "arrays" / "b_N.npy").unlink()
    with (
        pytest.raises(ArtifactError, match=r"b_N\.npy is missing"),
        artifact.locked(tmp_path),
        artifact.revise(tmp_path),
    ):
        pass
    assert artifact.current(tmp_path) == old


def test_without_links_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = publish_arrays(tmp_path)

    def refuse(_self: Path, _target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with artifact.locked(tmp_path), artifact.revise(tmp_path) as (folder, _manifest):
        artifact.save_arrays(folder / "arrays", {"a_N": np.arange(2)})
    new = artifact.current(tmp_path)
    artifact.verify(new)
    assert not (new / "arrays" / "b_N.npy").samefile(old / "arrays" / "b_N.npy")


def test_a_revision_that_is_killed_at_any_moment_leaves_a_sound_generation(tmp_path: Path) -> None:
    """Killed at each of its calls to the file system in turn: what is served is the old or the new."""
    old = publish_arrays(tmp_path)
    calls = ("mkdir", "hardlink_to", "rename", "replace", "open", "unlink")
    for at in range(200):
        pid = os.fork()
        if pid == 0:
            try:
                left = [at]
                for name in calls:
                    setattr(Path, name, _deadly(getattr(Path, name), left))
                with artifact.locked(tmp_path), artifact.revise(tmp_path) as (folder, _manifest):
                    artifact.save_json(folder / "saes" / "x" / "labels.json", [at])
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        folder = artifact.current(tmp_path)
        artifact.verify(folder)
        if not os.WIFSIGNALED(status):
            assert status == 0
            break
    else:
        pytest.fail("the revision never came to its end")
    assert at > 10
    assert artifact.load_json(folder / "saes/x/labels.json") == [at]
    assert folder != old


def _deadly(function: Callable[..., Any], left: list[int]) -> Callable[..., Any]:
    """The same function, which kills the process when `left` calls have been made."""

    def call(*arguments: Any, **options: Any) -> Any:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return function(*arguments, **options)

    return call
