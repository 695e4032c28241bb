"""Claims about what other sites see: frames for those that are named, pictures, and what a link says."""

from __future__ import annotations

import io
import re
import threading
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pydantic import ValidationError

from app import urls
from app.mathematics import plain
from app.search import is_search
from app.settings import Settings
from app.sharing import pictures
from app.sharing.drawing import draw
from app.sharing.pictures import MAX_WAITING, Pictures, TooManyPictures
from app.sharing.typefaces import tidy, typeface
from app.views.sharing import Digest, DigestBar
from tests.app.served import Planted, serve
from tests.planted import WORDS

ODD = [
    "", " ",
    "\x00\ud800", "日本語の題名", "שלום עולם", "مرحبا بالعالم", "Привет, мир", "नमस्ते दुनिया", "👩‍👩‍👧 😀",
    "\u202eabc", "ﷺ" * 500, "a" * 5_000, "x\u0301" * 300, "$\\frac{1}{2}$ & <b>", "﷽\U000e0041",
]  # fmt: skip


@pytest.fixture
def latent(planted: Planted) -> int:
    """A feature that many documents have."""
    return int(np.argmax(planted.set.features.n_documents_N))


def digest(**changes: Any) -> Digest:
    told: dict[str, Any] = {
        "eyebrow": "Feature 1",
        "title": "dust",
        "facts": ["fires on 1 % of documents"],
        "heading": "Strongest in",
        "documents": [DigestBar("A title", 0.0, "0.412")],
        "figure": "How strongly",
        "counts": [3, 2, 1],
        "maximum": "0.412",
        "bars": [],
        "place": "papers",
    }
    return Digest(**told | changes)


# --- frames ---------------------------------------------------------------------------------------


def test_nobody_may_frame_anything_unless_the_setting_says_so(client: TestClient, planted: Planted) -> None:
    answer = client.get(urls.embed(planted.explorer.name, planted.sae, 0))
    assert answer.status_code == 200
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert "Embed this feature" not in client.get(urls.feature(planted.explorer.name, planted.sae, 0)).text


def test_the_sites_of_the_setting_may_frame_that_page_and_no_other(planted: Planted, latent: int) -> None:
    embed = urls.embed(planted.explorer.name, planted.sae, latent)
    with TestClient(serve(planted, embed_on="https://a.example, https://*.b.example")) as client:
        framed, page, missing = (client.get(path) for path in (embed, planted.base, f"{embed}s"))
    policy = framed.headers["Content-Security-Policy"]
    assert policy.endswith("frame-ancestors https://a.example https://*.b.example")
    assert policy.startswith("default-src 'none'; script-src 'self'; ")
    assert "X-Frame-Options" not in framed.headers
    assert "<script" not in framed.text
    for other in (page, missing):
        assert "frame-ancestors 'none'" in other.headers["Content-Security-Policy"]
        assert other.headers["X-Frame-Options"] == "DENY"


def test_the_frame_says_what_the_feature_is(client: TestClient, planted: Planted, latent: int) -> None:
    text = client.get(urls.embed(planted.explorer.name, planted.sae, latent)).text
    page = urls.feature(planted.explorer.name, planted.sae, latent)
    documents = client.get(urls.json(page)).json()["groups"][0][1]
    assert f"#{latent}" in text
    assert [document["title"] in text for document in documents[:6]] == [True] * 5 + [False]
    assert client.get(urls.embed(planted.explorer.name, planted.sae, 10**20)).status_code == 404


@pytest.mark.parametrize(
    "sites", ["a.example", "https://a.example; script-src *", "https://a.example/path", "'self'"]
)
def test_what_is_no_site_is_refused(sites: str) -> None:
    with pytest.raises(ValidationError, match="is no site"):
        Settings(embed_on=sites)  # type: ignore[arg-type]


def test_a_site_may_have_any_port_and_all_may_be_meant() -> None:
    assert Settings(embed_on="http://localhost:*,https://[::1]:8000,*").embed_on == (  # type: ignore[arg-type]
        "http://localhost:*", "https://[::1]:8000", "*",
    )  # fmt: skip


# --- pictures -------------------------------------------------------------------------------------


def test_pictures_have_the_size_that_others_want(client: TestClient, planted: Planted, latent: int) -> None:
    family = next(iter(planted.set.forest.families)).id
    name, sae = planted.explorer.name, planted.sae
    for page in (
        urls.feature(name, sae, latent),
        urls.family(name, sae, family),
        urls.search(name, sae, WORDS[0], [(latent, 0.5)]),
        urls.search(name, sae),
    ):
        answer = client.get(urls.twin(page, "png"))
        assert answer.status_code == 200, page
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert len(answer.content) < 100_000
        with Image.open(io.BytesIO(answer.content)) as image:
            assert image.size == (1200, 630)


def test_a_search_for_a_picture_waits_among_the_searches() -> None:
    assert is_search("/papers/k4-n64-0a1b2c/search.png")
    assert not is_search("/papers/k4-n64-0a1b2c/features/1.png")


