"""What a browser has already is not made again."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from sae_core import artifact
from sae_core.explorer import Explorer
from tests.app.served import Planted, serve
from tests.planted import WORDS


def pages(planted: Planted) -> list[str]:
    base, name = planted.base, planted.explorer.name
    search = f"{planted.search}?q={WORDS[0]}"
    return [
        f"/{name}", f"/{name}.json", base, search, f"{planted.search}.json?q={WORDS[0]}", f"{base}/features",
        f"{base}/features.csv", f"{base}/features/3", f"{base}/families", f"/{name}/documents/doc-0100",
    ]  # fmt: skip


def test_a_page_that_a_browser_has_is_not_sent_again(planted: Planted, client: TestClient) -> None:
    for page in pages(planted):
        tag = client.get(page).headers["etag"]
        again = client.get(page, headers={"If-None-Match": f'"other", {tag}'})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag), page
        assert client.get(page, headers={"If-None-Match": '"other"'}).status_code == 200


def test_nothing_is_searched_for_it(
    planted: Planted, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = f"{planted.search}?q={WORDS[1]}&f=3:%2B0.50"
    tag = client.get(page).headers["etag"]

    def search(*_: object, **__: object) -> None:
        pytest.fail("it was searched")

    monkeypatch.setattr(Explorer, "search", search)
    assert client.get(page, headers={"If-None-Match": tag}).status_code == 304


def test_a_block_of_a_page_and_another_format_are_other_answers(planted: Planted, client: TestClient) -> None:
    page = f"{planted.search}?q={WORDS[0]}"
    block = {"HX-Request": "true", "HX-Request-Type": "partial", "HX-Target": "section#results"}
    kinds: list[dict[str, str]] = [{}, block, {"Accept": "application/json"}, {"Accept": "text/csv"}]
    answers = [client.get(page, headers=headers) for headers in kinds]
    assert len({answer.headers["etag"] for answer in answers}) == len(kinds)
    assert all("Accept" in answer.headers["vary"] for answer in answers)
    for headers in kinds:
        known = {"If-None-Match": answers[0].headers["etag"]}
        assert client.get(page, headers=headers | known).status_code == (304 if headers == {} else 200)


def test_another_generation_is_another_answer(planted: Planted, tmp_path: Path) -> None:
    shutil.copytree(planted.home / "collections", tmp_path / "collections")
    collection = tmp_path / "collections" / planted.explorer.name
    app = create_app(Settings(home=tmp_path, renew_seconds=0))
    with TestClient(app) as client:
        page = f"{planted.base}/features"
        tag = client.get(page).headers["etag"]
        with artifact.locked(collection), artifact.revise(collection):
            pass
        assert client.get(page, headers={"If-None-Match": tag}).status_code == 304
        app.state.shelf.renew()
        assert client.get(page, headers={"If-None-Match": tag}).status_code == 200


def test_an_answer_that_may_be_another_in_a_moment_is_not_kept(planted: Planted) -> None:
    explorer = copy.copy(planted.explorer)
    explorer._embedder, explorer.embedder_state = None, "loading"
    with TestClient(serve(planted, explorer)) as client:
        asked = f"{planted.search}?q=of+{WORDS[2]}+and+more"
        waiting = client.get(asked)
        tag = waiting.headers.get("etag")
        explorer.attach_encoder(planted.explorer.embedder)  # type: ignore[arg-type]
        answer = client.get(asked, headers={} if tag is None else {"If-None-Match": tag})
        assert answer.status_code == 200
        assert answer.text != waiting.text
    errors = [f"{planted.base}/features/999999", f"{planted.search}?f=1:x", f"{planted.base}/features/random"]
    with TestClient(serve(planted), follow_redirects=False) as client:
        assert [client.get(page).headers.get("etag") for page in errors] == [None] * 3
