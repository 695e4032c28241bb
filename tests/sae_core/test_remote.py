"""Embedding behind an endpoint: asked in batches, checked, asked again, kept; and what goes wrong."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sae_core import endpoint as client
from sae_core.embed import (
    KeptEmbedder,
    RowsError,
    embed_corpus,
    foresee,
    identity,
    is_same,
    load_embedder,
    remote,
)
from sae_core.endpoint import Endpoint
from sae_core.errors import EmbeddingError
from tests.embedding_model import Change, as_base64, embeddings, refusing, texts_of, vectors_of
from tests.language_model import HANG, RESET, Call, FakeModel, Raw, serving
from tests.planted import WORDS

ROOT = Path(__file__).parents[2]
KEY = "sk-secret-0123456789"
SPEC = "openai:tiny/embed:1b"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are as long as ever, in hundredths of seconds."""
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(client, "LONGEST_PAUSE", 0.02)


def embedder_of(server: FakeModel, truncate: int | None = None, **options: Any) -> Any:
    where = Endpoint(server.url, "", **{"key": KEY, "timeout": 5.0, **options})
    return load_embedder(SPEC, endpoint=where, truncate=truncate)


def corpus(n: int) -> list[str]:
    return [f"{WORDS[row % 48]} {WORDS[row % 13]} in sample {row}" for row in range(n)]


def asked(server: FakeModel) -> list[str]:
    """Every text that came, but for the probe."""
    return [text for call in server.calls for text in texts_of(call) if text != remote.PROBE]


def after_the_probe(*raws: Callable[[Call], Raw]) -> Callable[[Call], Raw]:
    """The probe is answered well, then these come one after the other, the last for ever."""

    def answer(call: Call) -> Raw:
        return embeddings(call) if call.number == 0 else raws[min(call.number, len(raws)) - 1](call)

    return answer


def spoilt(change: Change, *, as_numbers: bool = True) -> Callable[[Call], Raw]:
    return lambda call: embeddings(call, as_numbers=as_numbers, change=change)


def with_first(vector: object) -> Change:
    """The first vector replaced."""
    return lambda items: [{**items[0], "embedding": vector}, *items[1:]]


def with_first_index(index: int) -> Change:
    return lambda items: [{**items[0], "index": index}, *items[1:]]


def without_index(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"embedding": item["embedding"]} for item in items]


def with_each(**changed: Any) -> Change:
    """Every vector replaced, or its index."""
    return lambda items: [{**item, **changed} for item in items]


# --- one call -------------------------------------------------------------------------------------


def test_a_call_is_openais_and_its_vectors_come_back_as_unit_rows() -> None:
    with serving(embeddings) as server:
        embedder = embedder_of(server)
        found = embedder.embed(corpus(3))
    assert [call.path for call in server.calls] == ["/v1/embeddings"] * 2
    assert server.calls[1].headers["authorization"] == f"Bearer {KEY}"
    assert server.calls[1].body == {
        "model": "tiny/embed:1b", "input": server.calls[1].body["input"], "encoding_format": "base64"
    }  # fmt: skip
    np.testing.assert_allclose(found, vectors_of(corpus(3)), atol=1e-6)
    assert (embedder.width, embedder.tokens) == (32, 20)
    assert embedder.embed([]).shape == (0, 32)
    assert KEY not in repr(vars(embedder)) + embedder.name + embedder.fingerprint


@pytest.mark.parametrize(
    "answer",
    [
        lambda call: embeddings(call, as_numbers=True),
        lambda call: embeddings(call, change=lambda items: items[::-1]),
        lambda call: embeddings(call, change=without_index),
        lambda call: refusing(400) if "encoding_format" in call.body else embeddings(call),
    ],
    ids=["decimal numbers", "out of order", "without index", "base64 unknown"],
)  # fmt: skip
def test_every_dialect_is_understood(answer: Callable[[Call], Raw]) -> None:
    with serving(answer) as server:
        np.testing.assert_allclose(embedder_of(server).embed(corpus(5)), vectors_of(corpus(5)), atol=1e-6)


