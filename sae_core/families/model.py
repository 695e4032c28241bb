"""What a family is, what it was grown with, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sae_core.errors import SaefariError
from sae_core.labels import Label

ALGORITHMS = ("lift", "paper", "nesting")
EDGES = ("parent", "child")
NO_PARENT = -1
OWN: Any = None  # stands for the default of the algorithm
DEFAULTS: dict[str, dict[str, float]] = {
    "paper": {"threshold": 0.1, "min_lift": 2.0, "min_z": 4.0, "max_density": 1.0, "max_size": 1_000_000},
    "lift": {"threshold": 0.2, "min_lift": 1.2, "min_z": 3.0, "max_density": 0.5, "max_size": 40},
    "nesting": {"threshold": 0.2, "min_lift": 1.2, "min_z": 3.0, "max_density": 0.5, "max_size": 40},
}

_SHARES = ("threshold", "max_jaccard", "max_density")
_COUNTS = ("min_together", "n_iterations", "min_children", "min_size", "max_size")
_GUARDS = ("min_lift", "min_z")


@dataclass(frozen=True)
class FamilyConfig:
    """What counts as a family. `min_together`, `min_lift` and `min_z` are guards against chance.

    `edge` is the conditional that an edge must have, and by which the paper's forest chooses: "parent" is
    P(denser fires | sparser fires) = C_ij / min(f_i, f_j), the larger of the two conditionals; "child" is
    P(sparser fires | denser fires) = C_ij / max(f_i, f_j), the smaller. The algorithms "lift" and "nesting"
    weigh edges otherwise (see `homes`); there the threshold holds for P(parent fires | child fires).
    """

    algorithm: str = "lift"
    edge: str = "parent"
    threshold: float = OWN  # edges need a conditional of at least this
    min_together: int = 5  # ... seen on at least this many documents
    min_lift: float = OWN  # ... this many times as often as independent latents would
    min_z: float = OWN  # ... and this many standard deviations (of a Poisson count) more often
    max_density: float = OWN  # latents that fire on a larger share of the documents have no edges
    n_iterations: int = 3  # of the paper's algorithm
    min_children: int = 3  # of a root: "more than two"
    min_size: int = 4  # members, root included: "more than three"
    max_size: int = OWN
    max_jaccard: float = 0.6  # of two families that overlap more, the smaller is dropped

    def __post_init__(self) -> None:
        _check_choice("algorithm", self.algorithm, ALGORITHMS)
        for name, value in DEFAULTS[self.algorithm].items():
            if getattr(self, name) is OWN:
                object.__setattr__(self, name, value)
        _check_choice("edge", self.edge, EDGES)
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                what = f"Families: {name} is {getattr(self, name)}, but it is a share."
                raise SaefariError(what, remedy="Choose a value from 0 to 1.")
        for name in _COUNTS:
            if getattr(self, name) < 1:
                what = f"Families: {name} is {getattr(self, name)}, but it is a count."
                raise SaefariError(what, remedy="Choose 1 or more.")
        for name in _GUARDS:
            if not getattr(self, name) >= 0:
                what = f"Families: {name} is {getattr(self, name)}, but it is not negative."
                raise SaefariError(what, remedy="Choose 0 (no limit) or more.")
        if self.max_size < self.min_size:
            what = f"Families: max_size is {self.max_size} and min_size {self.min_size}, so none can be kept."
            raise SaefariError(what, remedy="Choose max_size >= min_size.")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        what = f'Families: {name} is "{value}", which is not known.'
        raise SaefariError(what, remedy=f"Choose {' or '.join(choices)}.")


DEFAULT = FamilyConfig()


@dataclass(frozen=True)
class Null:
    """What a measure is where the places of a family are taken by other latents of like density."""

    mean: float
    high: float  # 95th percentile
    p: float  # (1 + draws that reach the measure) / (1 + draws): never 0


@dataclass(frozen=True)
class Link:
    """A good parent that a member has outside its family."""

    member: int
    parent: int
    conditional: float  # P(parent fires | member fires)


@dataclass(frozen=True)
class Family:
    """A root and its descendants."""

    id: int  # the root latent; no two families of one forest have the same
    members: list[int]  # root first, then depth first, of siblings the denser first
    parents: list[int]  # of each member; -1 for the root
    conditionals: list[float]  # P(parent fires | member fires); 1.0 for the root
    n_documents: int  # on which at least one member fires
    hub_ratio: float | None  # R, see `measures`; None where it is undefined
    block_ratio: float | None  # see `measures`; None where it is undefined
    hub_null: Null | None = None  # None where the measure is undefined
    block_null: Null | None = None
    links: list[Link] = field(default_factory=list)
    label: Label | None = None  # None: not labelled, so the root's label has to do


@dataclass(frozen=True)
class Chance:
    """What is found where latents fire as often as they do, but independently of each other."""

    n_families: int
    n_covered: int  # latents in some family
    largest: int  # members


@dataclass(frozen=True)
class Forest:
    """All families of an SAE under one configuration, largest first."""

    config: FamilyConfig
    families: list[Family]
    n_alive: int  # latents that fire at all
    n_covered: int  # of them in some family
    n_shared: int  # of them in more than one
    hub_ratio: float | None  # of all families together, see `measures`
    block_ratio: float | None
    hub_null: Null | None
    block_null: Null | None
    n_draws: int  # of the nulls
    seconds: float  # that growing took
    chance: Chance | None = None  # None: not asked, as it takes as long as counting co-activations

    @property
    def sizes(self) -> list[int]:
        """Members of each family, largest first."""
        return [len(family.members) for family in self.families]

    @property
    def coverage(self) -> float:
        """Share of living latents that are in some family."""
        return self.n_covered / max(self.n_alive, 1)

    @classmethod
    def parse(cls, stored: dict[str, Any]) -> Forest:
        """From what `json` makes of a forest."""
        families = [
            Family(
                **{
                    **entry,
                    "hub_null": _null(entry["hub_null"]),
                    "block_null": _null(entry["block_null"]),
                    "links": [Link(**link) for link in entry["links"]],
                    "label": None if entry["label"] is None else Label.parse(entry["label"]),
                }
            )
            for entry in stored["families"]
        ]
        config = FamilyConfig(**stored["config"])
        nulls = {name: _null(stored[name]) for name in ("hub_null", "block_null")}
        chance = Chance(**stored["chance"]) if stored.get("chance") else None
        return cls(**{**stored, **nulls, "config": config, "families": families, "chance": chance})


def _null(stored: dict[str, float] | None) -> Null | None:
    return None if stored is None else Null(**stored)
