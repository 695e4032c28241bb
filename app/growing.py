"""Families under other parameters, found one configuration at a time, in a thread of its own.

Most configurations take a fraction of a second, and the request waits for them. One that takes longer goes
on without it: who asks again, asks the same job. Nothing is lost when a browser leaves, and nothing is
written: the answers are kept in memory, as many as fit.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import Response

from app import urls
from app.deps import ServedSAE
from app.forest import ServedForest, definition
from app.pages import page
from app.query import FamilyQuery
from app.views.families import GrowingView
from sae_core.errors import SaefariError
from sae_core.families import FamilyConfig, is_quick

PATIENCE = 1.5  # seconds that a request waits
MAX_UNFINISHED = 8
SECONDS_UNTIL_RETRY = "2"

Key = tuple[ServedSAE, FamilyConfig]  # that very SAE: of another generation it has other documents


class TooManyJobs(SaefariError):
    """So many configurations are waiting that another would not come up in reasonable time."""

    def __init__(self) -> None:
        super().__init__(
            f"{MAX_UNFINISHED} other sets of parameters are being tried already.",
            remedy="Try again in a minute, or use the families as they were built.",
        )


@dataclass(frozen=True)
class Growing:
    """A forest that is not there yet."""

    seconds: float  # since it was asked for
    n_ahead: int  # jobs that come first


@dataclass(frozen=True)
class _Job:
    began: float
    forest: Future[ServedForest]


class Grower:
    """Asked from the event loop alone."""

    def __init__(self, *, patience: float = PATIENCE) -> None:
        self.patience = patience
        self._pool = ThreadPoolExecutor(1, "families")
        self._jobs: dict[Key, _Job] = {}  # that have not ended

    async def forest(self, sae: ServedSAE, config: FamilyConfig) -> ServedForest | Growing:
        """The families of `sae` under `config`, or how long they have been waited for."""
        if config == sae.forest.config:
            return sae.forest
        if (known := sae.grown.get(config)) is not None:
            return known.called(sae)
        job = self._jobs.get((sae.built, config)) or self._begin(sae.built, config)
        if not job.forest.done():
            finished = asyncio.Event()
            loop = asyncio.get_running_loop()
            job.forest.add_done_callback(lambda _: loop.call_soon_threadsafe(finished.set))
            with suppress(TimeoutError):
                await asyncio.wait_for(finished.wait(), self.patience)
        if not job.forest.done():
            n_ahead = sum(other.began < job.began for other in self._jobs.values())
            return Growing(time.monotonic() - job.began, n_ahead)
        return job.forest.result().called(sae)

    def _begin(self, sae: ServedSAE, config: FamilyConfig) -> _Job:
        if len(self._jobs) >= MAX_UNFINISHED:
            raise TooManyJobs

        def grow() -> ServedForest:
            forest = ServedForest(sae, sae.set.grow(config))
            sae.grown.put(config, forest)
            return forest

        job = self._jobs[sae, config] = _Job(time.monotonic(), self._pool.submit(grow))
        job.forest.add_done_callback(lambda _: self._jobs.pop((sae, config), None))
        return job

    def close(self) -> None:
        """Forget what has not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def get_grower(request: Request) -> Grower:
    grower: Grower = request.app.state.grower
    return grower


def growing_page(request: Request, query: FamilyQuery, growing: Growing, block: str) -> Response:
    """What is shown until the forest is there: asked for again in a while, it is the page itself."""
    url = query.url()
    view = GrowingView(
        collection=query.collection,
        sae=query.sae,
        definition=definition(query.config),
        is_quick=is_quick(query.config),
        seconds=growing.seconds,
        n_ahead=growing.n_ahead,
        block=block,
        stored_url=query.url(config=query.stored, family=None, page=1),
        url=url,
        json_url=urls.json(url),
    )
    return page(request, "growing", view, status=202, headers={"Retry-After": SECONDS_UNTIL_RETRY})
