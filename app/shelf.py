"""The collections that a server shows, and their replacement while it goes on answering.

A published generation takes the place of what is served when it is whole: read, checked, and with its
encoder. A request keeps the library that it began with (`app.deps.get_library`), so one answer never mixes
two generations; what is replaced is freed when its last request has ended. A generation that cannot be read
changes nothing but `/ready` and the log.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from contextlib import suppress

from app.deps import Library
from app.settings import Settings
from sae_core.embed import is_remote

log = logging.getLogger("saefari")


class Shelf:
    """Keeps `library`: replaced whole, never changed."""

    def __init__(self, settings: Settings, library: Library | None = None) -> None:
        self._settings = settings
        self._is_fixed = library is not None
        self.library = Library.load(settings.home) if library is None else library
        self._is_untidy = not self._is_fixed
        self._hung_up = asyncio.Event()
        self._tidy()

    async def watch(self) -> None:
        """Look for published generations until cancelled: every so often, and at once after a SIGHUP."""
        if self._is_fixed:
            return
        pause = self._settings.renew_seconds or None
        with suppress(RuntimeError, NotImplementedError):  # only the main thread can be sent signals
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hung_up.set)
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hung_up.wait(), pause)
            self._hung_up.clear()
            await asyncio.to_thread(self.renew)

    def renew(self) -> None:
        """Serve what has been published since."""
        before = self.library
        try:
            library = before.renewed(self._settings.home)
            if library is before:
                self._tidy()
                return
            _load_encoders(library, self._settings)  # those of what stays are there
            self.library = library
        except Exception:
            log.exception("What was published could not be looked at; the server goes on with what it has")
            return
        _close(before, library)
        self._is_untidy = True

    def load_encoders(self) -> None:
        """Load the encoders of what is served; seconds."""
        _load_encoders(self.library, self._settings)

    def close(self) -> None:
        self.library.close()

    def _tidy(self) -> None:
        """What was loaded stays, so looking through it for garbage would hold up everybody.

        One look later than a replacement, when requests that began before it have ended.
        """
        if self._is_untidy:
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            self._is_untidy = False


def _close(before: Library, after: Library) -> None:
    """Say what changed, and close what is not served any more."""
    for name, collection in after.collections.items():
        if before.collections.get(name) is not collection:
            log.warning("%s is served from generation %s now", name, collection.explorer.generation)
    for name, collection in before.collections.items():
        if after.collections.get(name) is not collection:
            collection.catalog.close()


def _load_encoders(library: Library, settings: Settings) -> None:
    """Give each explorer that waits for it its encoder. A failure is the explorer's state, not an error."""
    endpoint = settings.encoder_endpoint(timeout=settings.embed_seconds, limit=settings.embed_seconds)
    explorers = [collection.explorer for collection in library.collections.values()]
    # Those behind an endpoint come last: the others need not wait for one that does not answer.
    for explorer in sorted(explorers, key=lambda explorer: is_remote(explorer.embedder_spec)):
        if explorer.embedder_state != "loading":
            continue
        try:
            explorer.load_encoder(endpoint=endpoint)
        except Exception as error:
            log.exception("The encoder of %s could not be loaded", explorer.name)
            explorer.embedder_state, explorer.embedder_problem = "failed", f"{type(error).__name__}."
