"""The parent of several serving processes: starts another one where one ends, and stops them all."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from uvicorn.supervisors import Multiprocess


class Supervisor(Multiprocess):
    """Whose workers leave Ctrl-C, which a terminal sends to every process, to their parent."""

    def init_processes(self) -> None:
        with _unheard(signal.SIGINT):
            super().init_processes()

    def keep_subprocess_alive(self) -> None:
        with _unheard(signal.SIGINT):
            super().keep_subprocess_alive()

    def restart_all(self) -> None:
        with _unheard(signal.SIGINT):
            super().restart_all()


@contextmanager
def _unheard(number: signal.Signals) -> Iterator[None]:
    """Hold back a signal here for a moment, and for good in processes that are started meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
