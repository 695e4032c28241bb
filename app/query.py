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
from typing import Any, Self, Union
from urllib.parse import parse_qsl

from app import urls
from sae_core.errors import SaefariError
from sae_core.families import FamilyConfig
from sae_core.families.model import EDGES
from sae_core.lenses import MAX_LATENT, MAX_MOVES, MAX_NAME, MAX_SAE, BadLens, Lens, LensMove, unique

MAX_QUERY_STRING = 48 * 1024  # bytes: 2,000 characters of four bytes, percent-encoded, and all sliders
MAX_PARAMETERS = 600
MAX_Q = 2_000
MAX_WORDS = 200
MAX_STRENGTHS = 64
MAX_STRENGTH = 10.0  # of unit vectors: the query is then a tenth of what is searched
MAX_START = 8  # documents that a search begins from, or leads away from
MAX_FAMILIES = 8
MAX_LENSES = 8
MAX_MARKS = 20  # results marked up, or down
MAX_TICKS = 50  # results in a set
MAX_CATEGORIES = 32
MAX_ID = 1_000
MAX_CITATIONS = 10_000_000
MAX_PAGE = 1_000
MAX_LIST_PAGE = 1_000_000  # of lists that are read from any place on as quickly as from their beginning
MAX_VENUES = 32
MAX_VENUE = 300
MAX_YEAR = 9_999
MAX_SHOWN = 60  # characters of a bad value, in the sentence about it
DECIMALS = 3  # of a strength, in addresses and number fields
SHARE_DECIMALS = 2  # of a cosine or a weight
VIEWS = ("list", "ab")

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_SAE = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_SAE}}}", re.ASCII)
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


Source = Union[bytes, str, "Parameters"]


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

    @classmethod
    def given(cls, source: Source) -> Parameters:
        """Parameters from a query string, or as they are."""
        return source if isinstance(source, Parameters) else cls(source)

    @classmethod
    def of(cls, pairs: Sequence[urls.Parameter]) -> Self:
        """Parameters that were read before."""
        parameters = cls("")
        parameters.pairs = list(pairs)
        return parameters

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
    """A strength as it is printed: three decimals, no negative zero. Printing is quicker than `round`."""
    return float(f"{value:.{DECIMALS}f}") + 0.0


def _strengths(parameters: Parameters, name: str, n_latents: int, most: int) -> tuple[tuple[int, float], ...]:
    """`f=812:+0.40`, repeated; the last word on a latent counts."""
    strengths = dict(_strength(name, value, n_latents) for value in parameters.all(name))
    if len(strengths) > most:
        raise BadParameter(name, f"{len(strengths):,} features", f"at most {most} features at once")
    return tuple(strengths.items())


def _strength(name: str, value: str, n_latents: int) -> tuple[int, float]:
    latent, colon, printed = value.partition(":")
    if not colon:
        raise BadParameter(name, value, "a feature and its strength, such as 812:+0.40")
    index = integer(name, latent, 0, n_latents - 1)
    return index, as_strength(number(name, printed.strip(), -MAX_STRENGTH, MAX_STRENGTH))


def _latents(parameters: Parameters, name: str, n_latents: int) -> tuple[int, ...]:
    """`require=12`, repeated; each latent once."""
    found = dict.fromkeys(integer(name, value, 0, n_latents - 1) for value in parameters.all(name))
    if len(found) > MAX_STRENGTHS:
        raise BadParameter(name, f"{len(found):,} features", f"at most {MAX_STRENGTHS} features at once")
    return tuple(found)


def _share(parameters: Parameters, name: str, low: float, high: float) -> float | None:
    value = parameters.number(name, low, high)
    return None if value is None else round(value, SHARE_DECIMALS)


_LENS_FORM = "a name, an SAE and moves, such as mine;k16-n512-3fa9c1;812:+0.40,!7,-9,~12,F37:+0.30"
_LENS_SIGNS = {"!": "require", "-": "exclude", "~": "ignore"}


def read_lens(value: str) -> Lens:
    """Inverse of `print_lens`."""
    parts = [part.strip() for part in value.rsplit(";", 2)]
    if len(parts) != 3 or not parts[0] or not _SAE.fullmatch(parts[1]) or not parts[2]:  # noqa: PLR2004
        raise BadParameter("lens", value, _LENS_FORM)
    name, sae, moves = parts
    if len(name) > MAX_NAME:
        raise BadParameter("lens", name, f"a name of at most {MAX_NAME} characters")
    try:
        return Lens(name, sae, unique([_lens_move(move.strip()) for move in moves.split(",")]))
    except BadLens:
        raise BadParameter("lens", moves, f"at most {MAX_MOVES} moves") from None


