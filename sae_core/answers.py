"""What a collection answers in Python: documents, features, families with their names, fit to be printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, overload

from sae_core.errors import NotFoundError, tidy

if TYPE_CHECKING:
    from sae_core.corpus import Document
    from sae_core.intervals import Interval

WIDTH = 100  # of a printed line, in characters
LABEL_WIDTH = 50
N_PRINTED = 6  # of a list inside a printed answer

_Parts = Sequence[tuple[str, Sequence[object]]]  # what a list is called, and what is in it


class _Printed:
    """Shows itself at a prompt as it is printed."""

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, repr=False)
class Feature(_Printed):
    """A feature as it is named: its latent, its label with the label's measured score, how often it fires."""

    latent: int
    label: str  # "" where there is none
    auc: Interval | None  # how well the label predicts the feature, .5 is chance; None: not measured
    n_documents: int  # on which it fires
    density: float  # share of the documents, 0..1
    max: float  # its largest activation; 0 where it never fires
    family: int | None  # the smallest that has it, by its root

    def __str__(self) -> str:
        score = "" if self.auc is None else f", AUC {self.auc.value:.2f}"
        return f"{self.name}  ({self.n_documents:,} documents, {self.density:.3g}{score})"

    @property
    def name(self) -> str:
        """The latent and its label."""
        return f"#{self.latent} {tidy(self.label, LABEL_WIDTH) if self.label else '(no label)'}"


@dataclass(frozen=True, repr=False)
class Firing(_Printed):
    """A feature and how active it is on the text or document at hand."""

    feature: Feature
    activation: float

    def __str__(self) -> str:
        return f"{_activation(self.activation)}  {self.feature.name}"


@dataclass(frozen=True, repr=False)
class Near(_Printed):
    """A feature and the cosine of its direction with another one's."""

    feature: Feature
    cosine: float

    def __str__(self) -> str:
        return f"{self.cosine:+.2f}  {self.feature.name}"


@dataclass(frozen=True, repr=False)
class Together(_Printed):
    """A feature that fires on the same documents as another: observed / expected = lift."""

    feature: Feature
    lift: float
    observed: int
    expected: float

    def __str__(self) -> str:
        counts = f"{self.observed:,} together, {self.expected:.1f} by chance"
        return f"{self.lift:.1f}x  {self.feature.name} ({counts})"


@dataclass(frozen=True, repr=False)
class Shown(_Printed):
    """A document in a list, and what it is there for: a cosine, or an activation."""

    document: Document
    value: float

    def __str__(self) -> str:
        return f"{self.value:.3f}  {cite(self.document)}"


@dataclass(frozen=True, repr=False)
class FeatureEvidence(Feature):
    """A feature and what it rests on."""

    documents: list[Shown]  # strongest first, with its activation
    near_misses: list[Shown]  # documents without it, with the pre-activation that was not enough
    similar: list[Near]
    opposite: list[Near]
    together: list[Together]

    def __str__(self) -> str:
        parts: _Parts = [
            ("strongest", self.documents),
            ("similar", self.similar),
            ("fire together", self.together),
        ]
        return _printed(super().__str__(), parts)


@dataclass(frozen=True, repr=False)
class Member(_Printed):
    """A feature in the tree of a family."""

    feature: Feature
    depth: int  # 0: the root
    conditional: float  # P(its parent fires | it fires); 1 for the root

    def __str__(self) -> str:
        return f"{'  ' * self.depth}{self.feature}"


@dataclass(frozen=True, repr=False)
class FamilyTree(_Printed):
    """A family: what it is called, and its members from the root down."""

    id: int  # the root's latent
    label: str  # its own, or else that of its root; "" where there is neither
    auc: Interval | None  # of its own label
    n_documents: int  # on which at least one member fires
    hub_ratio: float | None
    block_ratio: float | None
    members: list[Member]

    def __str__(self) -> str:
        head = (
            f"family {self.id} {self.label}  ({len(self.members)} features, {self.n_documents:,} documents)"
        )
        return _printed(head, [("", self.members)], most=len(self.members))


