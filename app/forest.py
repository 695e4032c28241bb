"""A forest of families as pages show it: names, nesting, the map, measures and definition in words."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.called import called
from app.labels import label_view, mention
from app.query import COLOURS, MANY, FamilyQuery
from app.views.common import LabelView, Trust
from app.views.families import FamilyArea, FamilyCard, FamilyMap, Measure

if TYPE_CHECKING:
    from app.authored.labels import LabelText
    from app.deps import ServedSAE
    from sae_core.families import Family, FamilyConfig, Forest, Null
    from sae_core.labels import Label

MAX_AREAS = 150  # boxes of a treemap; smaller ones could not be told apart
N_CHILDREN = 8  # that a card names
CHANCE = 0.05  # a p of at most that is above chance
HUB_TONES = (1.0, 2.0, 4.0)  # R from which a box is darker

_SCORE_TONES = {"strong": 3, "fair": 2, "weak": 1}
_LEGENDS: dict[str, list[tuple[int, str]]] = {
    "score": [
        (3, "strong label, AUC from 0.90"),
        (2, "fair, from 0.75"),
        (1, "weak"),
        (0, "near chance or not scored"),
    ],
    "hub": [(3, "R from 4"), (2, "2 to 4"), (1, "1 to 2"), (0, "below 1 or not defined: no hub")],
}


class ServedForest:
    """A forest with what all requests for it share."""

    def __init__(self, sae: ServedSAE, forest: Forest) -> None:
        self.sae = sae
        self.config = forest.config
        self.forest = forest
        self.families = {family.id: family for family in forest.families}
        self._built = {family.id: family for family in sae.set.families}
        self._own = {family.id: label for family in forest.families if (label := self._own_label(family))}
        self.labels = {family.id: self._label(family, sae) for family in forest.families}
        self.above = _nesting(forest.families)
        self._homes = _homes(forest.families)
        query = FamilyQuery(sae.collection, sae.name, stored=sae.set.forest.config, config=forest.config)
        self.urls = {family.id: query.url_of(family.id) for family in forest.families}

    def called(self, sae: ServedSAE) -> ServedForest:
        """The same forest under what people say of `sae`."""
        if sae is self.sae:
            return self
        new = copy.copy(self)
        new.sae = sae
        changed = {*sae.said, *sae.words.families}.intersection(self.families)
        new.labels = self.labels | {each: self._label(self.families[each], sae) for each in changed}
        return new

    def is_built(self, family: Family) -> bool:
        """Whether the collection was built with this family: one with the same members."""
        built = self._built.get(family.id)
        return built is not None and set(built.members) == set(family.members)

    def _own_label(self, family: Family) -> Label | None:
        """The family's label; one that was built with the same members is the same family."""
        if family.label is not None:
            return family.label
        return self._built[family.id].label if self.is_built(family) else None

    def _label(self, family: Family, sae: ServedSAE) -> LabelView:
        own, said = self._own.get(family.id), self._said(family, sae)
        view = sae.labels[family.id] if own is None else label_view(own)
        view = sae.labels[family.id] if view.source == "none" else view
        return view if said is None else called(view, said) or view

    def _said(self, family: Family, sae: ServedSAE) -> LabelText | None:
        """What people say of a family: only of one that was built."""
        said = sae.words.families.get(family.id)
        return said if said is not None and self.is_built(family) else None

    def is_own(self, family: Family) -> bool:
        """Whether a family's label is its own; else it is that of its root feature."""
        said = self._said(family, self.sae)
        return self.own_label(family.id) is not None or (said is not None and said.text != "")

    def own_label(self, family: int) -> Label | None:
        """The label that the family has besides that of its root feature."""
        own = self._own.get(family)
        return None if own is None or own.source == "none" else own

    def home(self, latent: int) -> int | None:
        """The smallest family that has a feature."""
        return self._homes.get(latent)

    def name(self, family: int) -> str:
        """What a family is called where it is mentioned."""
        label = self.labels[family]
        if label.source != "none":
            return label.text
        return self.sae.texts[family] if label.automatic is None else mention(label, family)

    def trust(self, family: int) -> Trust:
        return self.labels[family].trust

    def score(self, family: int) -> float | None:
        """How well the automatic label predicts: people's have no score."""
        label = self.labels[family]
        return (label.automatic or label).trust.auc

    def card(self, family: Family, n_children: int = N_CHILDREN) -> FamilyCard:
        return FamilyCard(
            id=family.id,
            label=self.name(family.id),
            trust=self.trust(family.id),
            is_own=self.is_own(family),
            url=self.urls[family.id],
            size=len(family.members),
            density=family.n_documents / max(self.sae.n_documents, 1),
            n_documents=int(family.n_documents),
            hub_ratio=finite(family.hub_ratio),
            block_ratio=finite(family.block_ratio),
            children=[self.sae.chip(member) for member in family.members[1 : n_children + 1]],
        )

    def holders(self, family: int) -> list[int]:
        """The families that this one lies in, the largest first."""
        found: list[int] = []
        above = self.above.get(family)
        while above is not None:
            found.append(above)
            above = self.above.get(above)
        return found[::-1]

    def map(self, area: str = "features", colour: str = COLOURS[0], most: int = MAX_AREAS) -> FamilyMap:
        """The largest families as boxes, each inside the one that holds it."""
        shown = sorted(self.families.values(), key=lambda family: (-len(family.members), family.id))[:most]
        places = {family.id: place for place, family in enumerate(shown)}
        inside: list[list[int]] = [[] for _ in shown]
        tops = []
        for place, family in enumerate(shown):
            above = self.above.get(family.id)
            if above is None:
                tops.append(place)
            else:
                inside[places[above]].append(place)  # a larger one, so shown too
        return FamilyMap(
            areas=[self._area(family, area, colour, inside[place]) for place, family in enumerate(shown)],
            tops=tops,
            legend=_LEGENDS[colour],
            area=area,
            colour=colour,
            n_left_out=len(self.families) - len(shown),
        )

    def _area(self, family: Family, area: str, colour: str, inside: list[int]) -> FamilyArea:
        trust, hub = self.trust(family.id), finite(family.hub_ratio)
        tone = _SCORE_TONES.get(trust.level, 0)
        if colour == "hub":
            tone = 0 if hub is None else sum(hub >= least for least in HUB_TONES)
        return FamilyArea(
            id=family.id,
            label=self.name(family.id),
            url=self.urls[family.id],
            trust=trust,
            size=len(family.members),
            n_documents=int(family.n_documents),
            hub_ratio=hub,
            area=float(family.n_documents if area == "documents" else len(family.members)),
            tone=tone,
            children=[self.sae.texts[member] for member in family.members[1 : N_CHILDREN + 1]],
            inside=inside,
        )


