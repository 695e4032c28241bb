"""What `saefari mcp` serves: the collections as tools for agents, by the Model Context Protocol.

A tool takes the words of an address, and parses them as an address is parsed; `Collection` answers, and what
it says is cut to what an agent can read. Mistakes come back as errors with a sentence, from which it goes on.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError

from app import urls
from app.query import FeatureQuery, Parameters, SearchQuery
from app.views.agents import (
    Collections,
    CollectionSaid,
    DocumentRead,
    DocumentSaid,
    EvidenceSaid,
    FamilySaid,
    Features,
    FeatureSaid,
    MemberSaid,
    ResultSaid,
    SAESaid,
    SearchSaid,
)
from sae_core import artifact
from sae_core.collection import Collection
from sae_core.errors import NotFoundError, SaefariError
from sae_core.explorer import Explorer

try:
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.types import CallToolResult, TextContent, ToolAnnotations
except ModuleNotFoundError as error:
    raise SaefariError(
        "The package mcp, which speaks to agents, is not installed.",
        remedy="pip install -c constraints.txt '.[mcp]'",
    ) from error

if TYPE_CHECKING:
    from sae_core.answers import Feature
    from sae_core.corpus import Document
    from sae_core.endpoint import Endpoint

PAGE_SIZE = 10  # documents of a search, as on its page
N_FEATURES = 12  # of a query or a document
N_DOCUMENTS = 5  # of each kind of evidence
N_NEIGHBOURS = 6
N_FOUND = 20
MAX_MEMBERS = 100
EXCERPT = 200  # characters
DECIMALS = 4

INSTRUCTIONS = (
    "Saefari opens an embedding space: search documents by meaning, see which features the query has, then "
    "steer: set features to other activations (f), ignore, require or exclude them. Begin with collections. "
    "Numbers of features belong to one SAE. A label is a name with a measured score (auc, .5 is chance); the "
    "documents are the evidence. Every answer has the address of the page that shows the same to a person."
)
READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)

CollectionName = Annotated[
    str, Field(description="As `collections` names it; may be left out if there is one.")
]
SAEName = Annotated[str, Field(description="An SAE of the collection; default: its first.")]
Text = Annotated[str, Field(description="What documents should be about.")]
Ids = Annotated[tuple[str, ...], Field(description="Ids of documents.")]
Latents = Annotated[tuple[int, ...], Field(description="Numbers of features.")]
Year = Annotated[int | None, Field(description="Bound of the year, inclusive.")]
Names = Annotated[tuple[str, ...], Field(description="Any of these.")]
Page = Annotated[int, Field(description=f"From 1; {PAGE_SIZE} documents each.")]
Strengths = Annotated[
    dict[int, float] | None,
    Field(
        description="Activation to set, by feature. 0 takes it away, up to its max is usual, below 0 avoids."
    ),
]
Families = Annotated[dict[int, float] | None, Field(description="How far to move along families, by root.")]
Keep = Annotated[float | None, Field(description="Least cosine with the unsteered query, .01 to .99.")]


class Agents(MCPServer[Any]):
    """A server whose errors are our sentences."""

    def __init__(self, tools: Sequence[Callable[..., CallToolResult]]) -> None:
        version = importlib.metadata.version("saefari")
        super().__init__("saefari", instructions=INSTRUCTIONS, version=version, log_level="WARNING")
        self._arguments = {tool.__name__: list(inspect.signature(tool).parameters) for tool in tools}
        for tool in tools:
            self.add_tool(tool, description=inspect.getdoc(tool), annotations=READS, structured_output=False)

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
        known = self._arguments.get(name, list(arguments))
        for argument in arguments:
            if argument not in known:
                raise ToolError(f"{name} has no argument {argument[:EXCERPT]}. It has: {', '.join(known)}.")
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if isinstance(error.__cause__, SaefariError):
                raise ToolError(str(error.__cause__)) from error
            if isinstance(error.__cause__, ValidationError):
                raise ToolError(_sentences(error.__cause__)) from error
            raise


def _sentences(error: ValidationError) -> str:
    """What is wrong with each argument."""
    places = [
        (".".join(str(part) for part in each["loc"] if part != "[key]"), each) for each in error.errors()
    ]
    said = dict.fromkeys(f"The argument {place} cannot be used: {each['msg']}." for place, each in places)
    return " ".join(said)


class Instrument:
    """The tools. Collections are loaded once. Calls take turns: many at once would only crowd."""

    def __init__(self, home: Path, origin: str = "", endpoint: Endpoint | None = None) -> None:
        """Show what is below `home`; its pages are at `origin`, and texts may go to `endpoint`."""
        self.home, self.origin, self.endpoint = home, origin, endpoint
        self.problems: list[str] = []
        self._turn = threading.Lock()
        self._opened: dict[tuple[str, str], Collection] = {}

    @cached_property
    def server(self) -> Agents:
        """The tools as a server, which runs on standard input and output."""
        tools: list[Callable[..., Any]] = [self.collections, self.search, self.steer]
        tools += [self.features, self.feature, self.family, self.document]
        return Agents([self._told(tool) for tool in tools])

    def _told(self, tool: Callable[..., Any]) -> Callable[..., CallToolResult]:
        """The tool, in its turn, with its answer as JSON."""

        @wraps(tool)
        def call(**arguments: Any) -> CallToolResult:
            with self._turn:
                said = _plain(asdict(tool(**arguments)))
            text = json.dumps(said, ensure_ascii=False)
            return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=said)

        return call

    def load(self) -> None:
        """Load all collections now; else the first call does."""
        with self._turn:
            self._explorers  # noqa: B018 (made where it is first looked at)

    @cached_property
    def _explorers(self) -> dict[str, Explorer]:
        loaded = {}
        for folder in artifact.collections(self.home):
            try:
                loaded[folder.name] = Explorer.load(folder)
            except SaefariError as error:
                self.problems.append(f"{folder.name}: {error}")
        return loaded

    # --- tools ------------------------------------------------------------------------------------

    def collections(self) -> Collections:
        """The collections of documents that can be searched, and their SAEs."""
        said = []
        for name, explorer in self._explorers.items():
            saes = [
                SAESaid(
                    name=space.name,
                    n_latents=space.sae.n_latents,
                    n_families=len(space.families),
                    fvu_heldout=_short(space.metrics["fvu_heldout"]),
                    address=self._at(urls.sae(name, space.name)),
                )
                for space in explorer.saes.values()
            ]
            has_encoder = explorer.embedder_spec is not None
            address = self._at(urls.collection(name))
            said.append(
                CollectionSaid(name, explorer.title, explorer.n_documents, has_encoder, saes, address)
            )
        return Collections(said, self.problems)

    def search(
        self,
        q: Text = "",
        *,
        collection: CollectionName = "",
        sae: SAEName = "",
        like: Ids = (),
        unlike: Ids = (),
        year_min: Year = None,
        year_max: Year = None,
        venue: Names = (),
        category: Names = (),
        cited_min: Annotated[int | None, Field(description="Citations at least.")] = None,
        keywords: Annotated[
            float, Field(description="Weight of the words of q beside its meaning, 0..1.")
        ] = 0,
        page: Page = 1,
    ) -> SearchSaid:
        """Search documents by meaning: those a text is about, or like others. Says the query's features."""
        return self._search(collection, sae, locals())

    def steer(
        self,
        q: Text = "",
        f: Strengths = None,
        *,
        collection: CollectionName = "",
        sae: SAEName = "",
        like: Ids = (),
        unlike: Ids = (),
        ignore: Latents = (),
        require: Latents = (),
        exclude: Latents = (),
        family: Families = None,
        keep: Keep = None,
        year_min: Year = None,
        year_max: Year = None,
        venue: Names = (),
        category: Names = (),
        page: Page = 1,
    ) -> SearchSaid:
        """The same search, moved along features: results say how many places they gained or lost.

        `f` sets activations, `ignore` takes features out of the query, `require` and `exclude` keep only
        documents that have or lack them. With neither q nor like, f itself is the query.
        """
        return self._search(collection, sae, locals())

    def features(
        self,
        words: Annotated[
            str, Field(description="Of labels, or of like meaning; none: the best features.")
        ] = "",
        collection: CollectionName = "",
        sae: SAEName = "",
    ) -> Features:
        """Features whose label has the words, then those whose label means them."""
        asked = self._open(collection, sae)
        query = FeatureQuery.parse(asked.name, asked.sae, Parameters.of([("words", words)]))
        found = asked.features(query.words, n=N_FOUND)
        return Features(self._at(query.url()), [self._feature(asked, each) for each in found])

    def feature(
        self,
        latent: Annotated[int, Field(description="The number of the feature.")],
        collection: CollectionName = "",
        sae: SAEName = "",
    ) -> EvidenceSaid:
        """One feature with its evidence: strongest documents, near misses, neighbours and companions."""
        asked = self._open(collection, sae)
        found = asked.feature(latent, n=N_DOCUMENTS)
        near = {
            name: [self._feature(asked, each.feature, each.cosine) for each in some[:N_NEIGHBOURS]]
            for name, some in (("similar", found.similar), ("opposite", found.opposite))
        }
        return EvidenceSaid(
            feature=self._feature(asked, found),
            density=_short(found.density),
            family=found.family,
            strongest=[self._document(asked, each.document, each.value) for each in found.documents],
            near_misses=[self._document(asked, each.document, each.value) for each in found.near_misses],
            together=[
                self._feature(asked, each.feature, each.lift) for each in found.together[:N_NEIGHBOURS]
            ],
            **near,
        )

    def family(
        self,
        root: Annotated[int, Field(description="The number of the family's root feature.")],
        collection: CollectionName = "",
        sae: SAEName = "",
    ) -> FamilySaid:
        """A family of features that fire together, as a tree from its root."""
        asked = self._open(collection, sae)
        found = asked.family(root)
        return FamilySaid(
            root=found.id,
            label=found.label,
            auc=None if found.auc is None else _short(found.auc.value),
            n_documents=found.n_documents,
            hub_ratio=_ratio(found.hub_ratio),
            block_ratio=_ratio(found.block_ratio),
            n_members=len(found.members),
            members=[
                MemberSaid(each.depth, self._feature(asked, each.feature))
                for each in found.members[:MAX_MEMBERS]
            ],
            address=self._at(urls.family(asked.name, asked.sae, found.id)),
        )

    def document(
        self,
        id: Annotated[str, Field(description="The document's id, as in results.")],  # noqa: A002 (its name)
        collection: CollectionName = "",
        sae: SAEName = "",
    ) -> DocumentRead:
        """One document: its text, the features it has, and the documents nearest to it."""
        asked = self._open(collection, sae)
        found = asked.document(id, n=N_DOCUMENTS)
        return DocumentRead(
            document=replace(self._document(asked, found.document), excerpt=""),
            text=found.document.abstract,
            authors=found.document.authors,
            categories=found.document.categories,
            url=found.document.url,
            explained=_short(found.explained),
            features=[
                self._feature(asked, each.feature, each.activation) for each in found.features[:N_FEATURES]
            ],
            neighbours=[self._document(asked, each.document, each.value) for each in found.neighbours],
        )

    # --- what they share --------------------------------------------------------------------------

    def _search(self, collection: str, sae: str, words: dict[str, Any]) -> SearchSaid:
        asked = self._open(collection, sae)
        pairs = Parameters.of(_pairs(words))
        query = SearchQuery.parse(asked.name, asked.sae, pairs, asked.space.sae.n_latents)
        found = asked.search(
            query.q,
            dict(query.strengths),
            like=query.like,
            unlike=query.unlike,
            family=dict(query.families),
            ignore=query.ignored,
            require=query.required,
            exclude=query.excluded,
            keep=query.keep,
            keywords=query.keywords,
            year_min=query.year_min,
            year_max=query.year_max,
            venue=query.venues,
            category=query.categories,
            cited_min=query.cited_min,
            page=query.page,
            n=PAGE_SIZE,
        )
        return SearchSaid(
            address=self._at(query.url()),
            total=found.total,
            page=query.page,
            cosine=_short(found.cosine),
            explained=_short(found.explained),
            results=[
                ResultSaid(
                    rank=each.rank,
                    score=_short(each.score),
                    moved=each.moved,
                    is_new=each.is_new,
                    document=self._document(asked, each.document),
                )
                for each in found
            ],
            features=[
                self._feature(asked, each.feature, each.activation) for each in found.features[:N_FEATURES]
            ],
            remarks=found.remarks,
        )

    def _open(self, name: str, sae: str) -> Collection:
        """The collection of that name, or the only one, under one of its SAEs; kept."""
        if not name and len(self._explorers) == 1:
            (name,) = self._explorers
        if name not in self._explorers:
            what = f'There is no collection "{name[:EXCERPT]}" here.' if name else "No collection is named."
            here = ", ".join(self._explorers) or "none; build one with `saefari build`"
            raise NotFoundError(what, remedy=f"Here are: {here}.")
        if (known := self._opened.get((name, sae))) is None:
            known = Collection(self._explorers[name], sae, self.endpoint)
            self._opened[name, sae] = known
        return known

    def _at(self, url: str) -> str:
        return f"{self.origin}{url}"

    def _feature(self, asked: Collection, feature: Feature, value: float | None = None) -> FeatureSaid:
        return FeatureSaid(
            latent=feature.latent,
            label=feature.label,
            auc=None if feature.auc is None else _short(feature.auc.value),
            n_documents=feature.n_documents,
            max=_short(feature.max),
            address=self._at(urls.feature(asked.name, asked.sae, feature.latent)),
            value=None if value is None else _short(value),
        )

    def _document(self, asked: Collection, document: Document, value: float | None = None) -> DocumentSaid:
        text, sae = document.abstract, "" if asked.sae == asked.saes[0] else asked.sae
        return DocumentSaid(
            id=document.id,
            title=document.title,
            year=document.year,
            venue=document.venue,
            excerpt=text if len(text) <= EXCERPT else f"{text[: EXCERPT - 1]}…",
            address=self._at(urls.document(asked.name, document.id, sae)),
            value=None if value is None else _short(value),
        )


_STRENGTHS = ("f", "family")


def _pairs(words: dict[str, Any]) -> list[urls.Parameter]:
    """Arguments of a tool as the parameters of an address."""
    pairs: list[urls.Parameter] = []
    for name, value in words.items():
        if name in {"self", "collection", "sae"} or value is None:
            continue
        if name in _STRENGTHS:
            pairs += [(name, f"{latent}:{strength}") for latent, strength in value.items()]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            pairs += [(name, str(each)) for each in value]
        else:
            pairs.append((name, str(value)))
    return pairs


def _plain(said: Any) -> Any:
    """Without what is not known: every word costs an agent."""
    if isinstance(said, list):
        return [_plain(each) for each in said]
    if isinstance(said, dict):
        return {name: _plain(value) for name, value in said.items() if value not in (None, "", [])}
    return said


def _short(value: float) -> float:
    return round(float(value), DECIMALS)


def _ratio(value: float | None) -> float | None:
    return None if value is None else _short(value)
