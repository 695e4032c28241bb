"""A collection whose encoder is behind an endpoint: its build killed and gone on with, its server cut off."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app import cli, urls
from app.main import create_app
from app.settings import Settings
from sae_core import artifact, explorer
from sae_core import endpoint as client_of_models
from sae_core.embed import remote
from tests import planted as truth
from tests.app.served import Run
from tests.embedding_model import embeddings, refusing, texts_of, vectors_of
from tests.language_model import HANG, Call, FakeModel, Raw, serving

KEY = "sk-secret-9876543210"
SPEC, N, WIDTH = "openai:tiny/embed", 500, 24
SIZES = [
    "--latents",
    "32",
    "--k",
    "3",
    "--steps",
    "100",
    "--no-stability",
    "--truncate",
    f"{WIDTH}",
    "--quiet",
]


@dataclass(frozen=True)
class Built:
    """A home, and the endpoint that embeds for it; its answer is the tests' to change."""

    home: Path
    corpus: Path
    server: FakeModel
    n_before: int  # calls until the first build was killed
    n_after: int  # and until the second one was done
    built: str  # what the second one printed

    def words(self, *more: str) -> list[str]:
        return ["build", str(self.corpus), "--home", str(self.home), "--embedder", SPEC, *SIZES, *more]

    @property
    def manifest(self) -> dict[str, Any]:
        folder = artifact.current(self.home / "collections" / "papers")
        said: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
        return said

    def app(self, **settings: Any) -> TestClient:
        chosen = {"embed_base_url": self.server.url, "embed_api_key": KEY, "embed_seconds": 1.0, **settings}
        return TestClient(create_app(Settings(home=self.home, **chosen)), follow_redirects=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    folder = tmp_path_factory.mktemp("remote")
    corpus = folder / "papers.jsonl"
    corpus.write_text("\n".join(json.dumps(asdict(document)) for document in truth.documents(N)))

    def slowly(call: Call) -> Raw:
        time.sleep(0.1)
        return embeddings(call)

    with serving(slowly) as server:
        first = Built(folder / "home", corpus, server, 0, 0, "")
        words = first.words("--embed-base-url", server.url, "--embed-concurrency", "1")
        n_before, printed = build_twice(server, words)
        yield Built(folder / "home", corpus, server, n_before, len(server.calls), printed)


def build_twice(server: FakeModel, words: list[str]) -> tuple[int, str]:
    """Kill a build after some calls, then let it go to its end: the calls before, and what the end said."""
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAEFARI_EMBED_API_KEY", KEY)
        patch.setattr("sys.argv", ["saefari", *words])
        patch.setattr("typer.echo", lambda text, **_: printed.append(str(text)))
        if (child := os.fork()) == 0:  # nothing is under way here, and all is imported
            cli.main()
            os._exit(0)
        while len(server.calls) < 4:
            time.sleep(0.01)
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        n_before = len(server.calls)
        server.answer = embeddings
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code in {None, 0}
    return n_before, "\n".join(printed)


@pytest.fixture
def answering(built: Built) -> Iterator[Callable[[Callable[[Call], Raw]], None]]:
    """Change what the endpoint answers, until the end of the test."""
    before = built.server.answer

    def change(answer: Callable[[Call], Raw]) -> None:
        built.server.answer = answer

    yield change
    built.server.answer = before


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_of_models, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(client_of_models, "LONGEST_PAUSE", 0.02)


def wait_for(client: TestClient, state: str) -> None:
    for _ in range(300):
        if client.get("/ready").json()["encoders"] == {"papers": state}:
            return
        time.sleep(0.01)
    raise AssertionError(f"never {state}: {client.get('/ready').json()}")


def search_url(built: Built) -> str:
    return urls.sae("papers", built.manifest["saes"][0]["name"]) + "/search.json"


# --- building -------------------------------------------------------------------------------------


def test_a_build_that_was_killed_asks_again_only_what_was_under_way(built: Built) -> None:
    documents = {document.text for document in truth.documents(N)[3:]}  # the first are cleaned
    sent = [
        [text for text in texts_of(call) if text in documents] for call in built.server.calls[: built.n_after]
    ]
    before = [text for some in sent[: built.n_before] for text in some]
    after = [text for some in sent[built.n_before :] for text in some]
    assert 0 < len(before) < len(documents)
    assert set(before) | set(after) == documents
    assert len(set(before) & set(after)) <= remote.BATCH_TEXTS
    assert "are known already" in built.built
    assert "FVU" in built.built


def test_the_manifest_knows_the_model_again_but_no_address_and_no_key(built: Built) -> None:
    encoder = built.manifest["embedder"]
    assert (encoder["spec"], encoder["truncate"], built.manifest["width"]) == (SPEC, WIDTH, WIDTH)
    assert len(encoder["probe"]) == min(remote.N_PROBE, truth.WIDTH)
    port = built.server.url.rsplit(":", 1)[1].split("/")[0]
    for path in filter(Path.is_file, built.home.rglob("*")):
        content = path.read_bytes()
        assert KEY.encode() not in content, path
        assert f":{port}".encode() not in content, path
    assert KEY not in built.built


def test_a_dry_run_asks_nothing_and_says_what_a_run_would(built: Built, run: Run, tmp_path: Path) -> None:
    n_calls = len(built.server.calls)
    status, out, _ = run(*built.words("--dry-run", "--home", str(tmp_path), "--price", "20"))
    assert status == 0
    n_tokens = sum(len(document.text) for document in truth.documents(N)) / 4
    assert f"{N} documents: about {-(-N // remote.BATCH_TEXTS)} calls" in out
    cost = float(out.split("cost about ")[1])
    assert cost == pytest.approx(20 * n_tokens / 1e6, rel=0.2, abs=0.02)
    assert "not given yet" in out
    status, out, _ = run(*built.words("--dry-run"))
    assert f"about 0 calls to {SPEC}" in out
    assert f"{N} are known already" in out
    status, out, _ = run("build", built.corpus, "--home", tmp_path, "--dry-run")
    assert "on this machine" in out
    assert len(built.server.calls) == n_calls
    status, out, _ = run(*built.words("--dry-run", "--home", str(tmp_path), "--price", "0.02"))
    assert "cost less than 0.01" in out
    assert not (tmp_path / "collections").exists()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda _: refusing(401, f"wrong key {KEY}"), "SAEFARI_EMBED_API_KEY"),
        (lambda call: embeddings(call) if call.body["input"] == [remote.PROBE] else HANG, "--embed-timeout"),
        (lambda call: embeddings(call, change=lambda items: items[: max(1, len(items) - 1)]), "vectors for"),
    ],
)  # fmt: skip
def test_an_endpoint_that_fails_ends_a_build_with_a_sentence(  # noqa: PLR0917 (fixtures)
    built: Built,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answering: Callable[[Callable[[Call], Raw]], None],
    answer: Callable[[Call], Raw],
    said: str,
) -> None:
    monkeypatch.setenv("SAEFARI_EMBED_API_KEY", KEY)
    monkeypatch.setenv("SAEFARI_EMBED_BASE_URL", built.server.url)
    answering(answer)
    status, out, err = run(*built.words("--home", str(tmp_path), "--embed-timeout", "1"))
    assert status == 1
    assert said in err
    assert KEY not in out + err
    assert not (tmp_path / "collections" / "papers" / "CURRENT").exists()