def test_a_picture_is_drawn_once(
    client: TestClient, planted: Planted, latent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = urls.twin(urls.search(planted.explorer.name, planted.sae, WORDS[1], [(latent, 0.25)]), "png")
    first = client.get(url)
    monkeypatch.setattr(pictures, "draw", lambda _: b"another")
    assert client.get(f"{url}&page=1").content == first.content
    assert client.get(url.replace("0.25", "0.75")).content == b"another"


def test_what_has_no_picture_says_so(client: TestClient, planted: Planted) -> None:
    base = planted.base
    for path, status in (
        ("features/99999999999999999999.png", 404), ("features/x.png", 404), ("families/x.png", 404),
        ("families/99999999999999999999.png", 404), ("search.png?f=1", 400),
    ):  # fmt: skip
        assert client.get(f"{base}/{path}").status_code == status, path


def test_a_dead_feature_has_a_picture_too(client: TestClient, planted: Planted) -> None:
    dead = [latent for latent, n in enumerate(planted.set.features.n_documents_N) if n == 0]
    assert client.get(f"{planted.base}/features/{dead[0]}.png").status_code == 200


def test_only_so_many_wait_for_a_picture() -> None:
    kept, may_go = Pictures(), threading.Event()
    arrived = threading.Semaphore(0)

    def slow() -> Digest:
        arrived.release()
        may_go.wait(10)
        return digest()

    threads = [threading.Thread(target=kept.get, args=(at, slow)) for at in range(MAX_WAITING)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert arrived.acquire(timeout=10)
    with pytest.raises(TooManyPictures):
        kept.get("one more", digest)
    may_go.set()
    for thread in threads:
        thread.join()
    assert kept.get("one more", digest) == draw(digest())


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_text_in_any_script_can_be_drawn(text: str) -> None:
    bars = [DigestBar(text, share, text[:8]) for share in (1.0, -0.5, 0.0)]
    for counts in ([], [0, 5, 1]):
        told = digest(
            title=text, place=text, facts=[text], documents=bars, bars=bars, counts=counts, figure=text
        )
        assert draw(told).startswith(b"\x89PNG")


def test_text_stays_in_its_box() -> None:
    face = typeface(26)
    for text in [*ODD, "a title of some words " * 30]:
        lines = face.lines(text, 300, 2)
        assert len(lines) <= 2
        assert all(face.width(line) <= 300 for line in lines)
    assert face.lines("one two", 300, 2) == ["one two"]
    long = face.lines("a title of some words " * 30, 300, 2)
    assert long[1].endswith("…")
    assert "a title of some words".startswith(long[0].split(" ")[0])


def test_scripts_that_the_fonts_have_are_kept() -> None:
    for text in ("Ωmega Привет", "שלום", "مرحبا", "z ≥ 6, 10⁹ M⊙ → ∞", "naïve Erdős"):
        assert tidy(text) == text
    assert tidy("a\u202e\ud800\x00b") == "a b"


# --- what a link says -----------------------------------------------------------------------------


def test_a_page_says_what_it_is_with_addresses_of_the_world(planted: Planted, latent: int) -> None:
    family = next(iter(planted.set.forest.families)).id
    name, sae = planted.explorer.name, planted.sae
    pages = [
        urls.feature(name, sae, latent),
        urls.family(name, sae, family),
        urls.search(name, sae, WORDS[0], [(latent, 0.5)]),
    ]
    with TestClient(serve(planted, public_url="https://explorer.example.org/")) as client:
        for page in pages:
            said = dict(
                re.findall(
                    r'<meta (?:property|name)="((?:og|twitter):[^"]+)" content="([^"]*)"',
                    client.get(page).text,
                )
            )
            assert said["og:url"].replace("&amp;", "&") == f"https://explorer.example.org{page}"
            picture = said["og:image"].replace("&amp;", "&")
            assert picture == f"https://explorer.example.org{urls.twin(page, 'png')}"
            assert client.get(picture.removeprefix("https://explorer.example.org")).status_code == 200
            assert said["og:description"]
            assert said["og:title"].endswith("Saefari")
            assert said["twitter:card"] == "summary_large_image"


def test_without_a_public_address_a_page_says_what_was_asked_for(
    client: TestClient, planted: Planted
) -> None:
    text = client.get(urls.feature(planted.explorer.name, planted.sae, 0)).text
    assert f'content="http://testserver{planted.base}/features/0.png"' in text


@pytest.mark.parametrize("address", ["explorer.example.org", "https://x/y", "ftp://x", 'https://x"><b>'])
def test_a_public_address_has_a_scheme_and_no_path(address: str) -> None:
    with pytest.raises(ValidationError, match="without a path"):
        Settings(public_url=address)


def test_the_public_name_may_be_asked_for(planted: Planted) -> None:
    with TestClient(serve(planted, public_url="https://explorer.example.org")) as client:
        assert client.get("/", headers={"Host": "explorer.example.org"}).status_code in (200, 303, 307)
        assert client.get("/", headers={"Host": "other.example.org"}).status_code == 400


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (r"$\mathcal{N}=4$ at $\sqrt{s}=7$ TeV", "N=4 at √s=7 TeV"),
        (r"$10^{-9}$ of $x_{12}$ and $\frac{1}{2}$", "10⁻⁹ of x₁₂ and 1/2"),
        (r"between $5 and $10", r"between $5 and $10"),
        (r"$a<b$ & <i>", "a<b & <i>"),
    ],
)
def test_formulas_can_be_read_where_they_cannot_be_set(text: str, shown: str) -> None:
    assert plain(text) == shown