def _lens_move(text: str) -> LensMove:
    if text[:1] in _LENS_SIGNS:
        return LensMove(_LENS_SIGNS[text[0]], integer("lens", text[1:], 0, MAX_LATENT - 1))
    mode = "family" if text[:1] == "F" else "strength"
    return LensMove(mode, *_strength("lens", text.removeprefix("F"), MAX_LATENT))


def print_lens(lens: Lens) -> str:
    """A lens in an address: `mine;k16-n512-3fa9c1;812:+0.40,!7,-9,~12,F37:+0.30`."""
    signs = {mode: sign for sign, mode in _LENS_SIGNS.items()}
    moves = [
        f"{signs[move.mode]}{move.target}"
        if move.mode in signs
        else ("F" if move.mode == "family" else "") + urls.strength(move.target, move.value)
        for move in lens.moves
    ]
    return f"{lens.name};{lens.sae};{','.join(moves)}"


def _lenses(parameters: Parameters) -> tuple[Lens, ...]:
    values = parameters.all("lens")
    if len(values) > MAX_LENSES:
        raise BadParameter("lens", f"{len(values):,} lenses", f"at most {MAX_LENSES} lenses")
    return tuple(read_lens(value) for value in values)


def _unique(name: str, values: list[str], most: int, longest: int) -> tuple[str, ...]:
    unique = tuple(dict.fromkeys(values))
    if len(unique) > most:
        raise BadParameter(name, f"{len(unique):,} values", f"at most {most} values")
    for value in unique:
        if len(value) > longest:
            raise BadParameter(name, value, f"at most {longest:,} characters")
    return unique


