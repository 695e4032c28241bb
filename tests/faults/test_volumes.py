"""A volume that is full, and one that cannot be written: a file system of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from sae_core import artifact
from tests import killable
from tests.faults.running import COLLECTION, Commands, Server, build_words, sae_of

MOUNT = 'mount -t tmpfs -o size=24m,mode=755 none "$0" && exec "$@"'
MISSING = "These tests need mount namespaces. Allow `unshare --mount` to root, or --map-root-user to users."


@dataclass(frozen=True)
class Volume:
    """A small file system that only one process and its children see at `inside`."""

    worker: subprocess.Popen[str]
    inside: Path

    @property
    def outside(self) -> Path:
        """The same for everybody."""
        return Path(f"/proc/{self.worker.pid}/root{self.inside}")

    def fill(self) -> None:
        with (self.outside / "ballast").open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue

    def free(self) -> None:
        (self.outside / "ballast").unlink()

    def remount(self, how: str) -> None:
        killable.start(self.worker, "system", "mount", "-o", f"remount,{how}", self.inside)
        assert killable.end(self.worker) == 0


@pytest.fixture(scope="module")
def _volume(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Volume]:
    folder = tmp_path_factory.mktemp("volume")
    alone = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*alone, "mount", "-t", "tmpfs", "none", folder], check=False).returncode:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(MISSING)
    with killable.worker(*alone, "sh", "-c", MOUNT, str(folder)) as worker:
        volume = Volume(worker, folder)
        killable.start(worker, "system", "true")  # it is mounted when this has been done
        assert killable.end(worker) == 0
        yield volume


@pytest.fixture
def volume(_volume: Volume, built: Path, corpus: Path) -> Iterator[Volume]:
    """With a home on it, and a database."""
    try:
        shutil.copytree(built, _volume.outside / "home")
        shutil.copytree(corpus, _volume.outside / "corpus")
        yield _volume
    finally:
        for each in _volume.outside.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()


@pytest.fixture
def inside(volume: Volume, tmp_path: Path) -> Commands:
    """Commands that see the volume."""
    return Commands(volume.worker, tmp_path / "log", {"SAEFARI_EDITING": "1", "SAEFARI_LOG_REQUESTS": "1"})


def token_on(volume: Volume, inside: Commands) -> str:
    """A new token of an editor, of a database on the volume."""
    home = ["--home", str(volume.inside / "home")]
    assert inside.run("db", "upgrade", *home) == 0, inside.said
    assert inside.run("token", "create", "ann", *home) == 0, inside.said
    return inside.said.split()[-1]


def signed_in(server: Server, token: str) -> str:
    with server.client() as client:
        answer = client.post("/sign-in", data={"token": token})
        assert answer.status_code == 303, answer.text
        return str(client.cookies["saefari"])


def store(server: Server, session: str, volume: Volume, latent: int) -> httpx2.Response:
    about = {"collection": COLLECTION, "kind": "feature", "key": str(latent)}
    sent = {**about, "sae": sae_of(volume.outside / "home"), "text": "dust", "expected": "0"}
    with server.client(session) as client:
        return client.post("/edit/label", data={**sent, "explanation": "A long thought."})


def reads(server: Server, volume: Volume) -> bool:
    sae = sae_of(volume.outside / "home")
    paths = (f"/{COLLECTION}", f"/{COLLECTION}/{sae}/features/1", f"/{COLLECTION}/documents/doc-0100")
    with server.client() as client:
        return [client.get(path).status_code for path in paths] == [200] * len(paths)


def test_on_a_full_disk_edits_wait_and_reading_goes_on(volume: Volume, inside: Commands) -> None:
    token = token_on(volume, inside)
    with inside.serving(volume.inside / "home") as server:
        session = signed_in(server, token)
        assert store(server, session, volume, 1).status_code == 303
        volume.fill()
        refused = store(server, session, volume, 2)
        assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
        assert "A long thought." in refused.text
        assert reads(server, volume)
        volume.free()
        assert store(server, session, volume, 2).status_code == 303
    assert "is full" in inside.said or "Traceback" not in inside.said


def test_a_log_on_a_full_disk_holds_up_nobody(volume: Volume, inside: Commands) -> None:
    inside.log = volume.outside / "log"
    inside.environment["SAEFARI_EDITING"] = "0"
    with inside.serving(volume.inside / "home") as server:
        volume.fill()
        for _ in range(3):
            assert reads(server, volume)
        volume.free()
        assert reads(server, volume)


def test_what_does_not_fit_is_said_and_leaves_nothing_half_written(
    volume: Volume, inside: Commands, corpus: Path
) -> None:
    home, there = volume.inside / "home", volume.outside / "home"
    folder = there / "collections" / COLLECTION
    served = artifact.current(folder).name
    at = ["--home", str(home)]
    assert inside.run("db", "upgrade", *at) == 0
    volume.fill()
    for words in (
        build_words(volume.inside / "corpus", home, seed=1),
        ["backup", str(volume.inside / "copy.sqlite"), *at],
        ["export", COLLECTION, "--dump", str(volume.inside / "dump"), *at],
        ["authored", "export", str(volume.inside / "all.jsonl"), *at],
    ):
        status = inside.run(*words)
        assert (status, "is full" in inside.said) == (1, True), (words, inside.said)
    assert artifact.current(folder).name == served
    artifact.verify(artifact.current(folder))
    left = {each.name for each in volume.outside.iterdir()}
    assert left == {"home", "corpus", "ballast"}
    assert not list((folder / "generations").glob(".draft-*"))
    volume.free()
    assert inside.run(*build_words(volume.inside / "corpus", home, seed=1)) == 0, inside.said


def test_a_volume_that_cannot_be_written_is_served_and_says_so(volume: Volume, inside: Commands) -> None:
    home = volume.inside / "home"
    token = token_on(volume, inside)
    with inside.serving(home) as server:
        session = signed_in(server, token)
    volume.remount("ro")
    try:
        with inside.serving(home) as server:
            assert reads(server, volume)
            refused = store(server, session, volume, 1)
            assert (refused.status_code, "A long thought." in refused.text) == (503, True)
        for words in (
            build_words(volume.inside / "corpus", home, seed=1),
            ["db", "upgrade", "--home", str(home)],
            ["backup", str(volume.inside / "copy.sqlite"), "--home", str(home)],
        ):
            status = inside.run(*words)
            assert (status, "Read-only file system" in inside.said) == (1, True), (words, inside.said)
    finally:
        volume.remount("rw")
