"""What leaves the explorer whole: a dump that says what it holds, and pages that need no server."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from app import urls
from app.catalog import FILE_NAME, Catalog
from app.exporting.dump import make_dump
from app.exporting.plan import Choice
from app.exporting.rewrite import rewrite
from app.exporting.site import make_site
from app.settings import Settings
from sae_core.errors import ArtifactError, SaefariError
from sae_core.files import sha256_of
from tests.app.served import Planted, Run
from tests.planted import SilentConsole

QUERY = "Copied words"


@pytest.fixture(scope="module")
def dump(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dump") / "planted"
    make_dump(planted.explorer, out, SilentConsole(), with_vectors=True)
    return out


def table(dump: Path, planted: Planted, name: str) -> dict[str, list[Any]]:
    path = dump / f"{name}.parquet"
    read = pq.read_table(path if path.is_file() else dump / "saes" / planted.sae / f"{name}.parquet")
    columns: dict[str, list[Any]] = read.to_pydict()
    return columns


# --- the dump ---------------------------------------------------------------------------------------


def test_activations_are_the_codes(dump: Path, planted: Planted) -> None:
    rows = table(dump, planted, "activations")
    shape = (planted.set.codes.n_documents, planted.set.codes.n_latents)
    found = sp.csr_matrix(
        (np.array(rows["value"], dtype=np.float32), (rows["position"], rows["latent"])), shape=shape
    )
    assert (found != planted.set.codes.matrix()).nnz == 0
    assert len(rows["value"]) == found.nnz > 0


def test_documents_and_vectors_are_those_of_the_collection(dump: Path, planted: Planted) -> None:
    rows = table(dump, planted, "documents")
    catalog = Catalog(planted.explorer.path / FILE_NAME)
    documents = catalog.documents(range(planted.explorer.n_documents))
    catalog.close()
    for name in (
        "id",
        "title",
        "abstract",
        "year",
        "venue",
        "authors",
        "categories",
        "url",
        "citations",
        "doi",
    ):
        assert rows[name] == [
            getattr(document, name) or (0 if getattr(document, name) == 0 else None) for document in documents
        ]
    vectors = np.array(table(dump, planted, "vectors")["vector"], dtype=np.float32)
    assert np.array_equal(vectors, planted.explorer.index.vectors())


def test_features_families_and_labels_are_told_as_pages_tell_them(dump: Path, planted: Planted) -> None:
    features = table(dump, planted, "features")
    assert features["n_documents"] == planted.set.codes.counts().tolist()
    for latent, label in enumerate(planted.set.labels):
        home = planted.set.family_of(latent)
        assert features["label"][latent] == (label.text or None)
        assert features["family"][latent] == (None if home is None else home.id)
        assert features["auc"][latent] == (label.score.auc.value if label.score and label.text else None)
        assert features["n_documents"][latent] == sum(features["histogram"][latent])
    members = table(dump, planted, "members")
    told = sorted(zip(members["family"], members["latent"], strict=True))
    assert told == sorted((family.id, each) for family in planted.set.families for each in family.members)
    candidates = table(dump, planted, "candidates")
    of_features = sum(of == "feature" for of in candidates["of"])
    assert of_features == sum(len(label.candidates) for label in planted.set.labels) > 0
    near = table(dump, planted, "near_misses")
    silent = {(latent, position) for latent, position in zip(near["latent"], near["position"], strict=True)}
    rows = table(dump, planted, "activations")
    assert silent.isdisjoint(zip(rows["latent"], rows["position"], strict=True))


def test_the_card_describes_every_column_and_file(dump: Path) -> None:
    card = (dump / "README.md").read_text(encoding="utf-8")
    record = json.loads((dump / "dump.json").read_text(encoding="utf-8"))
    files = {path.relative_to(dump).as_posix() for path in dump.rglob("*") if path.is_file()}
    assert files == {*record["files"], "dump.json"}
    for name, entry in record["files"].items():
        assert sha256_of(dump / name) == entry["sha256"]
    for name, entry in record["tables"].items():
        read = pq.read_table(dump / name)
        assert [column.replace("fixed_size_list", "list")[:4] for column in entry["columns"].values()] == [
            str(field.type).replace("fixed_size_list", "list")[:4] for field in read.schema
        ]
        assert list(entry["columns"]) == read.schema.names
        assert read.num_rows == entry["rows"]
        heading = re.sub(r"^saes/[^/]+/", "saes/*/", name)
        section = card.split(f"### `{heading}`")[1].split("###")[0]
        assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == read.schema.names
        assert f"{entry['rows']:,} rows" in section
    assert "## Licence" in card


def test_what_the_card_says_of_loading_runs_and_gives_the_embeddings_back(
    dump: Path, planted: Planted
) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", (dump / "README.md").read_text(), re.DOTALL))
    code += "import numpy as np; np.save('reconstructed.npy', reconstructed)\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=dump, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    best = planted.set.labels[int(np.argmax(planted.set.quality_N))]
    assert best.text in done.stdout
    sae, codes = planted.set.sae, planted.set.codes
    known = codes.matrix() @ sae.W_dec_ND + sae.b_dec_D
    np.testing.assert_allclose(np.load(dump / "reconstructed.npy"), known, atol=1e-5)
    (dump / "reconstructed.npy").unlink()


def test_a_title_cannot_break_the_card(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planted.explorer, "title", 'A "title": | `x`\n---\n<script>alert(1)</script>')
    make_dump(planted.explorer, tmp_path / "dump", SilentConsole())
    card = (tmp_path / "dump" / "README.md").read_text(encoding="utf-8")
    assert "<script>" not in card.split("---\n", 2)[2].replace("\\<script\\>", "")
    assert card.split("\n---\n")[0].count("pretty_name") == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 128 KiB; without the right to mount one the test is left to those who have it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "saefari-test", disk], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_a_sentence_and_leaves_nothing(planted: Planted, small_disk: Path) -> None:
    with pytest.raises(ArtifactError, match="The disk is full"):
        make_dump(planted.explorer, small_disk / "dump", SilentConsole(), with_vectors=True)
    with pytest.raises(ArtifactError, match="The disk is full"):
        copied(planted, small_disk / "site", n_documents=0, examples=False)
    assert list(small_disk.iterdir()) == []


# --- the site ---------------------------------------------------------------------------------------


def copied(planted: Planted, out: Path, **choice: Any) -> dict[str, Any]:
    settings = Settings(home=planted.home)
    foretold: list[Any] = []
    record = make_site(planted.explorer, settings, out, Choice(**choice), SilentConsole(), foretold.append)
    assert sum(foretold[0].pages.values()) + 1 == record["n_pages"]
    return {**record, "foretold": foretold[0]}


@pytest.fixture(scope="module")
def record(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("site") / "planted"
    steered = f"http://example.org:8000{planted.search}?q={planted.queries[0]}&f=3:+0.4&page=1"
    record = copied(planted, out, n_documents=15, searches=(steered, QUERY), examples=False)
    return {**record, "out": out, "read": {path: read(path) for path in out.rglob("*.html")}}


class Addresses(HTMLParser):
    """All addresses of a page, and all its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.names: set[str] = set()
        self.ids: set[str] = set()

    def handle_starttag(self, _tag: str, attrs: Any) -> None:
        self.names |= {name for name, _ in attrs}
        self.ids |= {value for name, value in attrs if name == "id"}
        self.found += [value for name, value in attrs if name in ("href", "src", "action") and value]


