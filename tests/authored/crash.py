"""A writer to be killed: `python -m tests.authored.crash URL` edits a label, and prints what is acknowledged."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from app.authored import audit, labels
from app.authored.labels import LabelText
from app.authored.store import Actor, Role, Store
from app.authored.subjects import feature

ROOT_FOLDER = Path(__file__).parent.parent.parent
LABEL = feature("demo", "k16", 812)
WRITER = Actor("writer", Role.EDITOR, "token 1")


def write_for_ever(url: str) -> None:
    """Each number is printed after its edit was acknowledged, and not before."""
    store = Store.open(url)
    with store.read() as session:
        found = labels.find_label(session, LABEL)
    at = found.revision if found else 0
    while True:
        with store.write(WRITER) as writing:
            labels.set_label(writing, LABEL, LabelText(f"edit {at + 1}"), at)
        at += 1
        print(at, flush=True)  # noqa: T201 (this is what the test reads)


@dataclass(frozen=True)
class Outcome:
    """What a round came to."""

    acknowledged: int  # the last edit that was
    there: int  # edits that are there after the restart
    is_sound: bool  # each with its text, its revision and its record


def round_of(url: str, rng: random.Random) -> Outcome:
    """Kill a writer (SIGKILL) at some moment, open the database again and look what is there."""
    command = [sys.executable, "-m", "tests.authored.crash", url]
    with subprocess.Popen(command, cwd=ROOT_FOLDER, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        acknowledged = int(process.stdout.readline())
        time.sleep(rng.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        lines = process.stdout.read().splitlines()
    acknowledged = int(lines[-1]) if lines else acknowledged
    store = Store.open(url)
    with store.read(patient=True) as session:
        history = labels.find_history(session, LABEL)
        records = audit.read_audit(session, thing=LABEL.name, limit=1_000)
    store.close()
    said = [(each.revision, each.said.text) for each in history]
    expected = [(at, f"edit {at}") for at in range(len(history), 0, -1)]
    recorded = [record.after["revision"] for record in records]
    is_sound = said == expected and recorded == [at for at, _ in expected][: len(recorded)]
    return Outcome(acknowledged, len(history), is_sound and len(recorded) == min(len(history), 1_000))


if __name__ == "__main__":
    write_for_ever(sys.argv[1])
