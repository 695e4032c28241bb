"""A harvest: a whole list of records from an OAI-PMH repository, into the parquet that a build reads.

While it is under way a folder stands beside the parquet (`spool.py`); Ctrl-C, kill -9 and power cuts cost the
page that was being read. The parquet appears whole, at the end.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Protocol, Self

from sae_core.corpus import save_corpus
from sae_core.errors import SourceError
from sae_core.sources.oai import Page
from sae_core.sources.repository import PAUSE, Query, Repository, is_arxiv
from sae_core.sources.spool import KEPT, Spool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

MAX_IDLE = 25  # pages in a row without a new record: then the list has no end
MAX_RESTARTS = 2  # tokens that expire within one run
TIMEOUT = 180.0  # seconds for one page; arXiv has taken a minute
NOTES = "saefari.harvest"  # in the metadata of the parquet


class Progress(Protocol):
    """Told how many records have come, of how many (0: nobody knows)."""

    def __call__(self, done: int, total: int) -> None: ...


@dataclass(frozen=True)
class Options:
    """How a query is asked, and how much of it is kept."""

    limit: int | None = None  # documents
    pause: float = PAUSE  # seconds from one request to the next
    timeout: float = TIMEOUT  # seconds for one page
    again: bool = False  # drop what is there, and ask everything anew


@dataclass(frozen=True)
class Plan:
    """What a harvest will take, as far as its first page tells."""

    n_read: int  # records that have come already
    n_left: int | None  # records to come; None: nobody knows
    page_size: int
    pause: float

    def seconds(self, n: int) -> float:
        """The least time that requests for `n` records take."""
        return self.pause * math.ceil(n / max(1, self.page_size))

    def __str__(self) -> str:
        """In words."""
        there = f"{self.n_read:,} records have come, in pages of about {self.page_size:,}."
        if self.n_left is None:
            least = _spoken(self.seconds(100_000))
            return f"{there} The repository does not say how many there are; 100,000 take {least} or more"
        return (
            f"{there} {self.n_left:,} are to come, which takes {_spoken(self.seconds(self.n_left))} or more"
        )


@dataclass(frozen=True)
class Outcome:
    """What came of a harvest."""

    path: Path
    n_documents: int
    counts: dict[str, int]  # what else came, and what was wrong with some -> how often
    harvested: str  # the day


class Harvest:
    """One query into one file: `with Harvest(query, file) as job`, then `finished` or `begin` and `run`.

    `notice` is told why something has to be asked again.
    Entering it raises BusyError if another process harvests into the same file, SourceError if the file or
    its folder belong to something else, ArtifactError if they cannot be used.
    """

    def __init__(
        self,
        query: Query,
        out: Path,
        options: Options | None = None,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.query, self.out, self._notice = query, out, notice
        self.options = options or Options()
        if is_arxiv(query.url) and self.options.pause < PAUSE:
            what = f"arXiv asks for {PAUSE:g} s between requests, and --pause {self.options.pause:g} is less."
            raise SourceError(what, remedy="Leave it out.")
        self._key = json.dumps(asdict(query), sort_keys=True)
        self._n_restarts = 0

    def __enter__(self) -> Self:
        again = self.options.again
        self.finished = None if again else self._find_finished()
        if self.out.exists() and not (again or self.finished):
            what = f"{self.out} is there already, and is not this harvest."
            raise SourceError(
                what, remedy="Choose another file with --out, or replace this one with --again."
            )
        folder = self.out.with_name(f"{self.out.name}.harvest")
        self._spool = Spool(folder, self._key, str(self.query), again=again)
        pause, timeout = self.options.pause, self.options.timeout
        self._repository = Repository(self.query, pause, timeout, self._notice, asked=self._spool.age)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._repository.close()
        self._spool.close(drop=self.finished is not None or not self._spool.place.n_pages)

    def _find_finished(self) -> Outcome | None:
        """What the file holds, if an earlier run has finished this very harvest."""
        notes = _notes(self.out)
        if notes.get("key") != self._key or notes.get("limit") != self.options.limit:
            return None
        return Outcome(self.out, notes["documents"], notes["counts"], notes["harvested"])

    def begin(self) -> Plan:
        """Ask for the first page unless it is there, and say what the rest will take."""
        if not self._spool.place.n_pages:
            self._step()
        place, limit = self._spool.place, self.options.limit
        left = None if place.size is None else max(0, place.size - place.n_read)
        if limit is not None:
            share = max(1, place.n_documents) / max(1, place.n_read)
            wanted = math.ceil(max(0, limit - place.n_documents) / share)
            left = wanted if left is None else min(left, wanted)
        left = 0 if self._is_done else left
        return Plan(place.n_read, left, math.ceil(place.n_read / max(1, place.n_pages)), self.options.pause)

    def run(self, progress: Progress) -> Outcome:
        """Ask for page after page to the end, then write the file, and leave nothing else behind.

        Raises SourceError when the repository gives no more; what has come stays for the next run.
        """
        plan = self.begin()
        total = 0 if plan.n_left is None else plan.n_read + plan.n_left
        progress(plan.n_read, total)
        while not self._is_done:
            self._step()
            progress(self._spool.place.n_read, total)
        return self._publish()

    @property
    def _is_done(self) -> bool:
        place, limit = self._spool.place, self.options.limit
        return place.is_whole or (limit is not None and place.n_documents >= limit)

    def _step(self) -> None:
        """One page more."""
        token = self._spool.place.token
        page = self._repository.page(token)
        codes = [code for code, _ in page.errors]
        if token and "badResumptionToken" in codes:
            self._begin_again()
        elif token and "noRecordsMatch" in codes:
            self._spool.add(Page([], "", None, []))  # how some repositories end a list
        elif page.errors:
            raise self._refusal(*page.errors[0])
        elif page.unread:
            what = f"{self.query.url} sends records in a format that is not read: {page.unread}."
            raise SourceError(what, remedy="Every repository has the format oai_dc: --prefix oai_dc.")
        else:
            is_used = bool(page.token) and self._spool.has_seen(page.token)
            self._spool.add(page)
            self._check_end(is_used=is_used)

    def _check_end(self, *, is_used: bool) -> None:
        """Refuse a list that has no end. A token may come again only with records that have not come yet."""
        place = self._spool.place
        if is_used and place.n_idle:
            what = f"{self.query.url} leads back to pages that it has sent: its list has no end."
        elif place.token and place.n_idle >= MAX_IDLE:
            what = f"{self.query.url} sent {place.n_idle} pages in a row without a new record."
        else:
            return
        raise SourceError(what, remedy=self._remedy_for_endless)

    @property
    def _remedy_for_endless(self) -> str:
        n = self._spool.place.n_documents
        part = "Ask for a part of it, with --set, --from and --until"
        return f"{part}, or take the {n:,} documents that are there with --max {n}." if n else f"{part}."

    def _begin_again(self) -> None:
        """A token that has expired leaves no way but the list from its beginning."""
        self._n_restarts += 1
        if self._n_restarts > MAX_RESTARTS:
            what = f"{self.query.url} forgets its resumption tokens before they are used."
            raise SourceError(what, remedy=self._remedy_for_endless)
        self._spool.clear()
        self._notice(f"{self.query.url} does not know its resumption token any more: the list begins again")

    def _refusal(self, code: str, message: str) -> SourceError:
        if code == "noRecordsMatch":
            remedy = "Ask for more days, or for another set."
            return SourceError(f"There is no record of {self.query}.", remedy=remedy)
        what = f"{self.query.url} refuses the request: {message.rstrip('.') or code} ({code})."
        return SourceError(what, remedy=_REMEDIES.get(code, "Check the address of the repository."))

    def _publish(self) -> Outcome:
        place, limit = self._spool.place, self.options.limit
        n = place.n_documents if limit is None else min(limit, place.n_documents)
        counts = {name: count for name, count in place.counts.items() if name != KEPT}
        if not n:
            why = ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "no record at all"
            raise SourceError(f"There is no text in {self.query}: {why}.", remedy="Ask for another set.")
        outcome = Outcome(self.out, n, counts, datetime.now(UTC).date().isoformat())
        notes = {"key": self._key, "limit": limit, "documents": n, "counts": counts}
        notes["harvested"] = outcome.harvested
        save_corpus(self._spool.documents(limit), self.out, {NOTES: json.dumps(notes)})
        self.finished = outcome
        return outcome


_REMEDIES = {
    "badArgument": "Check --set, --prefix, --from and --until.",
    "cannotDisseminateFormat": "Every repository has the format oai_dc: --prefix oai_dc.",
    "noSetHierarchy": "It has no sets: leave out --set.",
    "badResumptionToken": "Try again later.",
}


def check_days(since: str, until: str) -> None:
    """Refuse what is no day, or no span of days, with a SourceError."""
    days = [_day(option, text) for option, text in (("--from", since), ("--until", until)) if text]
    if days != sorted(days):
        raise SourceError(f"--from {since} is after --until {until}.", remedy="Exchange them.")
    if since and days[0] > datetime.now(UTC).date():
        raise SourceError(f"--from {since} is in the future.", remedy="Check the year.")


def _day(option: str, text: str) -> date:
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):  # Python knows other ways, repositories do not
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise SourceError(f"{option} {text} is no day.", remedy="Write it as 2024-01-31.")


def _notes(path: Path) -> dict[str, Any]:
    """What a harvest has noted in its file; empty if there is none, or it is somebody else's."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        notes = json.loads(pq.read_schema(path).metadata[NOTES.encode()])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return {}
    is_ours = isinstance(notes, dict) and {"documents", "counts", "harvested"} <= notes.keys()
    return notes if is_ours else {}


def _spoken(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:,.0f} s"
    hours, rest = divmod(minutes, 60)
    return f"{hours:,} h {rest} min" if hours else f"{minutes} min"
