"""A PostgreSQL server of our own: a fresh folder, a socket in it, no port, gone at the end."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.authored.models import Base

MISSING = "These tests need PostgreSQL. On Debian and Ubuntu: apt-get install postgresql"
SECONDS_TO_START = 60


def find_programs() -> Path | None:
    """The folder of initdb and postgres, the newest version there is."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


class Server:
    """A running server. `stop(hard=True)` kills it as a power cut would; `start` lets it recover."""

    def __init__(self, programs: Path) -> None:
        # Not below pytest's folder, which only its owner may enter; and a socket's path must be short.
        self._programs = programs
        self.folder = Path(tempfile.mkdtemp(prefix="saefari-pg-"))
        # PostgreSQL refuses to run as root.
        self._user = next(name for name in ("postgres", "nobody") if _is_user(name)) if _is_root() else None
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        self._run(
            "initdb", "--auth=trust", "--username=saefari", "--encoding=UTF8", "--no-locale", "--no-sync"
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._n_databases = 0
        self.start()

    def start(self) -> None:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",  # the machine does not lose power in the tests; what a crash loses is the same
            "shared_buffers": "16MB",
            "max_connections": "100",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [str(self._programs / "postgres"), "-D", str(self.folder / "data"), *options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, user=self._user, cwd="/", stdout=log, stderr=log, start_new_session=True
            )
        ends = time.monotonic() + SECONDS_TO_START
        while True:
            try:
                psycopg.connect(self._address("postgres")).close()
            except psycopg.OperationalError:
                assert time.monotonic() < ends, (self.folder / "log").read_text()
                time.sleep(0.05)
            else:
                return

    def stop(self, *, hard: bool = False) -> None:
        """End it: clients are thrown out, or, if `hard`, everything is killed at once."""
        assert self._process is not None
        if hard:
            os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=SECONDS_TO_START)
        if hard:
            (self.folder / "data/postmaster.pid").unlink(missing_ok=True)

    def new_database(self) -> str:
        """The address of a fresh database."""
        self._n_databases += 1
        name = f"test{self._n_databases}"
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql://saefari@/{name}?host={self.folder}"

    def remove(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)  # at once: nothing of it is needed again
            self._process.wait(timeout=SECONDS_TO_START)
        shutil.rmtree(self.folder)

    def _address(self, database: str) -> str:
        return f"host={self.folder} user=saefari dbname={database} connect_timeout=5"

    def _run(self, program: str, *options: str) -> None:
        command = [str(self._programs / program), "-D", str(self.folder / "data"), *options]
        done = subprocess.run(command, user=self._user, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def empty(url: str) -> None:
    """Remove every row but the revision; triggers, which protect some of them, are told to look away."""
    with psycopg.connect(url, autocommit=True) as connection:
        deletes = [f"DELETE FROM {table.name}" for table in Base.metadata.sorted_tables]
        connection.execute("; ".join(["SET session_replication_role = replica", *deletes]))


def _is_root() -> bool:
    return os.geteuid() == 0


def _is_user(name: str) -> bool:
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(name))
    return False


def serve() -> Iterator[Server]:
    """A server for as long as somebody needs it; a skip where there is none, under CI a failure."""
    programs = find_programs()
    if programs is None:
        if os.environ.get("CI") == "true":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    server = Server(programs)
    try:
        yield server
    finally:
        server.remove()
