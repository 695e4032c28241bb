"""An agent uses the instrument through the package's own client, over standard input and output."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi.testclient import TestClient
from mcp import Client, StdioServerParameters
from mcp.types import TextContent

from app.agents import Instrument
from tests.app.served import Planted, Run
from tests.planted import WORDS

ROOT = Path(__file__).parent.parent.parent
ORIGIN = "http://127.0.0.1:8123"


def talk(server: Any, talk_to: Callable[[Client], Awaitable[None]]) -> None:
    """One session."""

    async def session() -> None:
        with anyio.fail_after(120):
            async with Client(server) as client:
                await talk_to(client)

    anyio.run(session)


async def ask(client: Client, tool: str, **arguments: Any) -> Any:
    """The answer of a tool, or the sentence of its error."""
    answer = await client.call_tool(tool, arguments)
    if not answer.is_error:
        return answer.structured_content
    (said,) = answer.content
    assert isinstance(said, TextContent)
    return said.text


@pytest.fixture(scope="module")
def instrument(planted: Planted) -> Instrument:
    """The tools over the planted collection with its encoder, in this process."""
    made = Instrument(planted.home, ORIGIN)
    made.__dict__["_explorers"] = {planted.explorer.name: planted.explorer}
    return made


@pytest.fixture(scope="module")
def call(instrument: Instrument) -> Callable[..., Any]:
    """`ask` in a session of its own."""

    def call_one(tool: str, **arguments: Any) -> Any:
        answers = []

        async def once(client: Client) -> None:
            answers.append(await ask(client, tool, **arguments))

        talk(instrument.server, once)
        return answers[0]

    return call_one


def test_an_agent_can_use_the_instrument_over_stdio(planted: Planted) -> None:
    words = ["-m", "app.cli", "mcp", "--home", str(planted.home), "--port", "8123"]
    server = StdioServerParameters(command=sys.executable, args=words, cwd=ROOT)

    async def session(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert {"collections", "search", "steer", "feature", "family", "document"} <= tools.keys()
        assert all(tool.description and tool.annotations for tool in tools.values())
        assert all(tool.annotations.read_only_hint for tool in tools.values() if tool.annotations)
        listed = await ask(client, "collections")
        assert [each["name"] for each in listed["collections"]] == ["planted"]
        found = await ask(client, "search", q=WORDS[3])
        assert "words only" in found["remarks"][0]  # this collection came with its vectors
        first = found["results"][0]["document"]
        assert first["address"].startswith(f"{ORIGIN}/planted/documents/")
        read = await ask(client, "document", id=first["id"])
        assert WORDS[3] in read["text"]
        strongest = str(read["features"][0]["latent"])
        steered = await ask(client, "steer", like=[first["id"]], f={strongest: -0.5})
        assert steered["cosine"] < 1
        assert "numbered from 0 to 63" in await ask(client, "feature", latent=9999)

    talk(server, session)


def test_an_answer_is_what_its_address_shows(
    planted: Planted, client: TestClient, call: Callable[..., Any]
) -> None:
    often = int(planted.set.features.n_documents_N.argmax())
    family = planted.set.families[0].id
    for tool, asked in (
        ("search", {"q": WORDS[8], "year_min": 2005, "venue": ["Journal 1"], "keywords": 0.3}),
        ("search", {"like": ["doc-0017"], "unlike": ["doc-0044"], "page": 2}),
        ("steer", {"q": WORDS[8], "f": {"5": 0.41, "9": -0.2}, "exclude": [often], "keep": 0.9}),
        ("steer", {"q": WORDS[8], "family": {str(family): 0.5}, "ignore": [5], "collection": "planted"}),
    ):
        said = call(tool, **asked)
        assert said["address"].startswith(ORIGIN)
        path, _, parameters = said["address"].removeprefix(ORIGIN).partition("?")
        page = client.get(f"{path}.json?{parameters}").json()
        assert [each["document"]["id"] for each in said["results"]] == [
            each["document"]["id"] for each in page["results"]
        ]
        assert [each.get("moved") for each in said["results"]] == [each["moved"] for each in page["results"]]
        assert (said["total"], said["page"]) == (page["page"]["total"], page["page"]["number"])
        for result in said["results"]:
            assert client.get(result["document"]["address"].removeprefix(ORIGIN)).status_code == 200


def test_features_and_families_are_found_and_read(
    planted: Planted, client: TestClient, call: Callable[..., Any]
) -> None:
    family = planted.set.families[0]
    tree = call("family", root=family.id)
    assert [each["feature"]["latent"] for each in tree["members"]] == family.members[:100]
    evidence = call("feature", latent=family.id)
    assert evidence["family"] == family.id
    assert len(evidence["strongest"]) == 5
    found = call("features", words=evidence["feature"]["label"])
    assert family.id in [each["latent"] for each in found["features"]]
    for address in (tree["address"], found["address"], evidence["feature"]["address"]):
        assert client.get(address.removeprefix(ORIGIN)).status_code == 200


def test_answers_are_small(call: Callable[..., Any]) -> None:
    for answer in (
        call("search", q=WORDS[3]),
        call("feature", latent=5),
        call("document", id="doc-0017"),
        call("features"),
        call("collections"),
    ):
        assert 100 < len(str(answer)) < 10_000
        assert "None" not in str(answer)


@pytest.mark.parametrize(
    ("tool", "asked", "sentence"),
    [
        ("search", {}, "There is nothing to search for."),
        (
            "search",
            {"q": "a", "collection": "gone"},
            'There is no collection "gone" here. Here are: planted.',
        ),
        ("search", {"q": "a", "sae": "gone"}, "planted has no SAE gone."),
        ("search", {"q": "a" * 5000}, "at most 2,000 characters"),
        ("search", {"q": "a", "page": 10**30}, "a whole number from 1 to 1,000"),
        ("search", {"q": "a", "limit": 10**6}, "search has no argument limit. It has: q, collection"),
        ("search", {"q": "a", "year_min": "when?"}, "The argument year_min cannot be used"),
        ("search", {"like": ["nobody"]}, 'There is no document "nobody" in planted.'),
        ("search", {"like": ["doc-0017"] * 9 + [f"doc-{i:04}" for i in range(9)]}, "at most 8 values"),
        ("steer", {"q": "a", "f": {"64": 1}}, "a whole number from 0 to 63"),
        ("steer", {"q": "a", "f": {"5": 1e30}}, "a number from -10 to 10"),
        ("steer", {"q": "a", "f": {"dust": 1}}, "The argument f.dust cannot be used"),
        ("steer", {"q": "a", "require": [5], "exclude": [5]}, "both has and lacks #5"),
        ("feature", {}, "The argument latent cannot be used"),
        ("family", {"root": -1}, "has no family -1"),
        ("document", {"id": "\0"}, "There is no document"),
    ],
)
def test_a_mistake_comes_back_as_a_sentence(
    call: Callable[..., Any], tool: str, asked: dict[str, Any], sentence: str
) -> None:
    said = call(tool, **asked)
    assert sentence in said
    assert "\n" not in said
    assert "validation error" not in said


def test_without_the_package_a_sentence_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    monkeypatch.delitem(sys.modules, "app.agents")
    status, out, err = run("mcp")
    assert (status, out) == (1, "")
    assert "pip install -c constraints.txt '.[mcp]'" in err


def test_a_damaged_collection_is_named_and_the_others_are_served(tmp_path: Path) -> None:
    (tmp_path / "collections" / "broken").mkdir(parents=True)
    (tmp_path / "collections" / "broken" / "CURRENT").write_text("gone", encoding="utf-8")
    said = Instrument(tmp_path).collections()
    assert said.collections == []
    assert said.not_served[0].startswith("broken: ")
