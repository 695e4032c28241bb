"""Lists as files: which format is answered with, what is in it, and where it ends."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

import anyio
import numpy as np
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from app import urls
from app.catalog import Catalog
from app.formats import FORMATS, Documents, Table, kinds
from app.formats.lists import BATCH, Kind, boolean, integer, next_page, number, text, texts
from app.formats.negotiation import accepted
from app.formats.tables import csv_pieces, guarded, parquet_pieces
from app.turns import SearchSlots
from app.views.common import FeatureChip, TreeRow, Trust
from sae_core.corpus import Document
from sae_core.explorer import DEPTH
from tests.app.served import Planted, serve
from tests.planted import WORDS

OFFERS = (("html", ("text/html",)), ("json", ("application/json",)), ("csv", ("text/csv; charset=utf-8",)))
FILES = [
    "/index.{}",
    "/{collection}/compare.{}",
    "/{collection}/compare.{}?list=matches",
    "/{collection}/{sae}.{}",
    "/{collection}/{sae}.{}?list=curve",
    "/{collection}/{sae}.{}?list=baselines",
    "/{collection}/{sae}/features.{}?dead=1",
    "/{collection}/{sae}/features/{latent}.{}",
    "/{collection}/{sae}/features/{latent}.{}?tab=bands",
    "/{collection}/{sae}/features/{latent}.{}?tab=borderline",
    "/{collection}/{sae}/features/{latent}.{}?tab=near",
    "/{collection}/{sae}/features/{latent}.{}?list=neighbours",
    "/{collection}/{sae}/families.{}",
    "/{collection}/{sae}/families/{family}.{}",
    "/{collection}/{sae}/families/{family}.{}?list=documents",
    "/{collection}/{sae}/search.{}?q={word}&f={latent}:+0.40",
    "/{collection}/{sae}/separate.{}?a=doc-0100&a=doc-0101&sort=label",
    "/{collection}/documents/doc-0100.{}",
    "/{collection}/documents.{}?id=doc-0100&list=neighbours",
    "/{collection}/documents/odd/0.v1.{}?list=features",
]


def address(planted: Planted, pattern: str, suffix: str) -> str:
    named = {"collection": planted.explorer.name, "sae": planted.sae, "word": WORDS[6]}
    latent = int(np.argmax(planted.set.features.n_documents_N))
    return pattern.format(suffix, **named, latent=latent, family=planted.set.families[0].id)


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


# --- which format ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "html"),
        ("*/*", "html"),
        ("application/json", "json"),
        ("text/csv", "csv"),
        ("text/*", "html"),
        ("text/*;q=0.4, application/*;q=0.5", "json"),
        ("text/html;q=0.2, text/csv;q=0.9", "csv"),
        ("*/*, text/html;q=0", "json"),
        ("TEXT/CSV;Q=0.5, text/html;q=0.4", "csv"),
        ("text/csv;header=present", "csv"),
        ("image/png", None),
        ("text/html;q=0, application/json;q=0", None),
        ("nonsense", "html"),
        ("text/csv;q=2, application/json;q=nan", "html"),
        (",,;;,", "html"),
    ],
)
def test_accept_is_read_with_its_qualities(accept: str, wanted: str | None) -> None:
    assert accepted(accept, OFFERS) == wanted


def test_the_suffix_wins_and_without_one_accept_decides(planted: Planted, client: TestClient) -> None:
    def media(url: str, accept: str) -> str:
        answer = client.get(url, headers={"Accept": accept})
        assert "Accept" in answer.headers.get("vary", "") or "." in url.rpartition("/")[2]
        return answer.headers["content-type"].partition(";")[0]

    url = f"{planted.base}/features"
    browser = "text/html,application/xhtml+xml,*/*;q=0.8"
    assert media(urls.twin(url, "csv"), browser) == "text/csv"
    assert media(urls.json(url), browser) == "application/json"
    assert media(url, browser) == media(url, "*/*") == "text/html"
    assert media(url, "application/json") == "application/json"
    assert media(url, "text/csv, text/html;q=0.5") == "text/csv"
    assert media(url, "application/vnd.apache.parquet") == "application/vnd.apache.parquet"
    partial = {"Accept": "application/json", "HX-Request": "true", "HX-Request-Type": "partial"}
    fragment = client.get(url, headers=partial | {"HX-Target": "div#rows"})
    assert fragment.headers["content-type"].startswith("text/html")


def test_what_no_format_can_answer_is_not_acceptable_and_says_what_is(
    planted: Planted, client: TestClient
) -> None:
    answer = client.get(f"{planted.base}/features", headers={"Accept": "image/png"})
    assert answer.status_code == 406
    assert "text/csv" in answer.text
    assert client.get(f"/{planted.explorer.name}", headers={"Accept": "text/csv"}).status_code == 406


def test_an_error_of_a_file_is_a_page_for_browsers_and_json_for_programs(
    planted: Planted, client: TestClient
) -> None:
    for url, status in (
        (f"{planted.base}/features.csv?page=x", 400),
        (f"{planted.base}/features.csv?list=secret", 400),
        (f"{planted.base}/features/99999999999999999999.parquet", 404),
        (f"{planted.base}/features/-1.csv", 404),
        (f"{planted.base}/families/nan.csv", 404),
        (f"{planted.base}/families.parquet?threshold=inf", 400),
        (f"{planted.search}.csv", 400),
        (f"{planted.search}.csv?q=x&page=1e9", 400),
        (f"{planted.search}.parquet?q=x&f=3:nan", 400),
        (f"{planted.search}.csv?like=doc-0100&unlike=doc-0100", 400),
        (f"{planted.search}.bib?q=x&lens=a;b;c", 400),
        (f"{planted.base}/separate.csv", 400),
        (f"{planted.base}/separate.csv?a=gone", 404),
        (f"/{planted.explorer.name}/documents.csv", 404),
        (f"/{planted.explorer.name}/documents/%00.csv", 404),
        ("/nosuch/x/search.csv?q=1", 404),
        (f"{planted.base}/features.bib", 404),
    ):
        program = client.get(url)
        assert program.status_code == status, url
        assert program.json()["message"]
        browser = client.get(url, headers={"Accept": "text/html,*/*;q=0.8"})
        assert browser.status_code == status
        assert "<h1" in browser.text


@pytest.mark.parametrize("suffix", sorted(urls.SUFFIXES))
def test_an_id_that_ends_like_a_format_is_no_format(suffix: str) -> None:
    assert urls.document("c", f"a.{suffix}") == f"/c/documents?id=a.{suffix}"
    assert urls.twin(urls.document("c", f"a.{suffix}"), "csv") == f"/c/documents.csv?id=a.{suffix}"
    assert urls.document("c", suffix) == f"/c/documents/{suffix}"


def test_every_format_has_a_suffix_that_addresses_know() -> None:
    assert {"json", *FORMATS} == set(urls.SUFFIXES)


# --- what is in a file ----------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", FILES)
def test_a_list_says_the_same_as_csv_and_as_parquet(
    pattern: str, planted: Planted, client: TestClient
) -> None:
    answer = client.get(address(planted, pattern, "csv"))
    assert answer.status_code == 200
    kind = next(
        each for each in kinds.KINDS if f"{each.name}/{each.version}" == answer.headers["saefari-kind"]
    )
    table = pq.read_table(io.BytesIO(client.get(address(planted, pattern, "parquet")).content))
    assert table.column_names == [column.name for column in kind.columns]
    shown = rows(answer.content)
    assert len(shown) == table.num_rows
    assert shown or "matches" in pattern  # which one SAE alone has none of
    for printed, exact in zip(shown, table.to_pylist(), strict=True):
        assert list(printed) == table.column_names
        for column in kind.columns:
            compare(printed[column.name], exact[column.name], column.type)
    head = client.head(address(planted, pattern, "csv"))
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["saefari-kind"] == answer.headers["saefari-kind"]


def compare(printed: str, exact: Any, kind: str) -> None:
    if exact is None or exact in ("", []):
        assert printed == ""
    elif kind == "number":
        assert float(printed) == pytest.approx(exact, rel=1e-8)
    elif kind == "boolean":
        assert printed == str(exact).lower()
    elif kind == "integer":
        assert int(printed) == exact
    else:
        assert printed == guarded("; ".join(exact) if kind == "texts" else exact)


def test_results_are_those_of_the_page_and_go_on(planted: Planted, client: TestClient) -> None:
    latent = int(np.argmax(planted.set.features.n_documents_N))
    query = f"q={WORDS[6]}&f={latent}:+0.40"
    found = rows(client.get(f"{planted.search}.csv?{query}").content)
    assert len(found) == planted.explorer.n_documents
    for number_ in (1, 3):
        view = client.get(f"{planted.search}.json?{query}&page={number_}").json()["results"]
        part = found[10 * (number_ - 1) : 10 * number_]
        assert [row["id"] for row in part] == [row["document"]["id"] for row in view]
        assert [int(row["rank"]) for row in part] == [row["rank"] for row in view]
        assert [row["moved"] for row in part] == [
            "" if row["moved"] is None else str(row["moved"]) for row in view
        ]
        assert [float(row["score"]) for row in part] == pytest.approx([row["score"] for row in view])
    later = rows(client.get(f"{planted.search}.csv?{query}&page=3").content)
    assert later == found[20:]


def test_files_follow_each_other_without_a_gap(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FEATURES", "EVIDENCE", "RESULTS", "FAMILY_DOCUMENTS"):
        monkeypatch.setattr(kinds, name, with_cap(getattr(kinds, name), 50))
    latent = int(np.argmax(planted.set.features.n_documents_N))
    n_features, n_having = int(planted.set.sae.n_latents), int(planted.set.features.n_documents_N[latent])
    with TestClient(serve(planted)) as client:
        for url, n, key in (
            (f"{planted.base}/features.csv?dead=1&sort=label", n_features, "latent"),
            (f"{planted.base}/features/{latent}.csv", n_having, "id"),
            (f"{planted.search}.csv?q={WORDS[6]}", planted.explorer.n_documents, "id"),
        ):
            found = [row for part in parts(client, url) for row in part]
            assert len(found) == len({row[key] for row in found}) == n > 50
            assert key == "latent" or [int(row["rank"]) for row in found] == list(range(1, n + 1))
        part = parts(client, f"{planted.base}/families/{planted.set.families[0].id}.csv?list=documents")
        ranks = [int(row["rank"]) for rows_ in part for row in rows_]
        assert ranks == list(range(1, len(ranks) + 1))


def with_cap(kind: Kind, cap: int) -> Kind:
    return Kind(kind.name, kind.meaning, kind.own, kind.of_documents, cap, kind.version)


def parts(client: TestClient, url: str) -> Iterator[list[dict[str, str]]]:
    following: str | None = url
    while following:
        answer = client.get(following)
        assert answer.status_code == 200, following
        assert "list=" in following or "list=" not in url
        yield rows(answer.content)
        link = re.fullmatch(r'<([^>]+)>; rel="next"', answer.headers.get("link", ""))
        following = link[1] if link else None


def test_json_of_a_list_has_its_next_page_as_a_link(planted: Planted, client: TestClient) -> None:
    answer = client.get(f"{planted.search}.json?q={WORDS[6]}")
    following = urls.json(answer.json()["page"]["next_url"])
    assert answer.headers["link"] == f'<{following}>; rel="next"'
    assert client.get(following).json()["page"]["number"] == 2
    last = client.get(f"{planted.search}.json?q={WORDS[6]}&page={-(-planted.explorer.n_documents // 10)}")
    assert "link" not in last.headers


def as_text(page: int) -> str:
    return str(page)


def test_the_end_of_a_search_has_no_next_page_that_addresses_refuse() -> None:
    assert next_page(as_text, 901, 10, kinds.RESULTS, 10_000) is None
    assert next_page(as_text, 900, 10, kinds.RESULTS, 10_000) == "1000"
    assert kinds.RESULTS.cap == DEPTH


def test_a_tree_in_rows_names_each_parent() -> None:
    none = Trust("none", "", None, None, None, 0)
    tree = [(1, 0), (2, 1), (3, 2), (4, 1), (5, 2), (6, 3), (7, 1)]
    found = kinds.member_rows(
        TreeRow(FeatureChip(latent, str(latent), none, ""), depth, 1, 0.1, None, is_current=False)
        for latent, depth in tree
    )
    assert {row[0]: row[1] for row in found} == {1: None, 2: 1, 3: 2, 4: 1, 5: 4, 6: 5, 7: 1}


# --- how it is written ----------------------------------------------------------------------------

ODD = Kind(
    "odd",
    "anything",
    (text("t", ""), integer("i", ""), number("n", ""), boolean("b", ""), texts("ts", "")),
)
VALUES = st.tuples(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.floats(width=32),
    st.booleans(),
    st.lists(st.text("ab=;,\"'\n", max_size=4), max_size=3),
)


def listed(*batches: list[Any]) -> Table:
    return Table(ODD, "odd", "/odd", iter(batches), collection="c", built="2026-11-23")


@given(st.lists(VALUES, max_size=6))
def test_files_bring_back_what_was_written(values: list[Any]) -> None:
    printed = b"".join(csv_pieces(listed(values)))
    back = list(csv.reader(io.StringIO(printed.decode(), newline="")))[1:]
    for (words, whole, share, is_so, several), row in zip(values, back, strict=True):
        assert re.sub(r"^'(?='*[=+\-@\t\r\n＝＋－＠])", "", row[0]) == words
        compare(row[1], whole, "integer")
        compare(row[2], share if share is not None and np.isfinite(share) else None, "number")
        compare(row[3], is_so, "boolean")
        compare(row[4], several if any(several) or len(several) > 1 else None, "texts")
    table = pq.read_table(io.BytesIO(b"".join(parquet_pieces(listed(values)))))
    finite = [(*v[:2], v[2] if v[2] is not None and np.isfinite(v[2]) else None, *v[3:]) for v in values]
    assert [tuple(row.values()) for row in table.to_pylist()] == finite


@pytest.mark.parametrize("words", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1", "'=1", "''+1"])
def test_a_spreadsheet_computes_no_text(words: str) -> None:
    written = b"".join(csv_pieces(listed([(words, -1, -0.5, True, [])]))).decode()
    _, cells = csv.reader(io.StringIO(written, newline=""))
    assert cells == [f"'{words}", "-1", "-0.5", "true", ""]


@pytest.mark.parametrize("words", ["'tis", "a=b", "1-2", "“=”", ""])
def test_other_texts_stay_as_they_are(words: str) -> None:
    assert guarded(words) == words


def test_nothing_is_a_file_with_names_only() -> None:
    assert b"".join(csv_pieces(listed())) == b"t,i,n,b,ts\r\n"
    assert pq.read_table(io.BytesIO(b"".join(parquet_pieces(listed())))).num_rows == 0


def test_a_file_is_written_while_it_is_read() -> None:
    read: list[int] = []

    def batches() -> Iterator[list[Any]]:
        for at in range(100):
            read.append(at)
            yield [("x", at, None, True, [])] * BATCH

    for write, most in ((csv_pieces, 1), (parquet_pieces, 10)):
        read.clear()
        pieces = write(Table(ODD, "odd", "/odd", batches(), collection="c", built=""))
        next(pieces)
        assert len(read) == most


def test_documents_are_read_a_batch_at_a_time(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    read = Catalog.documents

    def count(self: Catalog, some: Sequence[int], *, are_kept: bool = True) -> list[Document]:
        asked.append(len(some))
        assert not are_kept
        return read(self, some, are_kept=are_kept)

    monkeypatch.setattr(Catalog, "documents", count)
    with TestClient(serve(planted)) as client:
        asked.clear()
        found = rows(client.get(f"{planted.search}.csv?q={WORDS[6]}").content)
    assert len(found) == sum(asked) == planted.explorer.n_documents
    assert max(asked) <= BATCH


def test_a_slow_reader_of_results_holds_no_search_up() -> None:
    """With one slot, a second search is answered while the first one's answer is still being read."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await send({"type": "http.response.body", "body": b"rest"})

    slots = SearchSlots(answer, slots=1, queue=0, is_search=lambda _: True)
    scope: Scope = {"type": "http", "path": "/search", "headers": []}

    async def receive() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    async def both() -> list[bytes]:
        second: list[bytes] = []

        async def keep(message: Message) -> None:
            second.append(message.get("body", b""))

        async def read_slowly(message: Message) -> None:
            if message.get("body") == b"first":
                await slots(scope, receive, keep)

        with anyio.fail_after(5):
            await slots(scope, receive, read_slowly)
        return second

    assert anyio.run(both) == [b"", b"first", b"rest"]
    assert (slots.turns.n_free, slots.turns.n_waiting) == (1, 0)