def _page(parameters: Parameters, most: int = MAX_PAGE) -> int:
    return parameters.integer("page", 1, most) or 1


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
    """A steered search. Numbered things are in the order in which they were added, each once.

    `strengths` are activations to set; `families` (by root) how far the query is moved along each. Documents
    are named as the catalogue names them: whether they are there is found out when the search is planned.
    """

    q: str = ""
    like: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    lenses: tuple[Lens, ...] = ()
    families: tuple[tuple[int, float], ...] = ()
    strengths: tuple[tuple[int, float], ...] = ()
    ignored: tuple[int, ...] = ()
    required: tuple[int, ...] = ()
    excluded: tuple[int, ...] = ()
    locked: tuple[int, ...] = ()  # members that stay when their family moves
    keep: float | None = None  # the cosine with the own query that is kept
    refine: bool = False
    keywords: float = 0.0  # weight of the keyword leg, 0..1
    year_min: int | None = None
    year_max: int | None = None
    venues: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    cited_min: int | None = None
    diverse: bool = False
    view: str = VIEWS[0]
    why: str = ""
    against: str = ""
    up: tuple[str, ...] = ()
    down: tuple[str, ...] = ()
    a: tuple[str, ...] = ()
    b: tuple[str, ...] = ()
    find: str = ""
    page: int = 1

    @classmethod
    def parse(cls, collection: str, sae: str, query_string: Source, n_latents: int) -> Self:
        return cls.read(collection, sae, Parameters.given(query_string), n_latents)

    @classmethod
    def read(cls, collection: str, sae: str, parameters: Parameters, n_latents: int) -> Self:
        """The query that the parameters stand for; BadParameter names the first that cannot be used."""
        year_min = parameters.integer("year_min", 0, MAX_YEAR)
        year_max = parameters.integer("year_max", 0, MAX_YEAR)
        if year_min is not None and year_max is not None and year_min > year_max:
            raise BadParameter("year_max", str(year_max), f"{year_min} (year_min) or later")
        why, against = parameters.text("why", MAX_ID), parameters.text("against", MAX_ID)
        if against and not why:
            raise BadParameter("against", against, "a document to compare with the one of why=")
        lists: dict[str, Any] = {
            name: _unique(name, parameters.all(name), most, MAX_ID) for name, most in _DOCUMENT_LISTS.items()
        }
        for name, field in _LATENT_LISTS.items():
            lists[field] = _latents(parameters, name, n_latents)
        return cls(
            collection,
            sae,
            q=parameters.text("q", MAX_Q),
            lenses=_lenses(parameters),
            families=_strengths(parameters, "family", n_latents, MAX_FAMILIES),
            strengths=_strengths(parameters, "f", n_latents, MAX_STRENGTHS),
            keep=_share(parameters, "keep", *KEEP_BOUNDS),
            refine=parameters.flag("refine"),
            keywords=_share(parameters, "keywords", 0.0, 1.0) or 0.0,
            year_min=year_min,
            year_max=year_max,
            venues=_unique("venue", parameters.all("venue"), MAX_VENUES, MAX_VENUE),
            categories=_unique("category", parameters.all("category"), MAX_CATEGORIES, MAX_VENUE),
            cited_min=parameters.integer("cited_min", 0, MAX_CITATIONS),
            diverse=parameters.flag("diverse"),
            view=parameters.choice("view", VIEWS),
            why=why,
            against=against,
            find=parameters.text("find", MAX_WORDS),
            page=_page(parameters),
            **lists,
        )

    def path(self) -> str:
        return urls.search(self.collection, self.sae)

    def parameters(self) -> list[urls.Parameter]:
        printed = [("q", self.q)] if self.q else []
        printed += [(name, document) for name in ("like", "unlike") for document in getattr(self, name)]
        printed += self.steering()
        printed += self._demands()
        printed += [(name, getattr(self, name)) for name in ("why", "against") if getattr(self, name)]
        printed += [(name, one) for name in ("up", "down", "a", "b") for one in getattr(self, name)]
        if self.find:
            printed.append(("find", self.find))
        return _with_page(printed, self.page)

    def steering(self) -> list[urls.Parameter]:
        """The parameters that say how the query is moved."""
        printed = [("lens", print_lens(lens)) for lens in self.lenses]
        printed += [("family", urls.strength(root, amount)) for root, amount in self.families]
        printed += [("f", urls.strength(latent, value)) for latent, value in self.strengths]
        for name, field in _LATENT_LISTS.items():
            printed += [(name, str(latent)) for latent in getattr(self, field)]
        if self.keep is not None:
            printed.append(("keep", f"{self.keep:.{SHARE_DECIMALS}f}"))
        return [*printed, ("refine", "1")] if self.refine else printed

    def _demands(self) -> list[urls.Parameter]:
        printed = [("keywords", f"{self.keywords:.{SHARE_DECIMALS}f}")] if self.keywords else []
        bounds = [(name, getattr(self, name)) for name in ("year_min", "year_max")]
        printed += [(name, str(value)) for name, value in bounds if value is not None]
        printed += [("venue", venue) for venue in self.venues]
        printed += [("category", category) for category in self.categories]
        if self.cited_min is not None:
            printed.append(("cited_min", str(self.cited_min)))
        if self.diverse:
            printed.append(("diverse", "1"))
        return [*printed, ("view", self.view)] if self.view != VIEWS[0] else printed

    def url_with(self, latent: int, value: float) -> str:
        """The same search from its first page, with one strength set; what is set is not ignored."""
        strengths = dict(self.strengths) | {latent: as_strength(value)}
        ignored = tuple(other for other in self.ignored if other != latent)
        return self.url(strengths=tuple(strengths.items()), ignored=ignored, page=1)

    def url_without(self, latent: int) -> str:
        """The same search from its first page, with one strength no longer set."""
        return self.url(strengths=tuple(pair for pair in self.strengths if pair[0] != latent), page=1)

    def urls_without(self) -> dict[int, str]:
        """`url_without` of every strength, by latent: all of them printed at once."""
        addresses = urls.without_each(self.path(), replace(self, page=1).parameters(), "f")
        return dict(zip((latent for latent, _ in self.strengths), addresses, strict=True))

    def url_free(self, latent: int) -> str:
        """The same search from its first page, with nothing said of one feature."""
        return self.in_mode(latent, "").url_without(latent)

    def url_family(self, root: int, amount: float | None) -> str:
        """The same search from its first page, moved so far along a family; None takes it out."""
        families = dict(self.families)
        if amount is None:
            families.pop(root, None)
        else:
            families[root] = as_strength(amount)
        return self.url(families=tuple(families.items()), page=1)

    def in_mode(self, latent: int, mode: str) -> Self:
        """The same search from its first page, with a feature in one of `MODE_FIELDS`, or in none ("")."""
        lists: dict[str, Any] = {
            field: tuple(other for other in getattr(self, field) if other != latent) for field in MODE_FIELDS
        }
        if mode:
            lists[mode] = (*lists[mode], latent)
        return replace(self, page=1, **lists)


def readable(collection: str, sae: str, query_string: bytes | str, n_latents: int) -> SearchQuery:
    """What can be read of an address with a mistake: without the parameters that cannot be used."""

    def reads(pairs: Sequence[urls.Parameter]) -> SearchQuery | BadParameter:
        try:
            return SearchQuery.read(collection, sae, Parameters.of(pairs), n_latents)
        except BadParameter as error:
            return error

    try:
        pairs = Parameters(query_string).pairs
    except BadParameter:
        return SearchQuery(collection, sae)
    pairs = [pair for pair in pairs if pair[0] == "against" or isinstance(reads([pair]), SearchQuery)]
    while isinstance(found := reads(pairs), BadParameter):
        pairs = [pair for pair in pairs if pair[0] != found.name]
    return found