def test_an_embedder_behind_no_address_is_said_before_anything_is_built(
    built: Built, run: Run, tmp_path: Path
) -> None:
    status, _, err = run(*built.words("--home", str(tmp_path)))
    assert status == 1
    assert "SAEFARI_EMBED_BASE_URL" in err
    status, _, err = run(*built.words("--home", str(tmp_path), "--truncate", "0"))
    assert status == 2


def test_a_file_may_be_truncated_and_scaled_and_the_manifest_says_so(
    built: Built, run: Run, tmp_path: Path
) -> None:
    x_MD = 2 * vectors_of([document.text for document in truth.documents(N)])
    np.save(tmp_path / "x.npy", x_MD)
    words = [
        "build",
        str(built.corpus),
        "--home",
        str(tmp_path),
        "--embeddings",
        str(tmp_path / "x.npy"),
        *SIZES,
    ]
    status, _, err = run(*words)
    assert status == 1
    assert f"{N} of {N} rows" in err
    assert "--normalise" in err
    assert run(*words, "--truncate", "33", "--normalise")[0] == 1
    assert run(*words, "--normalise")[0] == 0
    folder = artifact.current(tmp_path / "collections" / "papers")
    said = json.loads((folder / "manifest.json").read_text())
    assert (said["embedder"], said["normalised"], said["width"]) == (
        {"spec": None, "truncate": WIDTH},
        True,
        WIDTH,
    )
    assert "first 24 numbers" in (folder / "report.md").read_text()


# --- serving --------------------------------------------------------------------------------------