def test_an_id_that_ends_like_a_format_is_found_where_it_was_written_into_the_path(
    planted: Planted, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = Catalog.find_position
    monkeypatch.setattr(
        Catalog, "find_position", lambda self, name: find(self, name.replace("notes.csv", "doc-0100"))
    )
    answer = client.get(f"/{planted.explorer.name}/documents/notes.csv", headers={"Accept": "text/html"})
    assert answer.status_code == 404
    assert f'href="/{planted.explorer.name}/documents?id=notes.csv"' in answer.text


def test_pages_link_to_their_files(planted: Planted, client: TestClient) -> None:
    page = client.get(f"{planted.base}/features/3").text
    for each in FORMATS:
        assert f'href="{planted.base}/features/3.{each}"' in page
    assert f"{planted.base}/features/3.csv?list=neighbours" in page
    assert "search.csv" not in client.get(planted.search).text  # there is nothing to list


def test_documents_have_the_same_columns_everywhere() -> None:
    assert {kind.columns[-11:] for kind in kinds.KINDS if kind.of_documents} == {kinds.RESULTS.columns[-11:]}
    assert len({kind.name for kind in kinds.KINDS}) == len(kinds.KINDS)
    assert Documents.__dataclass_fields__.keys() == Table.__dataclass_fields__.keys()
