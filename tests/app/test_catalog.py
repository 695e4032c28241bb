"""The catalogue answers what was written, to any words, and never changes."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import sqlalchemy.exc
from hypothesis import given
from hypothesis import strategies as st

from app import catalog
from app.catalog import (
    FILE_NAME,
    Catalog,
    CatalogTimeout,
    fts_match,
    rewrite_features,
    sort_key,
    write_catalogue,
)
from app.query import FeatureQuery
from sae_core import texts
from sae_core.corpus import Document
from sae_core.errors import ArtifactError
from sae_core.labels import Label
from tests.app.served import Planted
from tests.planted import documents


@pytest.fixture(scope="module")
def written(planted: Planted) -> Catalog:
    return Catalog(planted.explorer.path / FILE_NAME)


def test_documents_come_in_the_order_asked_for(planted: Planted, written: Catalog) -> None:
    truth = documents(planted.explorer.n_documents)
    for positions in ([], [5], [7, 3, 599, 0], list(range(599, -1, -7))):
        assert written.documents(positions) == [truth[position] for position in positions]


def test_a_whole_corpus_can_be_read(tmp_path: Path) -> None:
    """More documents than one statement of SQLite may have parameters, and than are kept in memory."""
    many = [Document(id=f"d{n}", title=f"Title {n}", abstract="") for n in range(40_000)]
    write_catalogue(tmp_path / FILE_NAME, many, [])
    whole = Catalog(tmp_path / FILE_NAME, is_timed=False)
    assert whole.documents(range(40_000)) == many
    whole.close()


def test_every_id_leads_to_its_position(planted: Planted, written: Catalog) -> None:
    truth = documents(planted.explorer.n_documents)
    assert [written.find_position(document.id) for document in truth] == list(range(len(truth)))
    assert written.find_position("doc-9999") is None
    for _ in range(2):  # the second time from memory
        some = written.find_positions(["doc-0007", "doc-9999", "", "doc-0003"])
        assert some == {"doc-0007": 7, "doc-0003": 3}


@given(words=st.text(max_size=60))
def test_any_words_are_answered(words: str, planted: Planted, written: Catalog) -> None:
    assert isinstance(written.find_features(planted.sae, words), list)
    assert isinstance(written.find_documents(words), list)
    query = FeatureQuery(planted.explorer.name, planted.sae, words=words)
    assert written.features(query, 10).total <= planted.set.sae.n_latents


@given(words=st.text(max_size=300), every=st.booleans())
def test_every_token_is_quoted(words: str, every: bool) -> None:
    match = fts_match(words, every=every)
    outside = "".join(match.split('"')[::2])
    assert outside.replace("AND", "").replace("OR", "").replace(" ", "") in {"", "*"}


def test_the_last_word_may_be_unfinished(planted: Planted, written: Catalog) -> None:
    assert ("doc-0123", documents()[123].title) in written.find_documents("study 123")
    assert ("doc-0123", documents()[123].title) in written.find_documents("123 stud")
    assert written.find_documents("stu 123") == []


# --- the keyword leg ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    """Four hundred documents: all have `the`, a third has `common`, each tenth `rare`, two `unique`."""

    def text(n: int) -> str:
        has = {"common": n % 3 == 0, "rare": n % 10 == 0, "unique": n in {77, 78}}
        return " ".join(["the", *(word if it else f"{word[0]}{n}" for word, it in has.items())])

    texts = [text(n) for n in range(400)]
    path = tmp_path_factory.mktemp("library") / FILE_NAME
    made = [Document(id=f"d{n}", title=f"Title {n}", abstract=text) for n, text in enumerate(texts)]
    made[5] = replace(made[5], title="Unique studies", authors="Rare Unique")
    write_catalogue(path, made, [])
    opened = Catalog(path)
    yield opened
    opened.close()


def test_keywords_are_found_by_their_rarer_words_and_the_title_counts_most(library: Catalog) -> None:
    assert library.keyword_hits("the unique").tolist() == [5, 77, 78]
    rare = library.keyword_hits("RARE the common").tolist()
    assert sorted(rare) == list(range(0, 400, 10))  # a third of all is too common to find anything
    assert len(library.keyword_hits("the")) == 400  # unless there is nothing else
    assert library.keyword_hits("nowhere the").tolist() == library.keyword_hits("").tolist() == []


def test_many_matches_are_bounded_and_need_all_words(
    library: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "TOO_COMMON", 1.0)
    monkeypatch.setattr(texts, "MAX_KEYWORD_MATCHES", 30)
    both = library.keyword_hits("common rare")
    assert sorted(both.tolist()) == list(range(0, 400, 30))
    assert len(library.keyword_hits("common")) == 30
    # A word that finds nothing by itself still orders what a rarer one finds.
    assert library.keyword_hits("common unique").tolist() == [5, 78, 77]


@given(words=st.text(max_size=60))
def test_any_text_has_keywords(words: str, library: Catalog) -> None:
    assert library.keyword_hits(words).dtype == "int64"


def test_keywords_are_looked_up_once(library: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    first = library.keyword_hits("the c7 unique")
    monkeypatch.setattr(library, "_connection", None)
    assert library.keyword_hits("The  C7 unique!") is first


def test_labels_sort_like_a_dictionary() -> None:
    words = ["Zebra", "étude", "apple", '"Eta" meson', "", "zèbres"]
    assert sorted(words, key=sort_key) == ["apple", '"Eta" meson', "étude", "Zebra", "zèbres", ""]


@pytest.mark.parametrize("how", [{}, {"labelled": True}, {"words": "called"}], ids=str)
def test_features_are_in_the_order_of_their_labels_however_many_people_wrote(
    how: dict[str, Any], written: Catalog, planted: Planted
) -> None:
    """More labels than one statement of SQLite may have parameters, in reverse order of the features."""
    said = {latent: f"called {40_000 - latent}" for latent in range(40_000)}
    query = FeatureQuery(planted.explorer.name, planted.sae, sort="label", dead=True, page=2, **how)
    listing, total = written.features(query, 10, said=said), len(planted.set.labels)
    assert (listing.latents, listing.total) == (list(range(total - 11, total - 21, -1)), total)
    assert written.features(replace(query, sort="quality"), 10, said=said).total == total


def test_the_catalogue_cannot_be_written_to(written: Catalog) -> None:
    with (
        written._connection() as connection,
        pytest.raises(sqlalchemy.exc.OperationalError, match="readonly"),
    ):
        connection.exec_driver_sql("DELETE FROM documents")


def test_a_question_that_takes_too_long_is_given_up(
    written: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "SECONDS_PER_REQUEST", 0.05)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(CatalogTimeout, match="took more than"), written._connection() as connection:
        connection.exec_driver_sql(endless)
    assert written.documents([0])
    patient = Catalog(written.path, is_timed=False)
    with patient._connection() as connection:
        counted = connection.exec_driver_sql(endless.replace("FROM n)", "FROM n LIMIT 500000)"))
        assert counted.scalar_one() == 500_000  # takes longer than the limit
    patient.close()


def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, written: Catalog) -> None:
    with pytest.raises(ArtifactError, match="missing"):
        Catalog(tmp_path / "gone.sqlite")
    torn = tmp_path / "torn.sqlite"
    torn.write_bytes(b"SQLite format 3" + b"\xff" * 4096)
    with pytest.raises(ArtifactError, match="damaged"):
        Catalog(torn)
    other = tmp_path / "other.sqlite"
    shutil.copy(written.path, other)
    with sqlite3.connect(other) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ArtifactError, match="schema 99"):
        Catalog(other)


def test_writing_again_replaces(tmp_path: Path, planted: Planted) -> None:
    path = tmp_path / "a folder with % and ?" / FILE_NAME
    path.parent.mkdir()
    write_catalogue(path, documents(20), [planted.set])
    write_catalogue(path, documents(10), [])
    again = Catalog(path)
    assert again.find_position("doc-0009") == 9
    assert again.find_position("doc-0010") is None
    assert again.random_feature(planted.sae) is None
    assert [file.name for file in path.parent.iterdir()] == [FILE_NAME]
    again.close()


def test_other_labels_are_found_in_a_catalogue_that_is_rewritten_and_the_old_one_stays(
    tmp_path: Path, planted: Planted
) -> None:
    old, new = tmp_path / "old.sqlite", tmp_path / "new.sqlite"
    labels = [Label(f"quixotic {n}", "llm:m") for n in range(len(planted.set.labels))]
    write_catalogue(old, documents(50), [planted.set])
    before = old.read_bytes()
    for text in ("quixotic", "zanzibar"):  # a file that is there is replaced
        renamed = [replace(label, text=label.text.replace("quixotic", text)) for label in labels]
        rewrite_features(old, new, [replace(planted.set, labels=renamed)])
    assert old.read_bytes() == before
    first, second = Catalog(old), Catalog(new)
    word = next(label.text for label in planted.set.labels if label.source != "none")
    assert first.find_features(planted.sae, word)
    assert first.find_features(planted.sae, "zanzibar") == []
    assert second.find_features(planted.sae, word) == second.find_features(planted.sae, "quixotic") == []
    assert len(second.find_features(planted.sae, "zanzibar", 100)) > 10
    assert second.features(FeatureQuery(planted.explorer.name, planted.sae, words="zanzibar"), 10).total > 10
    assert second.documents(range(50)) == first.documents(range(50)) == documents(50)
    assert second.find_documents("study 12") == first.find_documents("study 12") != []
    first.close()
    second.close()


@pytest.fixture
def tiny_disk() -> Iterator[None]:
    """Every SQLite file may have four pages."""

    def limit(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA max_page_count = 4")

    sa.event.listen(sa.Engine, "connect", limit)
    yield
    sa.event.remove(sa.Engine, "connect", limit)


@pytest.mark.usefixtures("tiny_disk")
def test_a_full_disk_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full") as raised:
        write_catalogue(tmp_path / FILE_NAME, documents(200), [])
    assert raised.value.errno == errno.ENOSPC


def test_a_common_word_is_found_in_every_sae(
    tmp_path: Path, planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = replace(planted.set, name="k4-n64-second")
    write_catalogue(tmp_path / FILE_NAME, documents(3), [planted.set, second])
    both = Catalog(tmp_path / FILE_NAME)
    monkeypatch.setattr(catalog, "MAX_RANKED", 20)
    word = planted.set.labels[both.find_features(planted.sae, "a e i o u s m")[0]].text[0]
    assert both.find_features("k4-n64-second", word) == both.find_features(planted.sae, word) != []
    both.close()