@dataclass(frozen=True, repr=False)
class DocumentFeatures(_Printed):
    """A document, what its features are, and what is near it."""

    document: Document
    position: int  # row of the collection
    features: list[Firing]  # strongest first
    explained: float  # share of its centred squared norm that its features explain
    neighbours: list[Shown]  # with their cosine

    def __str__(self) -> str:
        parts: _Parts = [("features", self.features), ("nearest", self.neighbours)]
        return _printed(cite(self.document), parts)


# --- a search -------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Result(_Printed):
    """A document in the answer to a search."""

    rank: int  # from 1, over all pages
    document: Document
    position: int  # row of the collection
    score: float  # cosine with the steered query
    moved: int | None  # places gained (+) or lost (-) against the same search unsteered; None: not steered
    is_new: bool  # not among the first thousand of the unsteered search

    def __str__(self) -> str:
        change = "new" if self.is_new else f"{self.moved:+d}" if self.moved else ""
        return f"{self.rank:>4}  {self.score:.3f}  {change:>5}  {cite(self.document)}"


@dataclass(frozen=True, repr=False)
class Reasons(_Printed):
    """A score as a sum: parts + bias + missed = score."""

    result: Result
    parts: list[Firing]  # the document's features, each with what it brings, by falling size
    bias: float  # the same for every document
    missed: float  # not captured by features

    def __str__(self) -> str:
        first, rest = self.parts[:N_PRINTED], self.parts[N_PRINTED:]
        sums = [(part.activation, part.feature.name) for part in first]
        if rest:
            sums.append((sum(part.activation for part in rest), f"{len(rest)} more features"))
        sums += [(self.bias, "the same for every document"), (self.missed, "not captured by features")]
        head = f"{self.result.score:.3f}  {cite(self.result.document)}"
        return "\n".join([head, *(f"  {value:+.3f}  {name}" for value, name in sums)])


@dataclass(frozen=True, repr=False)
class Results(_Printed, Sequence[Result]):
    """One page of the answer to a search. A sequence of results; printed, a table."""

    asked: str  # the search, in words
    found: tuple[Result, ...]
    total: int  # documents that can be found on some page
    features: list[Firing]  # the query's own, those that say most of it first
    cosine: float  # of the steered query with the query; 1: nothing is steered
    explained: float  # share of the query's centred squared norm that its features explain
    remarks: list[str]  # what is not as asked, in sentences
    _why: Callable[[Result], Reasons] = field(compare=False)

    @overload
    def __getitem__(self, at: int) -> Result: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Result, ...]: ...
    def __getitem__(self, at: int | slice) -> Result | tuple[Result, ...]:
        return self.found[at]

    def __len__(self) -> int:
        return len(self.found)

    def __str__(self) -> str:
        head = f"{self.asked}: {len(self)} of {self.total:,} documents"
        steered = "" if self.cosine >= 1 else f", cosine with the unsteered query {self.cosine:.2f}"
        return "\n".join([head + steered, *self.remarks, *map(str, self.found)])

    def why(self, rank: int = 1) -> Reasons:
        """Why the document of this rank stands there: what each of its features brings to the score."""
        for result in self.found:
            if result.rank == rank:
                return self._why(result)
        ranks = f"from {self.found[0].rank} to {self.found[-1].rank}" if self.found else "none"
        raise NotFoundError(f"No result here has rank {rank}.", remedy=f"Ranks on this page: {ranks}.")


def cite(document: Document) -> str:
    """A document in a line: title, year, id."""
    year = "" if document.year is None else f" ({document.year})"
    number = "" if document.id == document.title else f"  {document.id}"
    return f"{tidy(document.title or document.id, WIDTH - 40)}{year}{number}"


def _activation(value: float) -> str:
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}"  # noqa: PLR2004 (small ones need a digit more)


def _printed(head: str, parts: _Parts, most: int = N_PRINTED) -> str:
    lines = [head]
    for name, entries in parts:
        if name and entries:
            lines.append(f"  {name}:")
        lines += [f"{'    ' if name else '  '}{entry}" for entry in entries[:most]]
    return "\n".join(lines)