def read(path: Path) -> Addresses:
    addresses = Addresses()
    addresses.feed(path.read_text(encoding="utf-8"))
    return addresses


def test_every_link_of_every_page_leads_to_a_file(record: dict[str, Any]) -> None:
    pages: dict[Path, Addresses] = record["read"]
    assert len(pages) == record["n_pages"]
    for path, page in pages.items():
        assert not [name for name in page.names if name.startswith(("hx-", "data-needs-server", "action"))]
        for address in page.found:
            if address.startswith(("https://", "http://")):
                continue
            name, _, fragment = address.partition("#")
            target = (path.parent / name).resolve() if name else path
            assert target.is_file(), f"{path.relative_to(record['out'])}: {address}"
            assert not fragment or fragment in pages[target].ids, f"{path}: {address}"


def test_every_page_can_be_reached_from_the_first(record: dict[str, Any]) -> None:
    pages: dict[Path, Addresses] = record["read"]
    waiting = [record["out"] / "index.html"]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        linked = {(path.parent / address.partition("#")[0]).resolve() for address in pages[path].found}
        waiting += (linked & pages.keys()) - seen
        seen |= linked
    # Documents are chosen by features, and one that is chosen may be shown by no page.
    assert not [path for path in pages.keys() - seen if path.parent.name != "documents"]
    assert len(pages.keys() - seen) <= 2


