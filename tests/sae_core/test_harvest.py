"""Harvests against a real server that misbehaves: nothing lost, nothing doubled, nothing believed."""

from __future__ import annotations

import gzip
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from sae_core.corpus import load_corpus
from sae_core.errors import ArtifactError, BusyError, SaefariError, SourceError
from sae_core.sources import harvest as harvests
from sae_core.sources import repository as client
from sae_core.sources.harvest import Harvest, Options, Outcome, Plan, check_days
from sae_core.sources.repository import Query
from sae_core.sources.spool import Spool
from tests.language_model import HANG, RESET, Raw
from tests.oai_repository import (
    HEAD,
    TAIL,
    Ask,
    Fault,
    Repository,
    arxiv_record,
    dublin_core_record,
    error,
    listing,
    page,
    record,
    repository,
)

N = 35  # records: four pages of ten
RECORDS = [arxiv_record(n) for n in range(N)]
IDS = [f"2401.{n:05}" for n in range(N)]
LATER = {"Retry-After": "0"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are as long as ever, in thousandths of seconds."""
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.004)
    monkeypatch.setattr(client, "LONGEST_PAUSE", 0.02)
    monkeypatch.setattr(harvests, "MAX_IDLE", 6)


def run(server: Repository, folder: Path, *, prefix: str = "arXiv", **options: float | None) -> Outcome:
    """Harvest everything into `corpus.parquet`."""
    chosen = Options(**{"pause": 0.0, "timeout": 5.0, **options})  # type: ignore[arg-type]
    with Harvest(Query(server.url, prefix), folder / "corpus.parquet", chosen) as job:
        return job.finished or job.run(lambda *_: None)


def ids(folder: Path) -> list[str]:
    return [document.id for document in load_corpus(folder / "corpus.parquet").documents]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def once(raw: Raw, *, at: str = "at 10", times: int = 1) -> Fault:
    """Answer so the first times that the page is asked for."""
    asked: list[str] = []

    def fault(ask: Ask) -> Raw | None:
        asked.append(ask.token)
        return raw if ask.token == at and asked.count(at) <= times else None

    return fault


# --- a list from beginning to end ------------------------------------------------------------------


def test_a_list_becomes_a_corpus_and_leaves_nothing_else(tmp_path: Path) -> None:
    with repository(RECORDS) as server:
        outcome = run(server, tmp_path)
    assert server.tokens == ["", "at 10", "at 20", "at 30"]
    assert server.asks[0].arguments == {"verb": "ListRecords", "metadataPrefix": "arXiv"}
    assert server.asks[1].arguments == {"verb": "ListRecords", "resumptionToken": "at 10"}
    assert "Saefari" in server.asks[0].headers["user-agent"]
    assert (outcome.n_documents, outcome.counts) == (N, {})
    assert ids(tmp_path) == IDS
    assert names(tmp_path) == ["corpus.parquet"]
    assert load_corpus(tmp_path / "corpus.parquet").rejected == []


def test_set_and_days_are_asked_for_and_other_parameters_of_the_address_stay(tmp_path: Path) -> None:
    with repository(RECORDS) as server:
        url = f"{server.url}?verb=Identify&db=2#top"
        query = Query(url, "arXiv", "physics:astro-ph", "2024-01-01", "2024-02-01")
        with Harvest(query, tmp_path / "c.parquet", Options(pause=0.0)) as job:
            job.run(lambda *_: None)
    first, second, *_ = (ask.arguments for ask in server.asks)
    assert first == {"db": "2", "verb": "ListRecords", "metadataPrefix": "arXiv", "set": "physics:astro-ph",
                     "from": "2024-01-01", "until": "2024-02-01"}  # fmt: skip
    assert second == {"db": "2", "verb": "ListRecords", "resumptionToken": "at 10"}


def test_a_harvest_that_is_finished_asks_nothing(tmp_path: Path) -> None:
    with repository(RECORDS) as server:
        first = run(server, tmp_path)
        n_asked = len(server.asks)
        assert run(server, tmp_path) == first
        assert len(server.asks) == n_asked
        server.records = RECORDS[:12]
        assert run(server, tmp_path, again=True).n_documents == 12
    assert len(server.asks) == n_asked + 2
    assert names(tmp_path) == ["corpus.parquet"]


def test_deleted_doubled_changed_and_empty_records_are_told_apart(tmp_path: Path) -> None:
    records = [
        *RECORDS[:8],
        arxiv_record(90, status="deleted"),
        arxiv_record(91, abstract=" "),
        arxiv_record(1),  # again, the same
        arxiv_record(2, title="A new version"),
        arxiv_record(3, status="deleted"),
        arxiv_record(90),  # it is back
        record("", "<metadata/>"),
        record("x", ""),
    ]
    with repository(records, page_size=9) as server:
        outcome = run(server, tmp_path)
    assert ids(tmp_path) == [*IDS[:3], *IDS[4:8], "2401.00090"]
    assert load_corpus(tmp_path / "corpus.parquet").documents[2].title == "A new version"
    assert outcome.n_documents == 8
    assert outcome.counts == {
        "deleted": 1,
        "without a text": 2,
        "without an identifier": 1,
        "listed more than once": 4,
    }


def test_the_first_documents_are_enough_where_a_limit_says_so(tmp_path: Path) -> None:
    with repository(RECORDS) as server:
        assert run(server, tmp_path, limit=12).n_documents == 12
    assert server.tokens == ["", "at 10"]
    assert ids(tmp_path) == IDS[:12]


@pytest.mark.parametrize("says_size", [True, False])
def test_what_it_will_take_is_said_after_the_first_page(says_size: bool, tmp_path: Path) -> None:
    with (
        repository(RECORDS, says_size=says_size) as server,
        Harvest(Query(server.url, "arXiv"), tmp_path / "c.parquet", Options(pause=60.0)) as job,
    ):
        plan = job.begin()
    assert plan == Plan(10, 25 if says_size else None, 10, 60.0)
    assert ("25 are to come, which takes 3 min or more" in str(plan)) is says_size
    assert (
        "does not say how many there are; 100,000 take 166 h 40 min or more" in str(plan)
    ) is not says_size
    assert names(tmp_path) == ["c.parquet.harvest"]  # the page is kept for the run


def test_a_plan_knows_the_limit(tmp_path: Path) -> None:
    def plan(limit: int, name: str) -> Plan:
        options = Options(limit=limit, pause=0.0)
        with Harvest(Query(server.url, "arXiv"), tmp_path / name, options) as job:
            return job.begin()

    with repository(RECORDS, says_size=False) as server:
        assert plan(30, "a.parquet").n_left == 20
        assert plan(10, "b.parquet").n_left == 0


def test_progress_has_the_size_of_the_list_or_0(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    for says_size in (True, False):
        with (
            repository(RECORDS, says_size=says_size) as server,
            Harvest(Query(server.url, "arXiv"), tmp_path / f"{says_size}.parquet", Options(pause=0.0)) as job,
        ):
            job.run(lambda done, total: told.append((done, total)))
    expected = [(10, N), (20, N), (30, N), (35, N)]
    assert told == [*expected, *((done, 0) for done, _ in expected)]


# --- a polite rate ---------------------------------------------------------------------------------


def times_of(server: Repository) -> list[float]:
    """When requests come in, filled as they do."""
    times: list[float] = []

    def note(_: Ask) -> None:
        times.append(time.monotonic())

    server.fault = note
    return times


def test_requests_keep_their_distance_also_between_runs(tmp_path: Path) -> None:
    with repository(RECORDS[:30]) as server:
        times = times_of(server)
        options = Options(pause=0.5)
        with Harvest(Query(server.url, "arXiv"), tmp_path / "c.parquet", options) as job:
            job.begin()
        with Harvest(Query(server.url, "arXiv"), tmp_path / "c.parquet", options) as job:
            job.run(lambda *_: None)
    assert len(times) == 3
    # They are sent so far apart; on a busy machine the earlier one may arrive late.
    assert min(times[1] - times[0], times[2] - times[1]) >= 0.4


def test_arxiv_is_never_asked_faster_than_it_wants(tmp_path: Path) -> None:
    for url in ("https://oaipmh.arxiv.org/oai", "http://export.arxiv.org./oai2"):
        with pytest.raises(SourceError, match="arXiv asks for 3 s"):
            Harvest(Query(url, "arXiv"), tmp_path / "c.parquet", Options(pause=2.9))


@pytest.mark.parametrize(("status", "skew"), [(429, None), (503, 0), (503, 86_400)])
def test_retry_after_is_honoured_whatever_the_time_there(
    status: int, skew: int | None, tmp_path: Path
) -> None:
    headers = {"Retry-After": "0.4"}
    now = datetime.now(UTC) + timedelta(seconds=skew or 0)  # by their clock, which may be wrong
    if skew is not None:
        headers = {"Retry-After": format_datetime(now + timedelta(seconds=2), usegmt=True)}
    with repository(RECORDS[:1]) as server:
        times: list[float] = []

        def fault(_: Ask) -> Raw | None:
            times.append(time.monotonic())
            return Raw(status, b"slow down", headers) if len(times) == 1 else None

        server.fault = fault
        server.date = format_datetime(now, usegmt=True) if skew else ""
        run(server, tmp_path)
    assert len(times) == 2
    assert 0.35 <= times[1] - times[0] < 5


def test_who_wants_a_very_long_pause_is_left_in_peace(tmp_path: Path) -> None:
    raw = Raw(503, b"", {"Retry-After": "86400"})
    with repository(RECORDS, fault=once(raw)) as server:
        with pytest.raises(SourceError, match=r"asks to wait 86,400 s\. The same command goes on"):
            run(server, tmp_path)
        assert len(server.asks) == 2
        run(server, tmp_path)
    assert server.tokens == ["", "at 10", "at 10", "at 20", "at 30"]
    assert ids(tmp_path) == IDS


def test_a_clock_that_was_set_back_here_costs_one_pause(tmp_path: Path) -> None:
    with repository(RECORDS[:20]) as server:
        times = times_of(server)
        options = Options(pause=0.5)
        with Harvest(Query(server.url, "arXiv"), tmp_path / "c.parquet", options) as job:
            job.begin()
        soon = time.time() + 60
        for path in tmp_path.rglob("records.sqlite"):
            os.utime(path, (soon, soon))
        with Harvest(Query(server.url, "arXiv"), tmp_path / "c.parquet", options) as job:
            job.run(lambda *_: None)
    assert len(times) == 2
    assert 0.4 <= times[1] - times[0] < 50


@pytest.mark.parametrize("stamp", ["2999-12-31", "1969-07-20T20:17:40Z", "0000-00-00", "yesterday", ""])
def test_dates_of_a_wrong_clock_there_change_nothing(stamp: str, tmp_path: Path) -> None:
    """Of records, of the answer, of the token and of the protocol below it."""
    records = [each.replace("2024-05-06", stamp) for each in RECORDS]
    head = HEAD.replace("2026-11-23T12:00:00Z", stamp)

    def fault(ask: Ask) -> Raw:
        start = int(ask.token.removeprefix("at ") or 0)
        token = f"at {start + 10}" if start + 10 < N else ""
        text = listing(records[start : start + 10], token, head=head)
        return page(text.replace("<resumptionToken", f'<resumptionToken expirationDate="{stamp}"'))

    with repository(records, fault=fault) as server:
        server.date = "Thu, 31 Dec 2099 23:59:59 GMT"
        run(server, tmp_path)
    assert ids(tmp_path) == IDS
    years = {document.year for document in load_corpus(tmp_path / "corpus.parquet").documents}
    assert years == {2024}  # of the identifiers


# --- faults that pass ------------------------------------------------------------------------------

GOOD = listing(RECORDS[10:20], "at 20", N)
ZIPPED = gzip.compress(GOOD.encode())
GZIP = {"Content-Encoding": "gzip"}


@pytest.mark.parametrize(
    "raw",
    [
        Raw(500, b"<h1>oops</h1>"),
        Raw(502),
        Raw(503, b"busy", LATER),
        Raw(429, b"", {"Retry-After": "soon"}),
        RESET,
        Raw(body=GOOD.encode(), headers={"Content-Length": str(len(GOOD) + 9)}, n_parts=2),
        page(GOOD[: len(GOOD) // 2]),
        page("<!DOCTYPE html><html><body>Maintenance</body></html>", **{"Content-Type": "text/html"}),
        page(b""),
        page(ZIPPED[:-9], **GZIP),
        page(GOOD, **GZIP),
        page(GOOD, **{"Content-Encoding": "br"}),
    ],
    ids=[
        "500",
        "502",
        "503",
        "429",
        "reset",
        "short",
        "truncated",
        "html",
        "empty",
        "half gzip",
        "no gzip",
        "br",
    ],
)
def test_a_fault_that_passes_costs_nothing_but_time(raw: Raw, tmp_path: Path) -> None:
    # A body that is shorter than it says has to be closed by the server.
    fault = once(
        raw if raw.n_parts == 1 else Raw(**{**vars(raw), "headers": {**raw.headers, "Connection": "close"}})
    )
    with repository(RECORDS, fault=fault) as server:
        outcome = run(server, tmp_path, timeout=1.0)
    assert server.tokens == ["", "at 10", "at 10", "at 20", "at 30"]
    assert ids(tmp_path) == IDS
    assert outcome.counts == {}


@pytest.mark.parametrize(
    "raw", [HANG, Raw(body=GOOD.encode(), pause=0.2, n_parts=50)], ids=["hangs", "drips"]
)
def test_an_answer_that_does_not_come_is_asked_for_again(raw: Raw, tmp_path: Path) -> None:
    with repository(RECORDS, fault=once(raw)) as server:
        run(server, tmp_path, timeout=0.4)
    assert ids(tmp_path) == IDS


@pytest.mark.parametrize("members", [1, 3])
def test_gzip_is_unpacked(members: int, tmp_path: Path) -> None:
    size = len(GOOD) // members + 1
    packed = b"".join(gzip.compress(GOOD.encode()[i : i + size]) for i in range(0, len(GOOD), size))
    with repository(RECORDS, fault=once(page(packed, **GZIP))) as server:
        run(server, tmp_path)
    assert server.tokens == ["", "at 10", "at 20", "at 30"]
    assert ids(tmp_path) == IDS


def test_faulty_xml_is_repaired_and_counted(tmp_path: Path) -> None:
    with repository(RECORDS, fault=once(page(GOOD.replace("On the", "On &nbsp; the")))) as server:
        outcome = run(server, tmp_path)
    assert ids(tmp_path) == IDS
    assert outcome.counts == {"pages with faulty XML, repaired": 1}


def test_waiting_is_said_with_the_reason(tmp_path: Path) -> None:
    said: list[str] = []
    with (
        repository(RECORDS, fault=once(Raw(503, b"busy", LATER))) as server,
        Harvest(Query(server.url, "arXiv"), tmp_path / "c", Options(pause=0.0), said.append) as job,
    ):
        job.run(lambda *_: None)
    assert said == [f"{server.url} answers 503 (busy). Asking again in 0 s"]


def test_pages_without_records_are_passed(tmp_path: Path) -> None:
    with repository(RECORDS, fault=once(page(listing([], "at 10")), at="")) as server:
        run(server, tmp_path)
    assert ids(tmp_path) == IDS[10:]


@pytest.mark.parametrize("says_size", [True, False])
def test_a_page_of_no_records_anywhere_ends_nothing_as_long_as_there_is_a_token(
    says_size: bool, tmp_path: Path
) -> None:
    """In the middle, twice in a row, and as the last page."""

    def fault(ask: Ask) -> Raw:
        places = [0, None, None, 10, 20, None, 30, None]
        at = int(ask.token or 0)
        start, is_last = places[at], at == len(places) - 1
        shown = [] if start is None else RECORDS[start : start + 10]
        return page(listing(shown, "" if is_last else f"{at + 1}", N if says_size else None))

    with repository(RECORDS, fault=fault) as server:
        run(server, tmp_path)
    assert ids(tmp_path) == IDS
    assert len(server.asks) == 8


def test_some_repositories_end_a_list_with_no_records(tmp_path: Path) -> None:
    with repository(RECORDS, fault=once(error("noRecordsMatch"), at="at 30")) as server:
        run(server, tmp_path)
    assert ids(tmp_path) == IDS[:30]


@pytest.mark.parametrize(("at", "status"), [("at 10", 200), ("at 30", 422)])
def test_a_token_that_expired_begins_the_list_again(at: str, status: int, tmp_path: Path) -> None:
    records = list(RECORDS)

    def fault(ask: Ask) -> Raw | None:
        if ask.token == at and server.tokens.count(at) == 1:
            server.records = records[1:]  # one record is gone meanwhile
            return replace(error("badResumptionToken", "expired"), status=status)
        return None

    with repository(records) as server:
        server.fault = fault
        run(server, tmp_path)
    assert ids(tmp_path) == IDS[1:]  # as one harvest without a break finds it
    assert server.tokens.count("") == 2


def test_a_token_may_come_again_with_new_records(tmp_path: Path) -> None:
    """Some servers count pages on their side."""
    with repository(RECORDS) as server:

        def fault(ask: Ask) -> Raw:
            start = 10 * ask.number
            return page(listing(RECORDS[start : start + 10], "next" if start + 10 < N else ""))

        server.fault = fault
        run(server, tmp_path)
    assert ids(tmp_path) == IDS


# --- faults that stay ------------------------------------------------------------------------------


def failing(server: Repository, folder: Path, message: str, *, timeout: float = 5.0) -> SaefariError:
    with pytest.raises(SourceError, match=message) as caught:
        run(server, folder, timeout=timeout)
    assert caught.value.remedy
    assert not (folder / "corpus.parquet").exists()
    return caught.value


@pytest.mark.parametrize(
    ("code", "message", "remedy"),
    [
        ("badArgument", "refuses the request: Set x does not exist", "--set"),
        ("cannotDisseminateFormat", "cannotDisseminateFormat", "oai_dc"),
        ("noSetHierarchy", "noSetHierarchy", "leave out --set"),
        ("badVerb", "badVerb", "Check the address"),
        ("noRecordsMatch", "There is no record of http", "more days"),
        ("badResumptionToken", "badResumptionToken", "later"),
        ("", "Set x does not exist", "Check the address"),
    ],
)
def test_an_error_of_the_protocol_is_said_with_a_remedy(
    code: str, message: str, remedy: str, tmp_path: Path
) -> None:
    with repository([], fault=lambda _: error(code, "Set x does not exist.")) as server:
        assert remedy in failing(server, tmp_path, message).remedy
    assert len(server.asks) == 1
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("raw", "message", "n_asked"),
    [
        (Raw(404, b"no such page"), r"answers 404 \(no such page\)", 1),
        (Raw(403, b"<h1>blocked</h1>"), r"answers 403\.", 1),
        (Raw(204), "answers 204", 1),
        (replace(error("badArgument", "no such set"), status=422), r"no such set \(badArgument\)", 1),
        (replace(page(listing([])), status=410), r"answers 410\.", 1),
        (Raw(500, b"<h1>oops</h1>"), r"answers 500\.", client.TRIES_BUSY),
        (Raw(503, b"busy", LATER), r"answers 503 \(busy\)", client.TRIES_BUSY),
        (RESET, "broke the connection", client.TRIES_BROKEN),
        (Raw(body=b"x", headers={"Content-Length": "?"}), "broke the connection", client.TRIES_BROKEN),
        (page("<html>login</html>"), "sent an HTML page instead of XML", client.TRIES_UNUSABLE),
        (page("<rss/>"), "XML of another kind", client.TRIES_UNUSABLE),
        (page('{"error": "no"}'), "no well-formed XML", client.TRIES_UNUSABLE),
        (page("<!DOCTYPE a [<!ENTITY b 'c'>]><a/>"), "a document type declaration", client.TRIES_UNUSABLE),
        (page(HEAD + TAIL), "neither records nor an error", client.TRIES_UNUSABLE),
    ],
)
def test_a_fault_that_stays_ends_in_a_sentence(raw: Raw, message: str, n_asked: int, tmp_path: Path) -> None:
    with repository([], fault=lambda _: raw) as server:
        failing(server, tmp_path, message)
    assert len(server.asks) == n_asked
    assert names(tmp_path) == []


def test_a_repository_that_is_not_there_ends_in_a_sentence(tmp_path: Path) -> None:
    with repository([]) as server:
        pass
    failing(server, tmp_path, "cannot be reached")


def test_silence_ends_in_a_sentence(tmp_path: Path) -> None:
    with repository([], fault=lambda _: HANG) as server:
        assert "--timeout" in failing(server, tmp_path, r"within 0\.1 s", timeout=0.1).remedy


def test_a_format_that_is_not_read_ends_in_a_sentence(tmp_path: Path) -> None:
    marc = '<metadata><record xmlns="http://www.loc.gov/MARC21/slim"/></metadata>'
    with repository([record("x", marc)]) as server:
        assert "oai_dc" in failing(server, tmp_path, "not read: .*MARC21").remedy


def test_records_without_a_text_are_no_corpus(tmp_path: Path) -> None:
    records = [dublin_core_record("x", ("title", "Only a title")), arxiv_record(1, status="deleted")]
    with repository(records) as server:
        failing(server, tmp_path, "no text in .*: 1 without a text, 1 deleted|1 deleted, 1 without a text")


@pytest.mark.parametrize("zipped", [False, True])
def test_a_page_of_too_many_bytes_is_not_read_to_its_end(
    zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MAX_BYTES", 2**20)
    endless = b" " * 2**23
    raw = page(gzip.compress(endless, 1), **GZIP) if zipped else page(endless)
    with repository([], fault=lambda _: raw) as server:
        failing(server, tmp_path, "a page of more than 1 MiB")


def test_bombs_in_gzip_do_not_grow_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_BYTES", 2**20)
    twice = gzip.compress(gzip.compress(b" " * 2**23))
    with repository([], fault=lambda _: page(twice, **{"Content-Encoding": "gzip, gzip"})) as server:
        failing(server, tmp_path, "packed as 'gzip, gzip'")
    unpack = client._Unpacker()
    assert len(unpack(gzip.compress(b" " * 2**23), 1000)) == 1000


ENDLESS: dict[str, tuple[Callable[[Ask], Sequence[str]], Callable[[Ask], str], str]] = {
    "the same page for ever": (lambda _: RECORDS[:3], lambda _: "again", "leads back"),
    "in a circle": (lambda _: RECORDS[:3], lambda ask: f"{ask.number % 3}", "leads back"),
    "nothing, with new tokens": (lambda _: [], lambda ask: f"{ask.number}", "6 pages in a row"),
    "old records, new tokens": (lambda _: RECORDS[:3], lambda ask: f"{ask.number}", "6 pages in a row"),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_list_without_end_is_found_out(kind: str, tmp_path: Path) -> None:
    records, token, message = ENDLESS[kind]
    with repository([], fault=lambda ask: page(listing(records(ask), token(ask)))) as server:
        remedy = failing(server, tmp_path, message).remedy
        assert len(server.asks) <= harvests.MAX_IDLE + 2
        if "documents that are there" in remedy:
            assert run(server, tmp_path, limit=3).n_documents == 3  # as the remedy says, and nothing is asked
            assert remedy.endswith("--max 3.")
            assert ids(tmp_path) == IDS[:3]


def test_tokens_that_always_expire_end_in_a_sentence(tmp_path: Path) -> None:
    with repository(RECORDS, fault=once(error("badResumptionToken"), times=99)) as server:
        failing(server, tmp_path, "forgets its resumption tokens")


def test_a_token_that_fits_no_address_ends_in_a_sentence(tmp_path: Path) -> None:
    with repository(RECORDS, fault=once(page(listing(RECORDS[:3], "x" * 9_000)), at="")) as server:
        failing(server, tmp_path, "a resumption token of 9,000 characters")


# --- redirects -------------------------------------------------------------------------------------


def test_a_redirect_on_the_same_host_is_followed_once_for_all(tmp_path: Path) -> None:
    with repository(RECORDS) as server:
        moved = Raw(301, b"", {"Location": "/new?verb=ListRecords&x=1"})
        server.fault = lambda ask: moved if ask.path == "/oai" else None
        run(server, tmp_path)
    assert [ask.path for ask in server.asks] == ["/oai", "/new", "/new", "/new", "/new"]
    assert ids(tmp_path) == IDS


@pytest.mark.parametrize(
    "location",
    ["https://evil.example/oai", "http://127.0.0.1:1/oai", "file:///etc/passwd", "//x", "http://[", ""],
)
def test_a_redirect_to_elsewhere_is_not_followed_but_told(location: str, tmp_path: Path) -> None:
    with repository([], fault=lambda _: Raw(302, b"", {"Location": location})) as server:
        error = failing(server, tmp_path, "sends us to .*, which is not followed")
    assert location in error.what
    assert len(server.asks) == 1


@pytest.mark.parametrize(
    ("old", "location", "new"),
    [
        ("http://a.org/oai", "https://a.org/oai", "https://a.org/oai"),
        ("https://a.org/oai", "http://a.org/oai", ""),
        ("https://a.org/oai?db=1", "other?verb=x", "https://a.org/other?db=1"),
        ("https://a.org/oai", "https://a.org:8443/oai", ""),
        ("https://a.org/oai", "https://a.org.evil.example/oai", ""),
    ],
)
def test_a_redirect_never_leaves_encryption_or_host(old: str, location: str, new: str) -> None:
    asked = client.Repository(Query(old, "oai_dc"), 0.0, 1.0, lambda _: None, asked=0.0)
    try:
        if new:
            assert asked._moved(location) == new
        else:
            with pytest.raises(SourceError, match="not followed"):
                asked._moved(location)
    finally:
        asked.close()


def test_redirects_in_a_circle_end_in_a_sentence(tmp_path: Path) -> None:
    with repository([], fault=lambda ask: Raw(302, b"", {"Location": f"/{ask.number}"})) as server:
        failing(server, tmp_path, "from one address to the next")
    assert len(server.asks) == client.MAX_REDIRECTS + 1


# --- what is asked for -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "arxiv.org/oai",
        "ftp://a.org/oai",
        "http://",
        "http://[",
        "http://a.org:99999/",
        "http://me:pw@a.org/",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(SourceError, match="is not the address of a repository"):
        Query(url, "oai_dc")


@pytest.mark.parametrize(
    ("since", "until", "message"),
    [
        ("2024-02-30", "", "--from 2024-02-30 is no day"),
        ("", "yesterday", "--until yesterday is no day"),
        ("20240101", "", "is no day"),
        ("2024-W01-1", "", "is no day"),
        ("2024-02-01", "2024-01-01", "is after"),
        ("2999-01-01", "", "in the future"),
    ],
)
def test_days_that_cannot_be_meant_are_refused(since: str, until: str, message: str) -> None:
    check_days("2024-01-01", "2024-01-01")
    check_days("", "2999-01-01")
    with pytest.raises(SourceError, match=message):
        check_days(since, until)


# --- interrupted, and together ---------------------------------------------------------------------


def test_what_has_come_is_not_asked_for_again(tmp_path: Path) -> None:
    with repository(RECORDS, fault=once(Raw(404), at="at 20")) as server:
        with pytest.raises(SourceError, match="404"):
            run(server, tmp_path)
        assert names(tmp_path) == ["corpus.parquet.harvest"]
        run(server, tmp_path)
    assert server.tokens == ["", "at 10", "at 20", "at 20", "at 30"]
    assert ids(tmp_path) == IDS
    assert names(tmp_path) == ["corpus.parquet"]


def test_an_unfinished_harvest_is_not_mixed_with_another(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    with repository(RECORDS) as server:
        with Harvest(Query(server.url, "arXiv", "cs"), path, Options(pause=0.0)) as job:
            job.begin()
        with pytest.raises(SourceError, match=r"unfinished harvest of .*set cs.*--again"):
            Harvest(Query(server.url, "arXiv", "math"), path).__enter__()
        with Harvest(Query(server.url, "arXiv", "math"), path, Options(pause=0.0, again=True)) as job:
            assert job.run(lambda *_: None).n_documents == N
        assert names(tmp_path) == ["c.parquet"]
        with pytest.raises(SourceError, match=r"c\.parquet is there already.*--out.*--again"):
            Harvest(Query(server.url, "arXiv", "cs"), path).__enter__()


@pytest.mark.parametrize("content", [b"", b"PAR1 no", b"text"])
def test_a_file_of_somebody_else_is_not_replaced(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "corpus.parquet").write_bytes(content)
    with repository(RECORDS) as server, pytest.raises(SourceError, match="is there already"):
        run(server, tmp_path)
    assert (tmp_path / "corpus.parquet").read_bytes() == content
    assert names(tmp_path) == ["corpus.parquet"]
    assert server.asks == []


def test_two_processes_do_not_harvest_into_one_file(tmp_path: Path) -> None:
    with (
        repository(RECORDS) as server,
        Harvest(Query(server.url, "arXiv"), tmp_path / "corpus.parquet", Options(pause=0.0)) as job,
    ):
        job.begin()
        with pytest.raises(BusyError, match=r"Another process.*corpus\.parquet\.harvest"):
            run(server, tmp_path)
        with pytest.raises(BusyError, match="Another process"):
            run(server, tmp_path, again=True)
        job.run(lambda *_: None)
    assert ids(tmp_path) == IDS


def test_a_damaged_folder_is_dropped_only_if_one_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "corpus.parquet.harvest"
    folder.mkdir()
    (folder / "records.sqlite").write_bytes(b"no database " * 1000)
    with repository(RECORDS) as server:
        with pytest.raises(ArtifactError, match=r"cannot be used: .*--again"):
            run(server, tmp_path)
        assert server.asks == []
        run(server, tmp_path, again=True)
    assert ids(tmp_path) == IDS


def test_a_folder_of_another_version_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with repository(RECORDS, fault=once(Raw(404))) as server:
        with pytest.raises(SourceError, match="404"):
            run(server, tmp_path)
        monkeypatch.setattr("sae_core.sources.spool.FORMAT", "2")
        with pytest.raises(ArtifactError, match=r"another version of Saefari.*--again"):
            run(server, tmp_path)
        assert run(server, tmp_path, again=True).n_documents == N


def test_a_full_disk_is_a_sentence_and_keeps_what_was_there(tmp_path: Path) -> None:
    long = page(listing([arxiv_record(n, abstract="x " * 9_000) for n in range(10, 20)], "at 20"))
    with repository(RECORDS, fault=once(long)) as server:
        job = Harvest(Query(server.url, "arXiv"), tmp_path / "corpus.parquet", Options(pause=0.0))
        with job:
            job.begin()
            (n_pages,) = job._spool._database.execute("PRAGMA page_count").fetchone()
            job._spool._database.execute(f"PRAGMA max_page_count = {n_pages}")
            with pytest.raises(ArtifactError, match=r"The disk is full.*Free some space"):
                job.run(lambda *_: None)
        run(server, tmp_path)
    assert server.tokens == ["", "at 10", "at 10", "at 20", "at 30"]
    assert ids(tmp_path) == IDS


COMMAND = """
import sys
from pathlib import Path
from sae_core.sources.harvest import Harvest, Options
from sae_core.sources.repository import Query
with Harvest(Query(sys.argv[1], "arXiv"), Path(sys.argv[2]), Options(pause=0.0)) as job:
    job.run(lambda *_: None)
"""


def test_a_harvest_that_is_killed_anywhere_loses_and_doubles_nothing(tmp_path: Path) -> None:
    records = [arxiv_record(n) for n in range(600)]
    ends = {1: signal.SIGKILL, 4: signal.SIGINT, 8: signal.SIGKILL, 12: signal.SIGKILL}  # by request
    runs: list[subprocess.Popen[bytes]] = []

    def fault(ask: Ask) -> Raw | None:
        end = ends.get(ask.number)
        if end is None:
            return None
        if ask.number % 8:  # while it waits for the answer, or while it works on it
            runs[-1].send_signal(end)
            return HANG
        threading.Timer(0.01, runs[-1].send_signal, [end]).start()
        return None

    words = [sys.executable, "-c", COMMAND]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with repository(records, page_size=50, fault=fault) as server:
        words += [server.url, str(tmp_path / "corpus.parquet")]
        while len(runs) < 8 and not (runs and runs[-1].returncode == 0):
            with subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environment) as child:
                runs.append(child)
    *stopped, last = [run.returncode for run in runs]
    assert last == 0
    assert all(stopped)
    assert len(stopped) >= len(ends) - 1  # where all is quick, two of them meet the same run
    assert len(server.asks) <= 12 + len(ends)  # only what was under way came a second time
    assert ids(tmp_path) == [f"2401.{n:05}" for n in range(600)]
    assert names(tmp_path) == ["corpus.parquet"]


def test_a_page_enters_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put, n_put = Spool._put, iter(range(1_000))

    def interrupted(spool: Spool, *words: Any) -> bool:
        if next(n_put) == 15:
            raise KeyboardInterrupt
        return put(spool, *words)

    with repository(RECORDS) as server:
        with monkeypatch.context() as patch:
            patch.setattr(Spool, "_put", interrupted)
            with pytest.raises(KeyboardInterrupt):
                run(server, tmp_path)
        outcome = run(server, tmp_path)
    assert server.tokens == ["", "at 10", "at 10", "at 20", "at 30"]
    assert (outcome.n_documents, outcome.counts) == (N, {})
    assert ids(tmp_path) == IDS


def test_a_harvest_that_was_killed_after_its_file_was_written_is_finished(tmp_path: Path) -> None:
    with repository(RECORDS) as server:
        with Harvest(Query(server.url, "arXiv"), tmp_path / "corpus.parquet", Options(pause=0.0)) as job:
            job.run(lambda *_: None)
            job.finished = None  # so that the folder stays, as it does after a kill
        assert names(tmp_path) == ["corpus.parquet", "corpus.parquet.harvest"]
        n_asked = len(server.asks)
        assert run(server, tmp_path).n_documents == N
    assert len(server.asks) == n_asked
    assert names(tmp_path) == ["corpus.parquet"]


def test_a_whole_list_is_written_without_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise ArtifactError("The disk is full.")

    with repository(RECORDS) as server:
        with monkeypatch.context() as patch:
            patch.setattr(harvests, "save_corpus", full)
            with pytest.raises(ArtifactError):
                run(server, tmp_path)
        n_asked = len(server.asks)
        run(server, tmp_path)
    assert len(server.asks) == n_asked
    assert ids(tmp_path) == IDS


def test_the_folder_is_one_sound_database_with_the_place_in_the_list(tmp_path: Path) -> None:
    with repository(RECORDS, fault=once(Raw(404), at="at 20")) as server, pytest.raises(SourceError):
        run(server, tmp_path)
    with sqlite3.connect(tmp_path / "corpus.parquet.harvest" / "records.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (place,) = database.execute("SELECT value FROM state WHERE name = 'place'").fetchone()
        assert json.loads(place)["token"] == "at 20"
        assert database.execute("SELECT COUNT(*) FROM records").fetchone() == (20,)
    database.close()
