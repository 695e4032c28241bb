"""Progress of long work: bars with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console as Terminal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sae_core.fit import Report

SECONDS_BETWEEN_LINES = 5.0
SLOW = 3.0  # per second


class Console:
    """Shows the stages of a build on standard error, so that standard output stays free for results.

    A total of 0 is one that nobody knows.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._terminal = Terminal(stderr=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[Report]:
        """Begin a stage; it ends with the context."""
        began = time.monotonic()
        if self._quiet:
            yield lambda _done, _total, _detail="": None
        elif self._terminal.is_terminal:
            with self._bar(name) as report:
                yield report
        else:
            yield self._lines(name)
        self.say(f"{name}: done in {time.monotonic() - began:.1f} s")

    def say(self, text: str) -> None:
        """A line of its own, also beside a bar."""
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)  # noqa: T201 (the command line talks)

    @contextmanager
    def _bar(self, name: str) -> Iterator[Report]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[detail]}"),
        )
        with Progress(*columns, console=self._terminal, transient=True) as progress:
            task = progress.add_task(name, total=None, rate="", detail="")
            began = time.monotonic()
            first: list[int] = []

            def report(done: int, total: int, detail: str = "") -> None:
                first.append(done) if not first else None
                rate = (done - first[0]) / max(time.monotonic() - began, 1e-9)
                known = total or None
                progress.update(task, completed=done, total=known, rate=_spoken(rate), detail=detail)

            yield report

    def _lines(self, name: str) -> Report:
        began = last = time.monotonic()
        first: list[int] = []

        def report(done: int, total: int, detail: str = "") -> None:
            nonlocal last
            now = time.monotonic()
            if not first:
                first.append(done)
            if now - last < SECONDS_BETWEEN_LINES:
                return
            last = now
            rate = (done - first[0]) / max(now - began, 1e-9)
            left = (total - done) / rate if rate > 0 else float("nan")
            words = f"{name}: {done:,}, {_spoken(rate)}"
            if total:
                words = f"{name}: {done:,} of {total:,}, {_spoken(rate)}, {left:.0f} s left"
            self.say(f"{words}, {detail}" if detail else words)

        return report


def _spoken(rate: float) -> str:
    """A rate per second, or per minute where that is a number of some size."""
    return f"{rate:,.0f}/s" if rate >= SLOW else f"{60 * rate:,.0f}/min"