def test_pages_say_what_the_server_says(record: dict[str, Any], planted: Planted, client: TestClient) -> None:
    latent = int(np.argmax(planted.set.quality_N))
    served = client.get(urls.feature(planted.explorer.name, planted.sae, latent)).text
    page = (record["out"] / planted.sae / "features" / f"{latent}.html").read_text(encoding="utf-8")

    def words(text: str) -> list[str]:
        main = text.partition("</h1>")[2].partition("</main>")[0]
        return re.sub(r"<[^>]+>", " ", main).split()

    lost = Counter(words(served)) - Counter(words(page))
    assert not Counter(words(page)) - Counter(words(served))
    assert lost.total() < 0.05 * len(words(served)), lost  # buttons, and ways to other formats


def test_searches_are_copied_by_address_and_by_words(record: dict[str, Any], planted: Planted) -> None:
    steered = urls.search(planted.explorer.name, planted.sae, planted.queries[0], [(3, 0.4)])
    words = urls.search(planted.explorer.name, planted.sae, QUERY)
    assert list(record["searches"])[:2] == [steered, words]
    page = (record["out"] / record["searches"][steered]).read_text(encoding="utf-8")
    assert "A search as it was on" in page
    assert 'value="0.400" ' in page
    fields = re.findall(r"<(?:input|select|textarea)\b[^>]*>", page)
    assert fields
    assert all(" disabled" in field for field in fields)
    about = read(record["out"] / "about.html").found
    assert {record["searches"][steered], record["searches"][words]} <= set(about)
    results = re.findall(r'href="../(documents/\d+\.html)', page)
    assert len(set(results)) == 10  # documents that searches show come first


def test_size_is_foretold(record: dict[str, Any]) -> None:
    size = sum(path.stat().st_size for path in record["out"].rglob("*") if path.is_file())
    assert size == pytest.approx(record["foretold"].size, rel=0.3)
    assert record["bytes"] == size


def test_ids_of_documents_name_no_files(record: dict[str, Any]) -> None:
    names = [path.name for path in (record["out"] / "documents").iterdir()]
    assert len(names) == 15
    assert all(re.fullmatch(r"[0-9]+\.html", name) for name in names)


@pytest.mark.parametrize(
    ("choice", "what"),
    [
        ({"saes": ("k9-none",)}, "no SAE k9-none"),
        ({"searches": ("/elsewhere/k1/search?q=x",)}, "no address of a search"),
        ({"searches": ("https://example.org/",)}, "no address of a search"),
        ({"searches": ("/{name}/{sae}/search?f=3:nan",)}, "The parameter f"),
    ],
)
def test_what_cannot_be_copied_is_said_before_anything_is_written(
    choice: dict[str, Any], what: str, planted: Planted, tmp_path: Path
) -> None:
    names = {"name": planted.explorer.name, "sae": planted.sae}
    choice = {key: tuple(value.format(**names) for value in values) for key, values in choice.items()}
    with pytest.raises(SaefariError, match=re.escape(what)):
        copied(planted, tmp_path / "site", **choice)
    assert list(tmp_path.iterdir()) == []


# --- the command ------------------------------------------------------------------------------------