BAD: dict[str, tuple[Callable[[Call], Raw], str]] = {
    "500": (lambda _: refusing(500, "out of memory"), "500 (out of memory)"),
    "429": (lambda _: Raw(429, b"{}", {"Retry-After": "0"}), "429"),
    "reset": (lambda _: RESET, "broke the connection"),
    "HTML": (lambda _: Raw(body=b"<html>Login</html>"), "HTML where JSON was expected; is --embed-base-url"),
    "half": (lambda call: Raw(body=embeddings(call).body[:-40]), "not JSON"),
    "torn": (lambda _: Raw(body=b'{"da', headers={"Content-Length": "900", "Connection": "close"}), "broke"),
    "nested": (lambda _: Raw(body=b"[" * 100_000), "not JSON"),
    "no list": (lambda _: Raw(body=b'{"embedding": [1.0]}'), "without a list of vectors"),
    "fewer": (spoilt(lambda items: items[:-1]), "4 vectors for 5 texts"),
    "more": (spoilt(lambda items: [*items, items[0]]), "6 vectors for 5 texts"),
    "none": (spoilt(lambda _: []), "0 vectors for 5 texts"),
    "other width": (spoilt(with_each(embedding=[1.0, 2.0])), "vectors of 2 numbers; they had 32"),
    "several widths": (spoilt(with_first([1.0])), "different lengths (1, 32 numbers)"),
    "empty": (spoilt(with_each(embedding=[])), "without numbers"),
    "NaN": (spoilt(with_first([float("nan")] * 32)), "no finite number"),
    "infinite": (spoilt(with_first([1e999] * 32)), "no finite number"),
    "null": (spoilt(with_first([None] * 32)), "no finite number"),
    "huge": (spoilt(with_first([10**400] * 32)), "no finite number"),
    "zeros": (spoilt(with_first([0.0] * 32)), "zero"),
    "NaN in base64": (spoilt(with_first(as_base64(np.full(32, np.nan, np.float32)))), "no finite number"),
    "bad base64": (spoilt(with_first("@@@")), "base64 that cannot be read"),
    "odd base64": (spoilt(with_first("AAAA")), "base64 that cannot be read"),
    "words": (spoilt(with_first(["1.0"] * 32)), "something else than numbers"),
    "no vector": (spoilt(lambda items: [{"index": n} for n in range(len(items))]), "a text has no vector"),
    "strings": (spoilt(lambda items: ["x"] * len(items)), "a text has no vector"),
    "same index": (spoilt(with_each(index=0)), "of which text"),
    "index beyond": (spoilt(with_first_index(5)), "of which text"),
    "ten megabytes": (lambda _: Raw(body=b" " * 10_000_000), "more than"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_goes_wrong_once_is_asked_again(name: str) -> None:
    with serving(after_the_probe(BAD[name][0], embeddings)) as server:
        np.testing.assert_allclose(embedder_of(server).embed(corpus(5)), vectors_of(corpus(5)), atol=1e-6)
        assert len(server.calls) == 3


@pytest.mark.parametrize("name", BAD)
def test_what_goes_wrong_always_is_said_and_costs_few_calls(name: str) -> None:
    bad, said = BAD[name]
    with serving(after_the_probe(bad)) as server:
        embedder = embedder_of(server)
        with pytest.raises(EmbeddingError) as caught:
            embedder.embed(corpus(5))
        assert 2 < len(server.calls) <= 1 + client.TRIES_BUSY
    assert said in str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("status", [301, 401, 403, 404])
def test_a_refusal_is_said_at_once_and_never_tells_the_key(
    status: int, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    said = json.dumps({"error": {"message": f"no such key: {KEY}"}}).encode()
    with serving(lambda _: Raw(status, said, {"Location": "http://127.0.0.1:1/"})) as server:
        with pytest.raises(EmbeddingError, match=str(status)) as caught:
            embedder_of(server)
        assert len(server.calls) == 1
    assert caught.value.remedy
    assert KEY not in str(caught.value) + caplog.text + "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "base",
    [
        "",
        "localhost",
        "http://user:pw@host",
        "http://exa mple",
        "http://\u2603.invalid",
        "http://127.0.0.1:1",
    ],
)
def test_an_address_that_leads_nowhere_is_a_sentence(base: str) -> None:
    with pytest.raises(EmbeddingError) as caught:
        load_embedder(SPEC, endpoint=Endpoint(base, "", KEY, timeout=2))
    assert caught.value.remedy
    assert KEY not in str(caught.value)


def test_a_hang_ends_with_the_time_limit_and_with_the_limit_of_the_whole() -> None:
    with serving(after_the_probe(lambda _: HANG)) as server:
        patient, hurried = embedder_of(server, timeout=0.3), None
        began = time.monotonic()
        with pytest.raises(EmbeddingError, match=r"No answer .* within 0\.3 s.*--embed-timeout"):
            patient.embed(["dust"])
        assert time.monotonic() - began < 3
    with serving(after_the_probe(lambda _: Raw(500))) as server:
        hurried = embedder_of(server)
        hurried._endpoint = replace(hurried._endpoint, limit=0.02)
        with pytest.raises(EmbeddingError, match=r"within 0\.02 s"):
            hurried.embed(["dust"])


def test_a_model_that_cannot_embed_is_said_when_it_is_loaded() -> None:
    with (
        serving(lambda _: refusing(400, "this model does not embed")) as server,
        pytest.raises(EmbeddingError, match=r"does not embed.*--embedder"),
    ):
        embedder_of(server)
    with pytest.raises(EmbeddingError, match=r"address is not known here.*--embed-base-url"):
        load_embedder(SPEC)


def test_an_interrupt_is_seen_whichever_thread_the_system_gives_it_to() -> None:
    """Only the first thread runs handlers, and while it waits no signal to another wakes it."""
    asleep, begun = threading.Event(), threading.Event()
    other = threading.Thread(target=asleep.wait, args=(20,))
    other.start()

    async def hang() -> None:
        begun.set()
        await asyncio.sleep(20)

    def interrupt() -> None:
        begun.wait(20)
        time.sleep(0.2)  # so that the first thread waits
        signal.pthread_kill(other.ident or 0, signal.SIGINT)

    began = time.monotonic()
    sender = threading.Thread(target=interrupt)
    sender.start()
    with pytest.raises(KeyboardInterrupt):
        client.run_apart(hang)
    assert time.monotonic() - began < 10
    asleep.set()
    for thread in (sender, other):
        thread.join()


# --- many texts -----------------------------------------------------------------------------------


def test_calls_are_bounded_in_texts_and_tokens_and_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "BATCH_TEXTS", 10)
    monkeypatch.setattr(remote, "BATCH_TOKENS", 100)
    texts = [*corpus(40), *(text * 9 for text in corpus(5)), "x" * 4000]

    def answer(call: Call) -> Raw:
        time.sleep(0.02)
        return embeddings(call)

    with serving(answer) as server:
        found = embedder_of(server, concurrency=3).embed(texts)
        np.testing.assert_allclose(found, vectors_of(texts), atol=1e-6)
        assert 1 < server.most_at_once <= 3
    sent = [texts_of(call) for call in server.calls[1:]]
    assert Counter(text for some in sent for text in some) == Counter(texts)
    assert max(map(len, sent)) <= 10
    assert all(len(some) == 1 or sum(map(len, some)) <= 4 * 100 for some in sent)


def test_a_server_that_takes_few_texts_at_a_time_is_given_few() -> None:
    """As TEI does: 32 unless it is told otherwise."""

    def answer(call: Call) -> Raw:
        return embeddings(call) if len(texts_of(call)) <= 32 else refusing(413, "batch size > maximum")

    with serving(answer) as server:
        found = embedder_of(server, concurrency=2).embed(corpus(1000))
        np.testing.assert_allclose(found, vectors_of(corpus(1000)), atol=1e-6)
        refused = sum(len(texts_of(call)) > 32 for call in server.calls)
        assert refused <= 2 * 2  # at two sizes, by those under way at the same time


def test_a_text_that_is_too_long_is_cut_and_this_is_said(caplog: pytest.LogCaptureFixture) -> None:
    texts = [*corpus(20), "dust " * 500]

    def answer(call: Call) -> Raw:
        return refusing(400, "too long") if max(map(len, texts_of(call))) > 700 else embeddings(call)

    with serving(answer) as server, caplog.at_level(logging.WARNING):
        found = embedder_of(server).embed(texts)
        np.testing.assert_allclose(found[:20], vectors_of(corpus(20)), atol=1e-6)
        np.testing.assert_allclose(found[20:], vectors_of([texts[20][:625]]), atol=1e-6)
    assert "1 texts are too long" in caplog.text


def test_a_text_that_is_refused_in_any_length_is_named(tmp_path: Path) -> None:
    texts = corpus(300)

    def answer(call: Call) -> Raw:
        is_bad = any(text in refused for text in texts_of(call))
        return refusing(422, "not this one") if is_bad else embeddings(call)

    refused = {texts[217][: len(texts[217]) >> n] for n in range(8)}
    with serving(answer) as server:
        with pytest.raises(RowsError, match=r"row 217 .*not this one.*begins") as caught:
            embed_corpus(texts, embedder_of(server), tmp_path)
        assert caught.value.rows == [217]
        refused.clear()
        np.testing.assert_allclose(
            embed_corpus(texts, embedder_of(server), tmp_path), vectors_of(texts), atol=1e-6
        )


def test_a_text_whose_vector_is_none_is_named_in_the_corpus(tmp_path: Path) -> None:
    texts = corpus(300)

    def answer(call: Call) -> Raw:
        places = [place for place, text in enumerate(texts_of(call)) if text == texts[123]]

        def change(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [
                {**item, "embedding": [None] * 32} if n in places else item for n, item in enumerate(items)
            ]

        return embeddings(call, as_numbers=True, change=change)

    with serving(answer) as server, pytest.raises(RowsError) as caught:
        embed_corpus(texts, embedder_of(server), tmp_path)
    assert caught.value.rows == [123]


def test_odd_texts_can_be_sent() -> None:
    odd = ["", " ", "\ud800 half a pair", "\0", "\u202e", "𝔡𝔲𝔰𝔱", "a" * 50_000]
    with serving(embeddings) as server:
        assert embedder_of(server).embed(odd).shape == (7, 32)
        assert "" not in asked(server)


# --- the cache ------------------------------------------------------------------------------------


def test_nothing_is_asked_twice_and_an_outage_costs_what_was_under_way(tmp_path: Path) -> None:
    texts = corpus(1000)

    def answer(call: Call) -> Raw:
        return embeddings(call) if call.number < 5 else refusing(401, "quota")

    with (
        serving(answer) as server,
        pytest.raises(EmbeddingError, match=r"401.*What was embedded so far is kept"),
    ):
        embed_corpus(texts, embedder_of(server, concurrency=2), tmp_path)
    first = {text for call in server.calls[1:5] for text in texts_of(call)}
    with serving(embeddings) as server:
        found = embed_corpus(texts, embedder_of(server), tmp_path)
        assert set(asked(server)) == set(texts) - first
        again = embed_corpus(texts[::-1], embedder_of(server), tmp_path)
        assert len(asked(server)) == len(texts) - len(first)
    np.testing.assert_allclose(found, vectors_of(texts), atol=1e-6)
    np.testing.assert_array_equal(again[::-1], found)


RUN = """
import json, sys
from pathlib import Path
from sae_core.embed import embed_corpus, load_embedder, remote
from sae_core.endpoint import Endpoint
spec, url, cache = sys.argv[1:]
remote.BATCH_TEXTS = 20
embedder = load_embedder(spec, endpoint=Endpoint(url, "", concurrency=3))
embed_corpus(json.load(sys.stdin), embedder, Path(cache), lambda done, total: print(done, flush=True))
"""


def test_kill_minus_nine_asks_again_only_what_was_under_way(tmp_path: Path) -> None:
    texts, done = corpus(800), 0

    def answer(call: Call) -> Raw:
        return Raw(body=embeddings(call).body, pause=0.02)

    with serving(answer) as server:
        command = [sys.executable, "-c", RUN, SPEC, server.url, str(tmp_path)]
        with subprocess.Popen(
            command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(texts))
            process.stdin.close()
            while done < 300:
                done = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
        n_before = len(asked(server))
        assert n_before < 800
        np.testing.assert_allclose(
            embed_corpus(texts, embedder_of(server), tmp_path), vectors_of(texts), atol=1e-6
        )
        twice = [text for text, n in Counter(asked(server)).items() if n > 1]
        assert set(asked(server)) == set(texts)
    assert len(twice) <= 3 * 20
    assert n_before - len(twice) >= done


def test_another_model_of_the_same_name_does_not_fill_the_same_cache(tmp_path: Path) -> None:
    with serving(embeddings) as server:
        embed_corpus(corpus(5), embedder_of(server), tmp_path)

    def other(call: Call) -> Raw:
        return embeddings(call, as_numbers=True, change=reversed_numbers)

    with serving(other) as server:
        with pytest.raises(
            EmbeddingError, match=r"now gives other vectors than those in .*remove that folder"
        ):
            embed_corpus(corpus(9), embedder_of(server), tmp_path)
        with pytest.raises(EmbeddingError, match="now gives other vectors"):
            KeptEmbedder(embedder_of(server), tmp_path)
        assert asked(server) == []


def reversed_numbers(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**item, "embedding": item["embedding"][::-1]} for item in items]


def test_short_texts_are_kept_too(tmp_path: Path) -> None:
    with serving(embeddings) as server:
        kept = KeptEmbedder(embedder_of(server), tmp_path)
        np.testing.assert_allclose(
            kept.embed(["dust", "gas", "dust"]), vectors_of(["dust", "gas", "dust"]), atol=1e-6
        )
        KeptEmbedder(embedder_of(server), tmp_path).embed(["gas", "dust"])
        assert sorted(asked(server)) == ["dust", "gas"]
        short = KeptEmbedder(embedder_of(server, truncate=4), tmp_path)
        assert short.embed(["gas"]).shape == (1, 4)
        assert short.embed([]).shape == (0, 4)
        assert len(asked(server)) == 2


def test_what_a_run_would_ask_is_foreseen_without_asking(tmp_path: Path) -> None:
    texts = corpus(1000)
    plan = foresee(texts, SPEC, tmp_path)
    with serving(embeddings) as server:
        embed_corpus(texts[:400], embedder_of(server), tmp_path)
        rest = foresee(texts, SPEC, tmp_path)
        n_calls = len(server.calls)
        embed_corpus(texts, embedder_of(server), tmp_path)
        assert len(server.calls) - n_calls == rest.n_calls + 1  # and the probe
    assert (plan.n_texts, rest.n_texts) == (1000, 600)
    assert plan.n_tokens == pytest.approx(sum(map(len, texts)) / 4, rel=0.1)
    assert foresee(texts, SPEC, tmp_path).n_texts == 0
    assert foresee(texts, "openai:another", tmp_path).n_texts == 1000


# --- identity and truncation ----------------------------------------------------------------------


def test_a_model_is_known_by_its_name_and_by_where_it_puts_a_sentence() -> None:
    with serving(embeddings) as server:
        said = json.loads(json.dumps(identity(embedder_of(server))))
        assert is_same(said, embedder_of(server))
        assert not is_same(said, embedder_of(server, truncate=8))
        other_name = load_embedder("openai:other", endpoint=Endpoint(server.url, ""))
        assert not is_same(said, other_name)
    with serving(lambda call: embeddings(call, as_numbers=True, change=reversed_numbers)) as server:
        assert not is_same(said, embedder_of(server))

    def rounded(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**item, "embedding": [round(number, 1) for number in item["embedding"]]} for item in items]

    with serving(lambda call: embeddings(call, as_numbers=True, change=rounded)) as server:
        assert is_same(said, embedder_of(server))


def test_truncated_vectors_are_the_first_numbers_and_the_cache_has_all(tmp_path: Path) -> None:
    whole = vectors_of(corpus(50))
    with serving(embeddings) as server:
        for width in (8, 4, 32, None):
            found = embed_corpus(corpus(50), embedder_of(server, truncate=width), tmp_path)
            expected = whole[:, :width] / np.linalg.norm(whole[:, :width], axis=1, keepdims=True)
            np.testing.assert_allclose(found, expected, atol=1e-6)
        assert len(asked(server)) == 50
        short = embedder_of(server, truncate=8)
        np.testing.assert_allclose(short.embed(["dust"])[0] @ short.embed(["dust"])[0], 1.0, atol=1e-6)
        assert (short.width, identity(short)["truncate"]) == (8, 8)
        assert "truncate" not in identity(embedder_of(server, truncate=32))
        with pytest.raises(EmbeddingError, match=r"first 33 numbers .* gives only 32.*--truncate"):
            embedder_of(server, truncate=33)
