"""Processes that write: `python -m tests.authored.writers URL NAME N`.

Each edits the same label, prints what was acknowledged, and takes a conflict as a person would: it looks at
what is there, and edits that. N is how many edits it makes; 0: until it is killed.
"""

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
from app.authored.store import Actor, Conflict, Role, Store
from app.authored.subjects import feature

ROOT_FOLDER = Path(__file__).parent.parent.parent
LABEL = feature("demo", "k16", 812)
SCRIPT = [sys.executable, "-m", "tests.authored.writers"]


def write(url: str, name: str, n: int) -> None:
    """Each number is printed after its edit was acknowledged, and not before."""
    store, who = Store.open(url), Actor(name, Role.EDITOR, "token 1")
    with store.read() as session:
        found = labels.find_label(session, LABEL)
    at, done = found.revision if found else 0, 0
    while not n or done < n:
        try:
            with store.write(who) as writing:
                labels.set_label(writing, LABEL, LabelText(f"{name} {at + 1}"), at)
        except Conflict as error:
            at = error.theirs.revision
        else:
            at, done = at + 1, done + 1
            print(at, flush=True)  # noqa: T201 (this is what the test reads)
    store.close()


def rivals(url: str, n_writers: int, n: int) -> dict[str, list[int]]:
    """Writers at the same time, and the revisions that each was told are its own."""
    names = [f"rival {at}" for at in range(n_writers)]
    running = [
        subprocess.Popen([*SCRIPT, url, name, str(n)], cwd=ROOT_FOLDER, stdout=subprocess.PIPE, text=True)
        for name in names
    ]
    said = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0] * n_writers
    return {name: [int(line) for line in lines.split()] for name, lines in zip(names, said, strict=True)}


@dataclass(frozen=True)
class Outcome:
    """What a round came to."""

    acknowledged: int  # the last edit that was
    there: int  # edits that are there after the restart
    is_sound: bool  # each with its text, its revision and its record


def round_of(url: str, rng: random.Random) -> Outcome:
    """Kill a writer (SIGKILL) at some moment, open the database again and look what is there."""
    with subprocess.Popen(
        [*SCRIPT, url, "edit", "0"], cwd=ROOT_FOLDER, stdout=subprocess.PIPE, text=True
    ) as process:
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
    write(sys.argv[1], sys.argv[2], int(sys.argv[3]))
