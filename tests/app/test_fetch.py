"""`saefari fetch arxiv` and `saefari fetch oai`: what they say, what they leave, how they fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.fetching import file_name
from sae_core.corpus import load_corpus
from tests.app.served import Run
from tests.language_model import Raw
from tests.oai_repository import arxiv_record, dublin_core_record, repository

RECORDS = [arxiv_record(n) for n in range(25)]
DUBLIN = [dublin_core_record(f"oai:r:{n}", ("title", f"T {n}"), ("description", f"D {n}")) for n in range(3)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, and an address of arXiv at which nobody answers."""
    monkeypatch.setenv("SAEFARI_ARXIV_OAI", "http://127.0.0.1:9/oai")
    return tmp_path / "home"


def test_arxiv_is_harvested_into_the_corpora_of_the_home(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with repository(RECORDS) as server:
        monkeypatch.setenv("SAEFARI_ARXIV_OAI", server.url)
        words = ("fetch", "arxiv", "--set", "astro-ph", "--from", "2024-01-01", "--max", 15, "--pause", 0)
        status, out, err = run(*words, "--home", home)
        assert status == 0, err
        path = home / "corpora" / "arxiv-astro-ph.parquet"
        assert f"Asking {server.url} (arXiv, set physics:astro-ph, changed since 2024-01-01)" in out
        assert "10 records have come, in pages of about 10. 5 are to come, which takes 0 s or more" in out
        assert f"{path}: 15 documents" in out
        assert f"saefari build {path}" in out
        assert "Harvesting: done" in err
        n_asked = len(server.asks)
        status, out, _ = run(*words, "--home", home)
        assert status == 0
        assert "nothing is asked" in out
        assert "15 documents" in out
    assert len(server.asks) == n_asked == 2
    assert server.asks[0].arguments["set"] == "physics:astro-ph"
    assert len(load_corpus(path).documents) == 15


@pytest.mark.parametrize("command", ["oai", "arxiv"])
def test_any_repository_is_harvested_in_either_form(run: Run, home: Path, command: str) -> None:
    with repository(DUBLIN) as server:
        where = (server.url,) if command == "oai" else ("--oai", server.url, "--prefix", "oai_dc")
        options = ("--set", "publication.article", "--pause", 0, "--quiet", "--home", home)
        status, out, err = run("fetch", command, *where, *options)
    assert (status, err) == (0, "")
    arguments = server.asks[0].arguments
    assert (arguments["metadataPrefix"], arguments["set"]) == ("oai_dc", "publication.article")
    path = home / "corpora" / "127-0-0-1-publication-article.parquet"
    assert str(path) in out
    assert [document.id for document in load_corpus(path).documents] == ["oai:r:0", "oai:r:1", "oai:r:2"]


def test_a_dry_run_asks_for_one_page_which_the_run_then_has(run: Run, home: Path, tmp_path: Path) -> None:
    with repository(RECORDS) as server:
        words = (
            "fetch",
            "oai",
            server.url,
            "--prefix",
            "arXiv",
            "--out",
            tmp_path / "c.parquet",
            "--pause",
            0,
        )
        status, out, _ = run(*words, "--dry-run")
        assert status == 0
        assert "15 are to come" in out
        assert not (tmp_path / "c.parquet").exists()
        status, out, _ = run(*words)
    assert status == 0
    assert server.tokens == ["", "at 10", "at 20"]


def test_records_that_are_no_documents_are_counted(run: Run, tmp_path: Path) -> None:
    records = [*RECORDS[:2], arxiv_record(8, status="deleted"), arxiv_record(9, abstract=" ")]
    with repository(records) as server:
        out = run("fetch", "oai", server.url, "--out", tmp_path / "c.parquet", "--quiet")[1]
    assert "2 documents" in out
    assert "\n  1 deleted\n  1 without a text\n" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--from", "last week"), "--from last week is no day. Write it as 2024-01-31."),
        (("--from", "2024-02-01", "--until", "2024-01-01"), "is after"),
        (("--out", "c.csv"), "does not end in .parquet"),
        (("--oai", "arxiv"), "'arxiv' is not the address of a repository"),
        (("--oai", "https://export.arxiv.org/oai2", "--pause", 1), "arXiv asks for 3 s"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_asked(
    run: Run, home: Path, options: tuple[str, ...], message: str
) -> None:
    status, _, err = run("fetch", "arxiv", "--home", home, *options)
    assert status == 1
    assert err.startswith("saefari: ")
    assert message in err
    assert not home.exists()


def test_a_repository_that_refuses_ends_in_a_sentence_and_leaves_nothing(run: Run, tmp_path: Path) -> None:
    with repository([], fault=lambda _: Raw(403, b"not you")) as server:
        status, _, err = run("fetch", "oai", server.url, "--out", tmp_path / "c.parquet")
    assert status == 1
    assert "answers 403 (not you)." in err
    assert list(tmp_path.iterdir()) == []


def test_progress_goes_on_where_the_size_of_a_list_is_unknown(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.console.SECONDS_BETWEEN_LINES", 0.0)
    with repository(RECORDS, says_size=False) as server:
        err = run("fetch", "oai", server.url, "--out", tmp_path / "c.parquet", "--pause", 0)[2]
    assert "Harvesting: 20, " in err
    assert " of " not in err


@pytest.mark.parametrize(
    ("source", "part", "name"),
    [
        ("arxiv", "", "arxiv.parquet"),
        ("arxiv", "cs.LG", "arxiv-cs-lg.parquet"),
        ("https://Zenodo.org/oai2d", "user-x/../y", "zenodo-org-user-x-y.parquet"),
        ("http://[::1]/", "", "1.parquet"),
        ("http://a.org/", "x" * 300, f"a-org-{'x' * 74}.parquet"),
    ],
)
def test_the_file_is_called_after_what_is_in_it(source: str, part: str, name: str) -> None:
    assert file_name(source, part) == name