def test_the_command_writes_both_and_replaces_only_its_own(
    planted: Planted, run: Run, tmp_path: Path
) -> None:
    dump, site = tmp_path / "dump", tmp_path / "site"
    (tmp_path / "searches.txt").write_text(f"# chosen\n\n{planted.search}?f=3:+0.4\n", encoding="utf-8")
    words: tuple[str | Path, ...] = (
        "export",
        "planted",
        "--home",
        planted.home,
        "--dump",
        dump,
        "--site",
        site,
        "--documents",
        "0",
    )
    words = (*words, "--searches", tmp_path / "searches.txt", "--no-examples", "--quiet")
    status, out, err = run(*words)
    assert status == 0, err
    assert "pages (" in out
    assert " MiB are free" in out
    assert json.loads((site / "site.json").read_text())["pages"]["searches"] == 1
    assert (dump / "README.md").is_file()
    assert run(*words)[::2] == (
        1,
        f"saefari: {dump} is there already. Replace it with --overwrite, or choose another.\n",
    )
    (dump / "mine.txt").write_text("x")
    assert run(*words[:4], "--dump", dump, "--overwrite", "--quiet")[0] == 0
    assert not (dump / "mine.txt").exists()
    status, _, err = run(*words[:4], "--site", dump, "--overwrite")
    assert status == 1
    assert "this command has not written it" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dump", "searches.txt", "site"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Nothing to export."),
        (("--dump", "x/a", "--site", "x"), "lie in each other"),
        (("--site", "x", "--documents", "many"), "--documents many is no number"),
        (("--site", "x", "--max-pages", "10"), "more than 10"),
        (("--dump", "x", "--sae", "none"), "no SAE none"),
        (("--dump", "/proc/x"), "cannot be written"),
    ],
)
def test_a_mistake_is_a_sentence(  # noqa: PLR0917
    words: tuple[str, ...],
    said: str,
    planted: Planted,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = run("export", "planted", "--home", planted.home, *words, "--quiet")
    assert (status, said in err) == (1, True), err
    assert os.listdir(tmp_path) == []  # noqa: PTH208


# --- one page ---------------------------------------------------------------------------------------


PAGE = """<!doctype html>
<p class="a">{}&nbsp;&#8239;<!-- x --><br><svg viewBox="0 0 1 1"><rect/></svg></p>"""


@given(st.text())
def test_what_needs_no_change_is_copied_letter_by_letter(text: str) -> None:
    page = PAGE.format(html.escape(text))
    assert rewrite(page, lambda _: None) == page


@given(st.text())
def test_an_attribute_says_the_same_afterwards(text: str) -> None:
    titles: list[str | None] = []

    class Reader(HTMLParser):
        def handle_starttag(self, _tag: str, attrs: Any) -> None:
            titles.append(dict(attrs)["title"])

    page = f'<a href="/here?x=1" title="{html.escape(text)}">x</a>'
    for shown in (page, rewrite(page, {"/here?x=1": "to/here"}.get)):
        Reader().feed(shown)
    assert titles == [text, text]


FORM = """<form method="get" action="/here?x=1" hx-get="/x" id="f"><input type="hidden"><input name="b">\
<button type="submit">Go</button></form>"""
DIALOG = '<form method="dialog"><button class="button">Close</button></form>'
COPY = '<button type="button" data-copy-link>c</button>'
LINKS = """<svg><a href="/there"><rect/></a></svg><a href="#x">y</a>"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('<a href="/here?x=1#top" class="a" rel="nofollow">x</a>', '<a href="to/here#top" class="a">x</a>'),
        ('<a href="/there" class="chip">x</a>', '<span class="chip">x</span>'),
        (LINKS, '<svg><g><rect/></g></svg><a href="#x">y</a>'),
        ('<a href="/there" class="button big">x</a>y', "y"),
        ('<a href="https://a.example/?a=1&amp;b=2">x</a>', '<a href="https://a.example/?a=1&amp;b=2">x</a>'),
        ('<a href="//a.example">x</a>', '<a href="//a.example">x</a>'),
        ("<div data-needs-server><div>a</div><br>b</div>c", "c"),
        ('<link rel="alternate" href="/here?x=1"><link rel="next" href="/there">', ""),
        (FORM, '<form id="f"><input name="b" disabled></form>'),
        (DIALOG, DIALOG),
        (f'{COPY}<button type="button" data-act="x">d</button>', COPY),
    ],
)
def test_a_tag_is_rewritten(before: str, after: str) -> None:
    assert rewrite(before, {"/here?x=1": "to/here"}.get) == after
