"""The address as an object: parsed strictly, printed canonically.

Each query knows its page, keeps only what differs from the defaults, and prints itself with changes:
`query.url(page=2)`. `parse` takes the raw query string, never trusts it, and for every query `q`
`parse(q.url()) == q`. Parameters that a page does not know are ignored: links get them appended on their way.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self
from urllib.parse import parse_qsl

from app import urls
from sae_core.errors import SaefariError
from sae_core.families import FamilyConfig
from sae_core.families.model import EDGES

MAX_QUERY_STRING = 48 * 1024  # bytes: 2,000 characters of four bytes, percent-encoded, and all sliders
MAX_PARAMETERS = 400
MAX_Q = 2_000
MAX_WORDS = 200
MAX_STRENGTHS = 64
MAX_STRENGTH = 10.0  # of unit vectors: the query is then a tenth of what is searched
MAX_PAGE = 1_000
MAX_VENUES = 32
MAX_VENUE = 300
MAX_YEAR = 9_999
MAX_SHOWN = 60  # characters of a bad value, in the sentence about it
DECIMALS = 3  # of a strength, in addresses and number fields

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]{1,12}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][+-]?[0-9]{1,3})?", re.ASCII)


class BadParameter(SaefariError):
    """A parameter of an address that cannot be used: its name, its value and what is allowed."""

    def __init__(self, name: str, value: str, allowed: str) -> None:
        shown = value if len(value) <= MAX_SHOWN else f"{value[: MAX_SHOWN - 1]}…"
        super().__init__(f'The parameter {name} cannot be "{shown}".', remedy=f"Allowed: {allowed}.")
        self.name = name
        self.value = value
        self.allowed = allowed


# --- reading ------------------------------------------------------------------------------------


def clean(text: str) -> str:
    """One line without control characters (NUL above all) and lone surrogates, spaces folded."""
    printable = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join(_CONTROL.sub(" ", printable).split())


class Parameters:
    """The parameters of one request; `text`, `integer`, ... read one of them or raise BadParameter."""

    def __init__(self, query_string: bytes | str) -> None:
        raw = query_string.decode("latin-1") if isinstance(query_string, bytes) else query_string
        if len(raw) > MAX_QUERY_STRING:
            raise BadParameter("string", raw, f"at most {MAX_QUERY_STRING:,} bytes after the question mark")
        try:
            pairs = parse_qsl(raw, keep_blank_values=True, errors="replace", max_num_fields=MAX_PARAMETERS)
        except ValueError:
            count = str(raw.count("&") + 1)
            raise BadParameter("count", count, f"at most {MAX_PARAMETERS} parameters") from None
        self.pairs = [(name, clean(value)) for name, value in pairs]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.pairs if key == name and value]

    def text(self, name: str, longest: int) -> str:
        values = self.all(name)
        if not values:
            return ""
        if len(values[-1]) > longest:
            raise BadParameter(name, values[-1], f"at most {longest:,} characters")
        return values[-1]

    def integer(self, name: str, low: int, high: int) -> int | None:
        values = self.all(name)
        return integer(name, values[-1], low, high) if values else None

    def number(self, name: str, low: float, high: float) -> float | None:
        values = self.all(name)
        return number(name, values[-1], low, high) if values else None

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """One of `choices`; the first is the default."""
        values = self.all(name)
        if not values:
            return choices[0]
        if values[-1] not in choices:
            raise BadParameter(name, values[-1], ", ".join(choices))
        return values[-1]

    def flag(self, name: str) -> bool:
        return self.choice(name, ("0", "1")) == "1"


def integer(name: str, value: str, low: int, high: int) -> int:
    allowed = f"a whole number from {low:,} to {high:,}"
    if not _INTEGER.fullmatch(value) or not low <= int(value) <= high:
        raise BadParameter(name, value, allowed)
    return int(value)


def number(name: str, value: str, low: float, high: float) -> float:
    allowed = f"a number from {low:g} to {high:g}"
    if not _NUMBER.fullmatch(value):
        raise BadParameter(name, value, allowed)
    parsed = float(value)
    if not math.isfinite(parsed) or not low <= parsed <= high:
        raise BadParameter(name, value, allowed)
    return parsed


def as_strength(value: float) -> float:
    """A strength as it is printed: three decimals, no negative zero."""
    return round(value, DECIMALS) + 0.0


def _strengths(parameters: Parameters, n_latents: int) -> tuple[tuple[int, float], ...]:
    """`f=812:+0.40`, repeated; the last word on a latent counts."""
    strengths: dict[int, float] = {}
    for value in parameters.all("f"):
        latent, colon, printed = value.partition(":")
        if not colon:
            raise BadParameter("f", value, "a feature and its strength, such as 812:+0.40")
        index = integer("f", latent, 0, n_latents - 1)
        strengths[index] = as_strength(number("f", printed.strip(), -MAX_STRENGTH, MAX_STRENGTH))
    if len(strengths) > MAX_STRENGTHS:
        raise BadParameter("f", f"{len(strengths):,} features", f"at most {MAX_STRENGTHS} features at once")
    return tuple(strengths.items())


def _unique(name: str, values: list[str], most: int, longest: int) -> tuple[str, ...]:
    unique = tuple(dict.fromkeys(values))
    if len(unique) > most:
        raise BadParameter(name, f"{len(unique):,} values", f"at most {most} values")
    for value in unique:
        if len(value) > longest:
            raise BadParameter(name, value, f"at most {longest:,} characters")
    return unique


def _page(parameters: Parameters) -> int:
    return parameters.integer("page", 1, MAX_PAGE) or 1


def _with_page(parameters: list[urls.Parameter], page: int) -> list[urls.Parameter]:
    return [*parameters, ("page", str(page))] if page != 1 else parameters


# --- the pages ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Query:
    """What all queries share: the page they belong to, and printing with changes."""

    collection: str
    sae: str

    def path(self) -> str:
        raise NotImplementedError

    def parameters(self) -> list[urls.Parameter]:
        raise NotImplementedError

    def url(self, **changes: Any) -> str:
        """The canonical address of this view, or of this view with `changes`."""
        changed = replace(self, **changes) if changes else self
        return urls.with_parameters(changed.path(), changed.parameters())


@dataclass(frozen=True, slots=True)
class SearchQuery(_Query):
    """A steered search. `strengths` are in the order in which they were added, each latent once."""

    q: str = ""
    strengths: tuple[tuple[int, float], ...] = ()
    year_min: int | None = None
    year_max: int | None = None
    venues: tuple[str, ...] = ()
    find: str = ""
    page: int = 1

    @classmethod
    def parse(cls, collection: str, sae: str, query_string: bytes | str, n_latents: int) -> Self:
        parameters = Parameters(query_string)
        year_min = parameters.integer("year_min", 0, MAX_YEAR)
        year_max = parameters.integer("year_max", 0, MAX_YEAR)
        if year_min is not None and year_max is not None and year_min > year_max:
            raise BadParameter("year_max", str(year_max), f"{year_min} (year_min) or later")
        return cls(
            collection,
            sae,
            q=parameters.text("q", MAX_Q),
            strengths=_strengths(parameters, n_latents),
            year_min=year_min,
            year_max=year_max,
            venues=_unique("venue", parameters.all("venue"), MAX_VENUES, MAX_VENUE),
            find=parameters.text("find", MAX_WORDS),
            page=_page(parameters),
        )

    def path(self) -> str:
        return urls.search(self.collection, self.sae)

    def parameters(self) -> list[urls.Parameter]:
        printed = [("q", self.q)] if self.q else []
        printed += [("f", urls.strength(latent, value)) for latent, value in self.strengths]
        if self.year_min is not None:
            printed.append(("year_min", str(self.year_min)))
        if self.year_max is not None:
            printed.append(("year_max", str(self.year_max)))
        printed += [("venue", venue) for venue in self.venues]
        if self.find:
            printed.append(("find", self.find))
        return _with_page(printed, self.page)

    def url_with(self, latent: int, value: float) -> str:
        """The same search from its first page, with one strength set."""
        strengths = dict(self.strengths) | {latent: as_strength(value)}
        return self.url(strengths=tuple(strengths.items()), page=1)

    def url_without(self, latent: int) -> str:
        """The same search from its first page, with one strength back at the query's own."""
        return self.url(strengths=tuple(pair for pair in self.strengths if pair[0] != latent), page=1)