def test_queries_go_to_the_endpoint_and_are_truncated_like_the_documents(built: Built) -> None:
    with built.app() as client:
        wait_for(client, "ready")
        found = client.get(search_url(built), params={"q": truth.WORDS[20]}).json()
        assert truth.WORDS[20] in found["results"][0]["document"]["title"]
        assert built.server.calls[-1].headers["authorization"] == f"Bearer {KEY}"
        n_calls = len(built.server.calls)
        client.get(search_url(built), params={"q": truth.WORDS[20], "page": 2})
        assert len(built.server.calls) == n_calls


def test_a_dead_endpoint_costs_one_wait_and_nothing_else_until_it_is_back(
    built: Built,
    monkeypatch: pytest.MonkeyPatch,
    answering: Callable[[Callable[[Call], Raw]], None],
) -> None:
    monkeypatch.setattr(explorer, "SECONDS_OF_PEACE", 60)
    with built.app() as client:
        wait_for(client, "ready")
        url = search_url(built)
        answering(lambda _: HANG)
        began = time.monotonic()
        answer = client.get(url, params={"q": "asked of a dead endpoint"})
        assert time.monotonic() - began < 4
        assert answer.status_code == 200
        assert answer.json()["is_by_words"]
        assert "No answer from its endpoint within 1 s" in answer.json()["text_problem"]
        assert "127.0.0.1" not in answer.text
        assert client.get(url, params={"q": "xyzzy"}).status_code == 503  # nor has anything these words
        assert client.get("/ready").json() == {
            "ready": True,
            "encoders": {"papers": "failed"},
            "not_served": [],
            "not_renewed": [],
            "templates_not_usable": [],
        }
        n_calls = len(built.server.calls)
        page = client.get(url.removesuffix(".json"), params={"q": "asked again at once"})
        assert page.status_code == 200
        assert "does not answer" in page.text
        assert client.get(url, params={"f": "3:+0.40"}).json()["results"]
        assert client.get(url, params={"like": "doc-0007"}).json()["results"]
        assert client.get(url.replace("search", "features")).status_code == 200
        assert len(built.server.calls) == n_calls  # nobody else waited
        answering(embeddings)
        assert client.get(url, params={"q": truth.WORDS[11]}).json()["is_by_words"]  # it is left in peace
        client.app.state.shelf.library.collections["papers"].explorer._asks_again_at = 0.0  # type: ignore[attr-defined]
        answer = client.get(url, params={"q": truth.WORDS[11]})
        assert answer.json()["results"]
        assert not answer.json()["is_by_words"]
        wait_for(client, "ready")


def test_a_server_without_the_address_says_so_and_serves_the_rest(built: Built) -> None:
    with built.app(embed_base_url="") as client:
        wait_for(client, "failed")
        answer = client.get(search_url(built), params={"q": "dust"})
        assert "SAEFARI_EMBED_BASE_URL" in answer.json()["message"]
        assert client.get("/papers").status_code == 200


def test_another_model_behind_the_address_is_noticed(
    built: Built, answering: Callable[[Callable[[Call], Raw]], None]
) -> None:
    def reverse(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**item, "embedding": item["embedding"][::-1]} for item in items]

    answering(lambda call: embeddings(call, as_numbers=True, change=reverse))
    with built.app() as client:
        wait_for(client, "failed")
        answer = client.get(search_url(built), params={"q": "dust"})
        assert "not the one that embedded these documents" in answer.json()["message"]


def test_one_text_that_cannot_be_embedded_costs_the_others_nothing(
    built: Built, answering: Callable[[Callable[[Call], Raw]], None]
) -> None:
    answering(lambda call: refusing(400, "no") if "n" in texts_of(call)[0][:2] else embeddings(call))
    with built.app() as client:
        wait_for(client, "ready")
        url = search_url(built)
        assert "could not be embedded" in client.get(url, params={"q": "no"}).json()["message"]
        assert client.get(url, params={"q": truth.WORDS[5]}).status_code == 200


def test_labels_are_made_again_with_the_encoder_of_the_collection(
    built: Built, run: Run, tmp_path: Path
) -> None:
    status, _, err = run("label", "papers", "--home", built.home, "--only", "3", "--dry-run")
    assert status == 0, err
    n_calls = len(built.server.calls)
    words = ["label", "papers", "--home", built.home, "--only", "3", "--quiet"]
    status, _, err = run(*words)
    assert status == 1
    assert "SAEFARI_EMBED_BASE_URL" in err
    status, _, err = run(*words, "--embed-base-url", built.server.url)
    assert status == 0, err
    asked = [text for call in built.server.calls[n_calls:] for text in texts_of(call)]
    assert remote.PROBE in asked
    assert len(asked) < 50  # the phrases are known from the build
