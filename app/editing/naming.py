"""What people call features and families, as pages need it: in memory, and no older than a second.

Whoever reads asks no database: a task of the server's looks every second whether something was written. For
whom has signed in it is asked at each request: nobody misses what they have just stored, whichever process
answers.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from dataclasses import dataclass

from app.authored.audit import find_mark
from app.authored.engines import DatabaseError
from app.authored.labels import LabelText, find_said
from app.authored.store import Store
from app.called import Homes, Words
from app.deps import Library
from sae_core.errors import BusyError

log = logging.getLogger("saefari")

SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(frozen=True)
class _State:
    """What was written at some moment."""

    began: int  # which look it was
    mark: str
    homes: Homes


class Naming:
    """Keeps what people call things beside the library. Safe between threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._looks = itertools.count(1)
        self._lock = threading.Lock()
        self._state = _State(0, "", {})
        self._called: tuple[Library, _State, Library] | None = None
        self.renew()

    def renew(self) -> None:
        """Look whether something was written since; where the database cannot be asked, all stays."""
        began, known = next(self._looks), self._state
        try:
            with self._store.read() as session:
                mark = find_mark(session)
                homes = known.homes if mark == known.mark else _by_home(find_said(session))
        except (DatabaseError, BusyError) as error:
            log.error("What people write could not be looked at: %s", error)  # noqa: TRY400 (a sentence)
            return
        with self._lock:
            if began > self._state.began:  # else somebody began later, and saw more
                self._state = _State(began, mark, homes)

    def over(self, library: Library) -> Library:
        """The library with what people call its features and families."""
        state, known = self._state, self._called
        if known is None or known[0] is not library or known[1].mark != state.mark:
            known = self._called = (library, state, library.called(state.homes, f"written {state.mark}"))
        return known[2]

    async def watch(self) -> None:
        """Look every second until cancelled; then a look that has begun ends first."""
        while True:
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
            look = asyncio.create_task(asyncio.to_thread(self.renew))
            try:
                await asyncio.shield(look)
            finally:
                await look


def _by_home(said: dict[tuple[str, str, str], dict[int, LabelText]]) -> Homes:
    return {
        (collection, sae): Words(
            said.get((collection, sae, "feature"), {}), said.get((collection, sae, "family"), {})
        )
        for collection, sae, _ in said
    }