SORTS = ("quality", "density", "score", "max", "label")


@dataclass(frozen=True, slots=True)
class FeatureQuery(_Query):
    """A list of features. Densities are shares of the documents, 0 to 1."""

    words: str = ""
    sort: str = SORTS[0]
    min_density: float | None = None
    max_density: float | None = None
    labelled: bool = False
    dead: bool = False
    page: int = 1

    @classmethod
    def parse(cls, collection: str, sae: str, query_string: bytes | str) -> Self:
        parameters = Parameters(query_string)
        return cls(
            collection,
            sae,
            words=parameters.text("words", MAX_WORDS),
            sort=parameters.choice("sort", SORTS),
            min_density=parameters.number("min_density", 0.0, 1.0),
            max_density=parameters.number("max_density", 0.0, 1.0),
            labelled=parameters.flag("labelled"),
            dead=parameters.flag("dead"),
            page=_page(parameters),
        )

    def path(self) -> str:
        return urls.features(self.collection, self.sae)

    def parameters(self) -> list[urls.Parameter]:
        printed = [("words", self.words)] if self.words else []
        if self.sort != SORTS[0]:
            printed.append(("sort", self.sort))
        if self.min_density is not None:
            printed.append(("min_density", repr(self.min_density)))
        if self.max_density is not None:
            printed.append(("max_density", repr(self.max_density)))
        printed += [(name, "1") for name in ("labelled", "dead") if getattr(self, name)]
        return _with_page(printed, self.page)