def _homes(families: Sequence[Family]) -> dict[int, int]:
    """By feature, the smallest family that has it."""
    homes: dict[int, int] = {}
    for family in sorted(families, key=lambda family: (len(family.members), family.id)):
        for member in family.members:
            homes.setdefault(member, family.id)
    return homes


def _nesting(families: Sequence[Family]) -> dict[int, int]:
    """By family, the smallest other that has all its members, where there is one."""
    members = {family.id: frozenset(family.members) for family in families}
    having: dict[int, list[int]] = {}
    for family in sorted(families, key=lambda family: (len(family.members), family.id)):
        for member in family.members:
            having.setdefault(member, []).append(family.id)
    above = {}
    for family in families:
        own = members[family.id]
        for other in having[family.id]:
            if len(members[other]) > len(own) and own <= members[other]:
                above[family.id] = other
                break
    return above


def finite(value: float | None) -> float | None:
    """A number that can be shown, or None."""
    return None if value is None or not math.isfinite(value) else float(value)


# --- in words -------------------------------------------------------------------------------------


def measures(
    hub: float | None, hub_null: Null | None, block: float | None, block_null: Null | None
) -> list[Measure]:
    """The two measures of families, of one or of all, beside what chance makes of them."""
    return [
        _measure(
            "R, parent as hub",
            "How often the parent is active with its children, over how often these are with one another. "
            "Above 1 the parent holds the family together.",
            hub,
            hub_null,
        ),
        _measure(
            "inside / outside",
            "How often features are active together with others of the family, over how often with those "
            "outside it. Above 1 the family is a block.",
            block,
            block_null,
        ),
    ]


def _measure(name: str, meaning: str, value: float | None, null: Null | None) -> Measure:
    shown = finite(value)
    if shown is None or null is None:
        return Measure(name, meaning, shown, None, None, None, None)
    return Measure(
        name, meaning, shown, finite(null.mean), finite(null.high), finite(null.p), null.p <= CHANCE
    )


def definition(config: FamilyConfig) -> str:
    """How families were found, in words."""
    return {"paper": _by_roots, "lift": _by_homes, "nesting": _by_homes}[config.algorithm](config)


def _guards(config: FamilyConfig) -> str:
    most = f", and neither fires on more than {config.max_density:.3g} of all documents"
    return (
        f"they fire together on at least {config.min_together} documents, at least {config.min_lift:g} times "
        f"as often as independent features would and {config.min_z:g} standard deviations more often"
        f"{'' if config.max_density >= 1 else most}"
    )


def _by_roots(config: FamilyConfig) -> str:
    edge = "P(denser fires | sparser fires)" if config.edge == "parent" else "P(sparser fires | denser fires)"
    return (
        f"Two features are joined when M = {edge} is at least {config.threshold:g} and {_guards(config)}. "
        "The maximum spanning forest of these edges, each directed from the denser to the sparser feature, "
        f"gives families: a root with at least {config.min_children} children and all its descendants. Roots "
        f"are removed and the forest is grown again, {config.n_iterations} times in all. Families of "
        f"{_sizes(config)} features are kept, and of two with Jaccard above {config.max_jaccard:g} the "
        "larger."
    )


def _by_homes(config: FamilyConfig) -> str:
    above = "a denser one" if config.algorithm == "lift" else "one of an earlier group of the nested SAE"
    return (
        f"Each feature hangs under {above} where P(parent fires | child fires) is at least "
        f"{config.threshold:g} and {_guards(config)}; of several, under the one with the largest product of "
        "that share and the logarithm of the lift. So it has one home, and links to others nearly as good. "
        f"A branch that would make a family larger than {_most(config)} is a family of its own. "
        f"Families of {_sizes(config)} features are kept in which some feature has at least "
        f"{config.min_children} children; what is left over tries its next best parents."
    )


def _most(config: FamilyConfig) -> str:
    return "any bound" if config.max_size >= MANY else f"{config.max_size} features"


def _sizes(config: FamilyConfig) -> str:
    is_open = config.max_size >= MANY
    return f"{config.min_size} or more" if is_open else f"{config.min_size} to {config.max_size}"