KEEP_BOUNDS = (0.01, 0.99)
MODE_FIELDS = ("ignored", "required", "excluded")
_DOCUMENT_LISTS = {
    "like": MAX_START,
    "unlike": MAX_START,
    "up": MAX_MARKS,
    "down": MAX_MARKS,
    "a": MAX_TICKS,
    "b": MAX_TICKS,
}
_LATENT_LISTS = {"ignore": "ignored", "require": "required", "exclude": "excluded", "lock": "locked"}
CONTRAST_SORTS = ("evidence", "odds", "share", "label")
_YEARS = re.compile(r"([0-9]{1,4})(?: ?[-–] ?([0-9]{1,4}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Side:
    """One of two sets of documents: named ones, those of some years, or the best of a text. Or nothing."""

    documents: tuple[str, ...] = ()
    years: tuple[int, int] | None = None  # first and last
    text: str = ""

    @property
    def is_empty(self) -> bool:
        return self == Side()

    @classmethod
    def read(cls, name: str, parameters: Parameters) -> Self:
        """`a=ID` (repeated), `a_years=2019-2021` or `a_q=text`; BadParameter for more than one of them."""
        side = cls(
            documents=_unique(name, parameters.all(name), MAX_TICKS, MAX_ID),
            years=_year_range(f"{name}_years", parameters),
            text=parameters.text(f"{name}_q", MAX_Q),
        )
        given = [each for each in (side.documents, side.years, side.text) if each]
        if len(given) > 1:
            allowed = f"one of {name}= (documents), {name}_years= and {name}_q= (the best of a text)"
            raise BadParameter(name, f"{len(given)} kinds of sets", allowed)
        return side

    def parameters(self, name: str) -> list[urls.Parameter]:
        printed = [(name, document) for document in self.documents]
        if self.years is not None:
            first, last = self.years
            printed.append((f"{name}_years", str(first) if first == last else f"{first}-{last}"))
        return [*printed, (f"{name}_q", self.text)] if self.text else printed

    def without(self, document: str) -> Side:
        return replace(self, documents=tuple(each for each in self.documents if each != document))


def _year_range(name: str, parameters: Parameters) -> tuple[int, int] | None:
    text = parameters.text(name, MAX_SHOWN)
    if not text:
        return None
    found = _YEARS.fullmatch(text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if first > last:
        raise BadParameter(name, text, "a year such as 2019, or a range such as 2019-2021")
    return first, last


@dataclass(frozen=True, slots=True)
class SeparateQuery(_Query):
    """What separates the documents of A from those of B, or, where B is empty, from all others.

    `q` is the search that features are used in as sliders.
    """

    a: Side = Side()
    b: Side = Side()
    q: str = ""
    sort: str = CONTRAST_SORTS[0]
    page: int = 1

    @classmethod
    def parse(cls, collection: str, sae: str, query_string: Source) -> Self:
        parameters = Parameters.given(query_string)
        return cls(
            collection,
            sae,
            a=Side.read("a", parameters),
            b=Side.read("b", parameters),
            q=parameters.text("q", MAX_Q),
            sort=parameters.choice("sort", CONTRAST_SORTS),
            page=_page(parameters),
        )

    def path(self) -> str:
        return urls.separate(self.collection, self.sae)

    def parameters(self) -> list[urls.Parameter]:
        printed = [*self.a.parameters("a"), *self.b.parameters("b")]
        if self.q:
            printed.append(("q", self.q))
        if self.sort != CONTRAST_SORTS[0]:
            printed.append(("sort", self.sort))
        return _with_page(printed, self.page)


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
    def parse(cls, collection: str, sae: str, query_string: Source) -> Self:
        parameters = Parameters.given(query_string)
        return cls(
            collection,
            sae,
            words=parameters.text("words", MAX_WORDS),
            sort=parameters.choice("sort", SORTS),
            min_density=parameters.number("min_density", 0.0, 1.0),
            max_density=parameters.number("max_density", 0.0, 1.0),
            labelled=parameters.flag("labelled"),
            dead=parameters.flag("dead"),
            page=_page(parameters, MAX_LIST_PAGE),
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
    def parse(cls, collection: str, sae: str, latent: int, query_string: Source) -> Self:
        parameters = Parameters.given(query_string)
        return cls(
            collection,
            sae,
            latent=latent,
            tab=parameters.choice("tab", TABS),
            log=parameters.flag("log"),
            page=_page(parameters, MAX_LIST_PAGE),
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
        query_string: Source,
        stored: FamilyConfig,
        algorithms: Sequence[str],
        family: int | None = None,
    ) -> Self:
        parameters = Parameters.given(query_string)
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
            page=_page(parameters, MAX_LIST_PAGE),
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