TABS = ("top", "bands", "borderline", "near", "all")


@dataclass(frozen=True, slots=True)
class EvidenceQuery(_Query):
    """The page of one feature: which documents are shown, and the scale of the histogram."""

    latent: int = 0
    tab: str = TABS[0]
    log: bool = False
    page: int = 1

    @classmethod
    def parse(cls, collection: str, sae: str, latent: int, query_string: bytes | str) -> Self:
        parameters = Parameters(query_string)
        return cls(
            collection,
            sae,
            latent=latent,
            tab=parameters.choice("tab", TABS),
            log=parameters.flag("log"),
            page=_page(parameters),
        )

    def path(self) -> str:
        return urls.feature(self.collection, self.sae, self.latent)

    def parameters(self) -> list[urls.Parameter]:
        printed = [("tab", self.tab)] if self.tab != TABS[0] else []
        if self.log:
            printed.append(("log", "1"))
        return _with_page(printed, self.page)


PLAIN = FamilyConfig()
FAMILY_SORTS = ("size", "score", "hub", "block", "documents")
AREAS = ("features", "documents")
COLOURS = ("score", "hub")
MAX_OPEN = 64
MANY = 1_000_000  # more features or documents than this are no limit
# What may be set of each way to find families, and within which bounds; whole numbers where these are.
FAMILY_NUMBERS: dict[str, tuple[float, float]] = {
    "threshold": (0.0, 1.0),
    "min_size": (2, MANY),
    "max_size": (2, MANY),
    "max_density": (0.0, 1.0),
    "min_together": (1, MANY),
    "min_lift": (0.0, 1_000.0),
    "min_z": (0.0, 1_000.0),
    "min_children": (1, 1_000),
    "n_iterations": (1, 20),
    "max_jaccard": (0.0, 1.0),
}


