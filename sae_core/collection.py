"""The library in words: one collection, asked as the address of a page asks.

    papers = Collection.open("~/.saefari/collections/papers")
    print(papers.search("dust", {12: 1.5}, exclude=[33], year_min=2015))

The `Explorer` answers in positions and vectors; a `Collection` knows ids, titles and labels, takes the words
of an address (q, f, like, family, ignore, keep, ...) and says what is wrong with them in a sentence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_core import steer
from sae_core.answers import (
    DocumentFeatures,
    FamilyTree,
    Feature,
    FeatureEvidence,
    Firing,
    Member,
    Near,
    Reasons,
    Result,
    Results,
    Shown,
    Together,
)
from sae_core.errors import EmbedderNotReady, NotFoundError, SaefariError
from sae_core.explorer import Explorer, FeatureSet, SearchAnswer
from sae_core.filters import Filters
from sae_core.steer import FamilyMove, Moves
from sae_core.texts import FILE_NAME, Texts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sae_core.corpus import Document
    from sae_core.endpoint import Endpoint
    from sae_core.families import Family
    from sae_core.steer import Edit

MAX_STRENGTH = 10.0  # of unit vectors: the query is then a tenth of what is searched
MAX_AT_ONCE = 1_000  # documents of one answer
N_SHOWN = 10
LEAST_MEANING = 0.3  # cosine of a label with words, from which it is taken to mean them

Latents = int | Sequence[int]
Names = str | Sequence[str]


@dataclass(frozen=True)
class _Start:
    """What a search begins from."""

    x_D: NDArray[np.float32]
    moves: Moves
    words: NDArray[np.int64] | None = None  # documents that stand for a text that cannot be embedded
    remarks: list[str] = field(default_factory=list)


class Collection:
    """One collection under one of its SAEs. Numbers of features are those of this SAE."""

    def __init__(self, explorer: Explorer, sae: str = "", endpoint: Endpoint | None = None) -> None:
        """What an `Explorer` has loaded, in words; of its SAEs the one of this name, or the first."""
        self.explorer = explorer
        self.space: FeatureSet = explorer.get_sae(sae or next(iter(explorer.saes), ""))
        self.texts = Texts(explorer.path / FILE_NAME)
        self._endpoint = endpoint

    @classmethod
    def open(cls, folder: str | Path, sae: str = "", *, endpoint: Endpoint | None = None) -> Collection:
        """Open a folder such as ~/.saefari/collections/papers, with the SAE of this name or its first.

        `endpoint` is where an encoder openai:MODEL is asked; the others are loaded at the first text.
        Raises a SaefariError for a folder without a collection, a damaged one, or an SAE that is not there.
        """
        return cls(Explorer.load(Path(folder).expanduser()), sae, endpoint)

    @property
    def name(self) -> str:
        """As in addresses."""
        return self.explorer.name

    @property
    def sae(self) -> str:
        """The name of the SAE, as in addresses."""
        return self.space.name

    @property
    def saes(self) -> list[str]:
        """The names of all SAEs here; `under` asks another."""
        return list(self.explorer.saes)

    def under(self, sae: str) -> Collection:
        """The same collection under another of its SAEs."""
        return Collection(self.explorer, sae, self._endpoint)

    def __len__(self) -> int:
        return self.explorer.n_documents

    def __repr__(self) -> str:
        n = self.space.sae.n_latents
        return f"Collection({self.name!r}: {len(self):,} documents, SAE {self.sae} with {n:,} latents)"

    # --- search -----------------------------------------------------------------------------------

    def search(
        self,
        q: str = "",
        f: Mapping[int, float] | None = None,
        *,
        like: Names = (),
        unlike: Names = (),
        family: Mapping[int, float] | None = None,
        lock: Latents = (),
        ignore: Latents = (),
        require: Latents = (),
        exclude: Latents = (),
        keep: float | None = None,
        refine: bool = False,
        keywords: float = 0.0,
        year_min: int | None = None,
        year_max: int | None = None,
        venue: Names = (),
        category: Names = (),
        cited_min: int | None = None,
        diverse: bool = False,
        page: int = 1,
        n: int = N_SHOWN,
    ) -> Results:
        """Search by meaning and steer, in the words of the address of a search.

        `q` is a text, `like` and `unlike` ids of documents to begin from or lead away from. `f` sets
        activations by latent, `family` moves along families by root (members in `lock` stay), `ignore` takes
        features out of the query, `keep` scales all of it down to a cosine with the unsteered query and
        `refine` chooses the coefficients anew. `require` and `exclude` are features that documents must have
        or lack; years, venues, categories and citations filter them. `keywords` is the weight of the words of
        `q` (0..1), `diverse` leaves one document of each family. With nothing moved this is plain semantic
        search. Where no encoder is there, documents are found by the words of `q`. `n` documents from page
        `page`.

        Raises a SaefariError, in a sentence, for what cannot be asked: unknown documents or features, numbers
        out of bounds, moves that cancel the query.
        """
        moves = Moves(
            strengths=self._strengths(f or {}),
            ignored=frozenset(self._latents(ignore)),
            families=tuple(self._moved(root, amount, lock) for root, amount in (family or {}).items()),
            keep=_between("keep", keep, 0.01, 0.99),
            refine=refine,
        )
        required, excluded = set(self._latents(require)), set(self._latents(exclude))
        self._check(required & excluded, keywords, page, n)
        start = self._start(q, like, unlike, moves)
        first = (page - 1) * n
        asked: dict[str, Any] = {
            "filters": Filters(year_min, year_max, _several(venue), _several(category), cited_min),
            "required": required,
            "excluded": excluded,
            "diverse": diverse,
            "offset": first,
            "limit": n,
        }
        if start.words is None:
            hits = self.texts.keyword_hits(q) if q and keywords else None
            asked |= {"keywords": hits, "weight": keywords}
            answer = self.explorer.search(self.sae, start.x_D, start.moves, **asked)
        else:
            answer = self.explorer.search_words(self.sae, start.x_D, start.moves, words=start.words, **asked)
        return self._results(self._in_words(q, like, unlike, moves, family or {}), answer, start, first)

    def _check(self, contradictions: set[int], keywords: float, page: int, n: int) -> None:
        for both in contradictions:
            what = f"No document both has and lacks {self._feature(both).name}."
            raise SaefariError(what, remedy="Leave it out of require or out of exclude.")
        _between("keywords", keywords, 0.0, 1.0)
        if not (page >= 1 and 1 <= n <= MAX_AT_ONCE):
            what = f"Page {page} with {n} documents cannot be shown."
            remedy = f"Pages count from 1, with at most {MAX_AT_ONCE:,} documents each."
            raise SaefariError(what, remedy=remedy)

    def _in_words(self, q: str, like: Names, unlike: Names, moves: Moves, family: Mapping[int, float]) -> str:
        parts = [q, *(f"like {name}" for name in _several(like))]
        parts += [f"unlike {name}" for name in _several(unlike)]
        parts += [f"{self._feature(latent).name} {value:+.3g}" for latent, value in moves.strengths.items()]
        parts += [f"ignoring {self._feature(latent).name}" for latent in sorted(moves.ignored)]
        parts += [f"family {root} {amount:+.3g}" for root, amount in family.items()]
        return ", ".join(filter(None, parts))

    def _start(self, q: str, like: Names, unlike: Names, moves: Moves) -> _Start:
        """What is searched for, and what is done to it: nothing where moves are all there is."""
        if not (q or like or unlike):
            if not (moves.strengths or moves.families):
                what = "There is nothing to search for."
                raise SaefariError(what, remedy="Give a text, a document in like, or a feature in f.")
            return _Start(steer.start_from(moves, self.space.sae.directions_ND), Moves())
        wanted, unwanted = (self._positions(names) for names in (like, unlike))
        if q:
            self._need_encoder()
        try:
            return _Start(self.explorer.start(q, wanted, unwanted), moves)
        except EmbedderNotReady as error:
            words = self.texts.keyword_hits(q)
            if not len(words):
                raise
            x_D = self.explorer.start("", wanted, unwanted, words=words.tolist())
            remark = f"Found by words only, and moved from the best of these documents. {error.what}"
            return _Start(x_D, moves, words, [remark])

    def _need_encoder(self) -> None:
        if self.explorer.embedder is None and self.explorer.embedder_state == "loading":
            self.explorer.load_encoder(endpoint=self._endpoint)

    def _moved(self, root: int, amount: float, lock: Latents) -> FamilyMove:
        locked = self._latents(lock)
        sae, usual_N = self.space.sae, self.space.features.mean_N
        shares = steer.family_shares(self._family(root).members, usual_N, sae.directions_ND)
        free = {member: share for member, share in shares.items() if member not in locked}
        return FamilyMove(free, _strength(root, amount))

    def _results(self, asked: str, answer: SearchAnswer, start: _Start, first: int) -> Results:
        positions, before = answer.hits.positions.tolist(), answer.baseline_ranks
        ranks = [None] * len(positions) if before is None else before.tolist()
        documents, scores = self.texts.documents(positions), answer.hits.scores.tolist()
        rows = zip(positions, documents, scores, ranks, strict=True)
        own = self.explorer.code(self.sae, start.x_D).own
        return Results(
            asked=asked,
            found=tuple(
                Result(
                    rank=at,
                    document=document,
                    position=position,
                    score=score,
                    moved=None if rank is None or rank < 0 else rank + 1 - at,
                    is_new=rank is not None and rank < 0,
                )
                for at, (position, document, score, rank) in enumerate(rows, start=first + 1)
            ),
            total=answer.total,
            features=[Firing(self._feature(latent), value) for latent, value in own.items()],
            cosine=answer.edit.cosine,
            explained=answer.explained,
            remarks=start.remarks,
            _why=lambda result: self._reasons(result, answer.edit),
        )

    def _reasons(self, result: Result, edit: Edit) -> Reasons:
        why = self.explorer.why(self.sae, result.position, edit)
        parts = [Firing(self._feature(part.latent), part.value) for part in why.parts]
        return Reasons(result, parts, why.bias, why.missed)

    # --- documents, features, families ------------------------------------------------------------

    def document(self, document: str, n: int = N_SHOWN) -> DocumentFeatures:
        """A document by its id: its features, and the `n` documents nearest to it."""
        (position,) = self._positions(document)
        latents, values = self.space.codes.of_document(position)
        pairs = zip(latents.tolist(), values.tolist(), strict=True)
        near = self.explorer.neighbours(position, n)
        return DocumentFeatures(
            document=self.texts.documents([position])[0],
            position=position,
            features=[Firing(self._feature(latent), value) for latent, value in pairs],
            explained=self.explorer.code(self.sae, self.explorer.vector(position)).explained,
            neighbours=self._shown(near.positions, near.scores),
        )

    def features(self, words: str = "", n: int = N_SHOWN) -> list[Feature]:
        """Living features whose label has all the words, best first; without words, the best of all.

        Then those of which another candidate for the label has them, then those whose label means them.
        """
        order = np.argsort(-self.space.quality_N, kind="stable").tolist()
        living = [latent for latent in order if self.space.features.n_documents_N[latent] > 0]
        wanted, labels = words.casefold().split(), self.space.labels
        found = [latent for latent in living if _has(labels[latent].text, wanted)]
        if wanted:
            found += [i for i in living if any(_has(each.text, wanted) for each in labels[i].candidates)]
            found += self._meaning(words)
        return [self._feature(latent) for latent in list(dict.fromkeys(found))[:n]]

    def _meaning(self, words: str) -> list[int]:
        """Features by the cosine of their label with the words; none where there is no encoder."""
        vectors_ND = self.space.label_vectors_ND
        if vectors_ND is None or self.explorer.embedder_state == "absent":
            return []
        self._need_encoder()
        cosines_N = vectors_ND.astype(np.float32) @ self.explorer.embed(words)
        cosines_N[np.asarray(self.space.features.n_documents_N) == 0] = -1
        best = np.argsort(-cosines_N, kind="stable").tolist()
        return [latent for latent in best if cosines_N[latent] >= LEAST_MEANING]

    def feature(self, latent: int, n: int = N_SHOWN) -> FeatureEvidence:
        """A feature with its evidence: `n` documents of each kind, its neighbours among features."""
        (latent,) = self._latents(latent)
        table = self.space.features
        documents, activations = self.space.codes.of_latent(latent)
        near = table.near_NM[latent][:n]
        n_near = int((near >= 0).sum())
        columns = (
            table.together_NS[latent],
            table.together_lift_NS[latent],
            table.together_observed_NS[latent],
            table.together_expected_NS[latent],
        )
        together = zip(*(column.tolist() for column in columns), strict=True)
        return FeatureEvidence(
            **vars(self._feature(latent)),
            documents=self._shown(documents[:n], activations[:n]),
            near_misses=self._shown(near[:n_near], table.near_preactivation_NM[latent][:n_near]),
            similar=self._near(table.similar_NS[latent], table.similar_cosine_NS[latent]),
            opposite=self._near(table.opposite_NS[latent], table.opposite_cosine_NS[latent]),
            together=[Together(self._feature(other), *rest) for other, *rest in together if other >= 0],
        )

    def _near(self, latents: NDArray[np.int32], cosines: NDArray[np.float32]) -> list[Near]:
        pairs = zip(latents.tolist(), cosines.tolist(), strict=True)
        return [Near(self._feature(latent), cosine) for latent, cosine in pairs if latent >= 0]

    def families(self, words: str = "", n: int = N_SHOWN) -> list[FamilyTree]:
        """Families as the collection was built, largest first; only those whose name has all the words."""
        wanted = words.casefold().split()
        fitting = [family for family in self.space.families if _has(self._called(family), wanted)]
        return [self._tree(family) for family in fitting[:n]]

    def family(self, root: int) -> FamilyTree:
        """The family with this root, as the collection was built."""
        return self._tree(self._family(root))

    def _tree(self, family: Family) -> FamilyTree:
        depths: dict[int, int] = {}
        members = []
        for member, parent, share in zip(family.members, family.parents, family.conditionals, strict=True):
            depths[member] = depths[parent] + 1 if parent in depths else 0
            members.append(Member(self._feature(member), depths[member], float(share)))
        score = family.label.score if family.label else None
        return FamilyTree(
            id=family.id,
            label=self._called(family),
            auc=score.auc if score else None,
            n_documents=int(family.n_documents),
            hub_ratio=family.hub_ratio,
            block_ratio=family.block_ratio,
            members=members,
        )

    def _called(self, family: Family) -> str:
        own = family.label
        return own.text if own and own.source != "none" else self._feature(family.id).label

    # --- what is meant ----------------------------------------------------------------------------

    def _feature(self, latent: int) -> Feature:
        label, table = self.space.labels[latent], self.space.features
        n, home = int(table.n_documents_N[latent]), self.space.family_of(latent)
        return Feature(
            latent=latent,
            label=label.text if label.source != "none" else "",
            auc=label.score.auc if label.score else None,
            n_documents=n,
            density=n / max(len(self), 1),
            max=float(table.max_N[latent]),
            family=None if home is None else home.id,
        )

    def _family(self, root: int) -> Family:
        for family in self.space.families:
            if family.id == root:
                return family
        what = f"{self.sae} has no family {root}."
        raise NotFoundError(what, remedy="A family is named by its root feature; features name their own.")

    def _latents(self, latents: Latents) -> list[int]:
        several = [latents] if isinstance(latents, int) else latents
        n = self.space.sae.n_latents
        for latent in several:
            if not 0 <= latent < n or latent != int(latent):
                what = f"{self.sae} has no feature {latent}."
                raise NotFoundError(what, remedy=f"Its features are numbered from 0 to {n - 1:,}.")
        return [int(latent) for latent in several]

    def _strengths(self, strengths: Mapping[int, float]) -> dict[int, float]:
        self._latents(list(strengths))
        return {int(latent): _strength(latent, value) for latent, value in strengths.items()}

    def _positions(self, names: Names) -> list[int]:
        several = _several(names)
        found = self.texts.find_positions(several) if several else {}
        for name in several:
            if name not in found:
                what = f'There is no document "{name}" in {self.name}.'
                raise NotFoundError(what, remedy="Documents are named by their id, as in results.")
        return [found[name] for name in several]

    def _shown(self, positions: NDArray[np.integer], values: NDArray[np.floating]) -> list[Shown]:
        documents: list[Document] = self.texts.documents(positions.tolist())
        return [Shown(each, value) for each, value in zip(documents, values.tolist(), strict=True)]


def _several(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _has(text: str, words: Sequence[str]) -> bool:
    return all(word in text.casefold() for word in words)


def _strength(target: int, value: float) -> float:
    if not (math.isfinite(value) and abs(value) <= MAX_STRENGTH):
        what = f"Feature {target} cannot be set to {value}."
        raise SaefariError(what, remedy=f"Strengths are numbers from -{MAX_STRENGTH:g} to {MAX_STRENGTH:g}.")
    return float(value)


def _between(name: str, value: float | None, low: float, high: float) -> float | None:
    if value is not None and not low <= value <= high:
        raise SaefariError(f"{name} cannot be {value}.", remedy=f"Choose a number from {low:g} to {high:g}.")
    return value