@dataclass(frozen=True, slots=True)
class FamilyQuery(_Query):
    """Families under some configuration: all of them, or, with `family`, the page of one.

    `stored` is what the collection was built with; an address names only what differs from it or, where the
    algorithm is another one, from that algorithm's own defaults.
    """

    stored: FamilyConfig = PLAIN
    config: FamilyConfig = PLAIN
    family: int | None = None
    sort: str = FAMILY_SORTS[0]
    area: str = AREAS[0]
    colour: str = COLOURS[0]
    open: tuple[int, ...] = ()  # features whose branches of the tree are unfolded
    page: int = 1

    @classmethod
    def parse(  # noqa: PLR0917 (what the address says, and what it is read against)
        cls,
        collection: str,
        sae: str,
        query_string: bytes | str,
        stored: FamilyConfig,
        algorithms: Sequence[str],
        family: int | None = None,
    ) -> Self:
        parameters = Parameters(query_string)
        return cls(
            collection,
            sae,
            stored=stored,
            config=_family_config(parameters, stored, algorithms),
            family=family,
            sort=parameters.choice("sort", FAMILY_SORTS),
            area=parameters.choice("area", AREAS),
            colour=parameters.choice("colour", COLOURS),
            open=_open(parameters),
            page=_page(parameters),
        )

    def path(self) -> str:
        if self.family is not None:
            return urls.family(self.collection, self.sae, self.family)
        return urls.families(self.collection, self.sae)

    def parameters(self) -> list[urls.Parameter]:
        base = base_config(self.stored, self.config.algorithm)
        printed = []
        if self.config.algorithm != self.stored.algorithm:
            printed.append(("algorithm", self.config.algorithm))
        for name in ("edge", *FAMILY_NUMBERS):
            value = getattr(self.config, name)
            if value != getattr(base, name):
                printed.append((name, _printed(value)))
        defaults = (("sort", FAMILY_SORTS), ("area", AREAS), ("colour", COLOURS))
        printed += [
            (name, getattr(self, name)) for name, values in defaults if getattr(self, name) != values[0]
        ]
        if self.open:
            printed.append(("open", ",".join(map(str, self.open))))
        return _with_page(printed, self.page)

    def url_of(self, family: int | None) -> str:
        """The page of a family, or of all, under the same configuration."""
        return self.url(
            family=family, sort=FAMILY_SORTS[0], area=AREAS[0], colour=COLOURS[0], open=(), page=1
        )


def _printed(value: str | float) -> str:
    """As short as it can be and still be read back as the same."""
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return repr(value) if isinstance(value, float) and float(short) != value else short


def base_config(stored: FamilyConfig, algorithm: str) -> FamilyConfig:
    """What an address that names only the algorithm stands for."""
    return stored if algorithm == stored.algorithm else FamilyConfig(algorithm=algorithm)


def _family_config(parameters: Parameters, stored: FamilyConfig, algorithms: Sequence[str]) -> FamilyConfig:
    others = [name for name in algorithms if name != stored.algorithm]
    base = base_config(stored, parameters.choice("algorithm", [stored.algorithm, *others]))
    changes: dict[str, Any] = {}
    for name in used_by(base.algorithm):
        if name == "edge":
            changes[name] = parameters.choice(
                name, [base.edge, *(edge for edge in EDGES if edge != base.edge)]
            )
            continue
        low, high = FAMILY_NUMBERS[name]
        is_whole = isinstance(low, int)
        value = (
            parameters.integer(name, int(low), int(high)) if is_whole else parameters.number(name, low, high)
        )
        if value is not None:
            changes[name] = value
    least, most = (changes.get(name, getattr(base, name)) for name in ("min_size", "max_size"))
    if least > most:
        raise BadParameter("max_size", str(most), f"{least} (min_size) or more")
    return replace(base, **changes)


def used_by(algorithm: str) -> tuple[str, ...]:
    """The parameters that a way to find families listens to, the main ones first."""
    return _USED_BY[algorithm]


_GUARDS = ("max_density", "min_together", "min_lift", "min_z")
_USED_BY = {
    "paper": (
        "threshold",
        "min_size",
        "max_size",
        *_GUARDS,
        "edge",
        "min_children",
        "n_iterations",
        "max_jaccard",
    ),
    "lift": ("threshold", "min_size", "max_size", *_GUARDS, "min_children"),
    "nesting": ("threshold", "min_size", "max_size", *_GUARDS, "min_children"),
}


def _open(parameters: Parameters) -> tuple[int, ...]:
    text = parameters.text("open", MAX_OPEN * 12)
    return _unique_numbers("open", text.split(",") if text else [])


def _unique_numbers(name: str, values: list[str]) -> tuple[int, ...]:
    if len(values) > MAX_OPEN:
        raise BadParameter(name, f"{len(values):,} values", f"at most {MAX_OPEN} values")
    return tuple(dict.fromkeys(integer(name, value, 0, MANY) for value in values))
